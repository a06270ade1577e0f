"""`segment_study`: any study → class indices on its own grid.

study ─► as displayed ─► slices on the network's grid ─► scores ─► back to the slices ─► labels
                      └► one grey volume ─► patches ─► scores ─► back to the volume ─► labels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.files import atomic_path
from dinorad_rt.optional import require
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.segmentation.grid import scores_to_study

if TYPE_CHECKING:
    from torch import nn

    from dinorad_rt.runners.base import AbstractRunner
    from dinorad_rt.studies.study import Study

ROWS = 8
LOGITS = "logits"
"""Output of an exported segmentation graph: (batch, classes, H, W) float32."""

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SliceSegmenter:
    """Segments a volume slice by slice.

    Attributes:
        spec: preprocessing of a slice.
        classes: with the background.
        scores: (n, 3, size, size) float32 → (n, classes, size, size) float32, higher is likelier.
    """

    spec: PreprocessSpec
    classes: int
    scores: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class VolumeSegmenter:
    """Segments a volume as a whole.

    Attributes:
        spec: intensity rule of the volume; its image size is of no meaning.
        classes: with the background.
        scores: (slices, height, width) float32 grey → (classes, slices, height, width) float32.
        spacing: that the network was trained at; None for the files' own.
    """

    spec: PreprocessSpec
    classes: int
    scores: Callable[[np.ndarray], np.ndarray]
    spacing: tuple[float, float, float] | None = None


AnySegmenter: TypeAlias = SliceSegmenter | VolumeSegmenter


def segment_study(segmenter: AnySegmenter, study: Study) -> np.ndarray:
    """Segment a study.

    Args:
        segmenter: of slices or of volumes.
        study: as `read_study` gives it.

    Returns:
        (slices, height, width) uint8 class indices on the study's grid, 0 = background.

    Raises:
        DataError: pixels that the preprocessing cannot take.
    """
    shown = study.displayed()
    if isinstance(segmenter, VolumeSegmenter):
        mask = _whole(segmenter, shown)
    else:
        mask = _by_slices(segmenter, shown)
    return turned_back(mask, study)


def turned_back(mask: np.ndarray, study: Study) -> np.ndarray:
    """A mask on the grid of `study.displayed()` → on the grid of the study itself."""
    shown = study.displayed()
    if study.orientation is None or shown.orientation is None:
        return mask
    same = np.sum(study.orientation * shown.orientation, axis=0) > 0
    steps = tuple(slice(None) if keep else slice(None, None, -1) for keep in same)
    return np.ascontiguousarray(mask[steps])


def _by_slices(segmenter: SliceSegmenter, shown: Study) -> np.ndarray:
    spec = segmenter.spec
    preprocess = Preprocessor(spec)
    height, width = shown.pixels.shape[1:3]
    mask = np.empty((shown.num_slices, height, width), np.uint8)
    for start in range(0, shown.num_slices, ROWS):
        indexes = range(start, min(start + ROWS, shown.num_slices))
        pixels = np.stack([preprocess(shown.slice(index)) for index in indexes])
        for index, scores in zip(indexes, segmenter.scores(pixels), strict=True):
            mask[index] = scores_to_study(scores, (height, width), spec).argmax(axis=0)
    return mask


def _whole(segmenter: VolumeSegmenter, shown: Study) -> np.ndarray:
    from dinorad_rt.training.segmentation.volumes import resample, resampled_shape, volume_grey

    shape = resampled_shape(shown, segmenter.spacing)
    scores = segmenter.scores(resample(volume_grey(shown, segmenter.spec), shape))
    mask: np.ndarray = resample(scores, shown.pixels.shape[:3]).argmax(axis=0).astype(np.uint8)
    return mask


def module_segmenter(
    module: nn.Module, spec: PreprocessSpec, classes: int, *, device: str = "cpu"
) -> SliceSegmenter:
    """A PyTorch module from normalised pixels to logits, in eval mode."""
    import torch

    module = module.to(device).eval()

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        found = module(torch.from_numpy(pixels).to(device))
        array: np.ndarray = found.float().cpu().numpy()
        return array

    return SliceSegmenter(spec, classes, scores)


def runner_segmenter(
    runner: AbstractRunner,
    spec: PreprocessSpec,
    classes: int,
    decoder: nn.Module | None = None,
    *,
    device: str = "cpu",
) -> SliceSegmenter:
    """An open engine: of encoder and decoder, or of the encoder with the decoder in PyTorch.

    Args:
        runner: gives `logits`, or, with a decoder, `patch_tokens`.
        spec: preprocessing of the engine's size.
        classes: with the background.
        decoder: tokens → logits.
        device: of the decoder.
    """
    if decoder is None:
        return SliceSegmenter(spec, classes, lambda pixels: runner.infer(pixels)[LOGITS])
    import torch

    module = decoder.to(device).eval()

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(runner.infer(pixels)["patch_tokens"]).to(device)
        array: np.ndarray = module(tokens).float().cpu().numpy()
        return array

    return SliceSegmenter(spec, classes, scores)


def volume_segmenter(
    module: nn.Module,
    spec: PreprocessSpec,
    classes: int,
    patch: tuple[int, int, int],
    spacing: tuple[float, float, float] | None = None,
    *,
    device: str = "cpu",
) -> VolumeSegmenter:
    """A 3-D network by sliding windows."""
    import torch

    from dinorad_rt.training.segmentation.jobs import sliding_logits

    module = module.to(device).eval()

    @torch.inference_mode()
    def scores(volume: np.ndarray) -> np.ndarray:
        grey = torch.from_numpy(volume)[None, None].to(device)
        array: np.ndarray = sliding_logits(module, grey, patch)[0].float().cpu().numpy()
        return array

    return VolumeSegmenter(spec, classes, scores, spacing)


def write_nifti_mask(
    mask: np.ndarray, study: Study, target: Path, source: Path | None = None
) -> None:
    """Write a mask as NIfTI on the grid of its image.

    Args:
        mask: (slices, height, width) uint8 on the study's grid.
        study: as `read_study` gave it.
        target: .nii or .nii.gz.
        source: the image's own NIfTI file: the mask gets its very axes and affine. Without one
            (DICOM, PNG) the study's affine is written; the identity where it has none.

    Raises:
        DataError: mask and study differ in shape.
    """
    nibabel = require("nibabel", "writing NIfTI")
    if mask.shape != study.pixels.shape[:3]:
        raise DataError(f"The mask has shape {mask.shape}, the study {study.pixels.shape[:3]}.")
    data = np.moveaxis(mask, (0, 1, 2), (2, 1, 0))
    affine = _ras_affine(study)
    if source is not None:
        orientations = nibabel.orientations
        own = nibabel.load(source)
        found = orientations.io_orientation(own.affine)
        ras = orientations.axcodes2ornt("RAS")
        data = orientations.apply_orientation(data, orientations.ornt_transform(ras, found))
        affine = own.affine
    suffix = "".join(target.suffixes[-2:]) if target.name.endswith(".gz") else target.suffix
    image = nibabel.Nifti1Image(np.ascontiguousarray(data).astype(np.uint8), affine)
    with atomic_path(target) as part:
        named = part.with_name(part.name + suffix)
        try:
            nibabel.save(image, named)
            named.replace(part)
        finally:
            named.unlink(missing_ok=True)


def _ras_affine(study: Study) -> np.ndarray:
    """(column, row, slice) → RAS millimetres."""
    found = study.affine()
    if found is None:
        return np.eye(4)
    affine = np.eye(4)
    affine[:3, :3] = _RAS_TO_LPS @ found[:3, 2::-1]
    affine[:3, 3] = _RAS_TO_LPS @ found[:3, 3]
    return affine
