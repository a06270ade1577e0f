"""Whole volumes for 3-D networks: one grey scale per volume, one spacing for all. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.datasets.grid import grid_of
from dinorad_rt.datasets.masks import read_mask_study
from dinorad_rt.embeddings.decode import WITHOUT_NUMBERS, is_without_numbers
from dinorad_rt.errors import DataError, DinoradError, LabelError, MaskError, ProtocolError
from dinorad_rt.identifiers import reason_of
from dinorad_rt.preprocessing.intensity import grey_map
from dinorad_rt.preprocessing.reference import ReferenceStatistics, grey, luma
from dinorad_rt.preprocessing.resample import Spacing, resample
from dinorad_rt.progress import Progress
from dinorad_rt.studies.read import read_study
from dinorad_rt.training.segmentation.arrays import ArrayStore
from dinorad_rt.training.segmentation.fill import check_labels

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.studies.study import Study


def volume_grey(study: Study, spec: PreprocessSpec) -> np.ndarray:
    """Grey in [0, 1] of a whole volume, (slices, height, width) float32.

    The intensity rule of the spec is applied to all slices at once: one window, or percentiles of
    the volume.

    Raises:
        DataError: intensity `minmax`, which needs a resized slice.
    """
    if spec.intensity == "minmax":
        raise DataError(
            "Intensity 'minmax' is a rule for resized slices.", "Use --preprocessing dinorad."
        )
    pixels = luma(study.pixels) if study.is_colour else study.pixels
    flat = pixels.reshape(-1, pixels.shape[2])
    whole = replace(study, pixels=flat[None])
    mapped, mapping = grey_map(whole, flat, spec, ReferenceStatistics())
    values: np.ndarray = grey(mapped, mapping).astype(np.float32).reshape(pixels.shape)
    return values


def at_spacing(study: Study, spacing: Spacing | None, *, labels: bool = False) -> Study:
    """The study at a spacing; itself without one.

    Raises:
        DataError: the study's own spacing is not known.
    """
    return study if spacing is None else resample(study, spacing, labels=labels)


def scores_at(scores: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Scores (classes, slices, height, width) on another grid of the same field of view: linear."""
    import torch
    import torch.nn.functional as F

    if scores.shape[1:] == shape:
        return scores
    found = F.interpolate(torch.from_numpy(scores)[None], size=shape, mode="trilinear")[0]
    result: np.ndarray = found.numpy()
    return result


def fill_volumes(
    stores: tuple[ArrayStore, ArrayStore],
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    spacing: Spacing | None,
    classes: int,
    *,
    progress: Progress | None = None,
) -> None:
    """Grey volumes (float16) and their masks (uint8), turned as displayed, at one spacing.

    Raises:
        LabelError: a mask holds a label beyond the classes.
        ProtocolError: a sample is one frame of a volume.
    """
    volumes, masks = stores
    wanted = {sample.sample_id: sample for sample in volumes.missing(samples)}
    wanted |= {sample.sample_id: sample for sample in masks.missing(samples)}
    for done, sample in enumerate(wanted.values(), start=1):
        if sample.frame is not None:
            raise ProtocolError(
                "The dataset lists single frames; a 3-D network needs whole volumes.",
                "Take the frame column out, or use a 2-D network: --model unet",
            )
        try:
            study = at_spacing(_with_numbers(read_study(sample.path)).displayed(), spacing)
            mask = at_spacing(read_mask_study(sample).displayed(), spacing, labels=True)
            check_labels(mask.pixels, classes)
            volume = volume_grey(study, spec)
        except (LabelError, MaskError):
            raise
        except DinoradError as error:
            volumes.fail(sample.sample_id, reason_of(error, sample.path))
            continue
        volumes.write(sample.sample_id, volume.astype(np.float16))
        masks.write(sample.sample_id, mask.pixels)
        if progress is not None:
            progress(done, len(wanted))


def _with_numbers(study: Study) -> Study:
    if is_without_numbers(study.pixels):
        raise DataError(f"{WITHOUT_NUMBERS}.".capitalize(), "Take the volume out.")
    return study


def side_axis(sample: Sample) -> int | None:
    """Spatial axis (0 slices, 1 rows, 2 columns) between the patient's sides; None if unknown."""
    study = read_study(sample.path)
    if study.orientation is None:
        return None
    return int(np.argmax(np.abs(study.orientation[0])))


def spacing_notes(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Says so if the spacings of training volumes differ much: a 3-D network sees voxels only."""
    found = []
    for sample in samples:
        affine = grid_of(sample.path).affine
        if affine is None:
            return ()
        found.append(np.linalg.norm(affine[:3, :3], axis=0))
    low, high = np.min(found, axis=0), np.max(found, axis=0)
    if (high <= 1.1 * low).all():
        return ()
    middle = ",".join(f"{step:.3g}" for step in np.median(found, axis=0))
    return (
        f"Voxels of the training volumes measure from {_mm(low)} to {_mm(high)} mm (slice, row, "
        f"column); --spacing {middle} would bring all to one size.",
    )


def _mm(steps: np.ndarray) -> str:
    return " x ".join(f"{step:.3g}" for step in steps)
