"""Masks of items through an engine, in each study's own grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.embeddings.decode import Bad, Decoder
from dinorad_rt.errors import DataError, EngineError
from dinorad_rt.identifiers import reason_of
from dinorad_rt.prediction.bundle import LOGITS, Bundle
from dinorad_rt.prediction.inputs import Item
from dinorad_rt.studies.study import Study
from dinorad_rt.training.segmentation.grid import in_plane, scores_to_study, undisplayed

if TYPE_CHECKING:
    from dinorad_rt.runners.base import AbstractRunner


def segment(bundle: Bundle, runner: AbstractRunner, item: Item, study: Study) -> np.ndarray | Bad:
    """The mask of one study.

    Args:
        bundle: a segmentation.
        runner: of an engine of the bundle's graph, active.
        item: what the study was read from.
        study: in the file's own orientation.

    Returns:
        (slices, height, width) uint8 class indices in that orientation, or why a slice cannot be
        preprocessed.

    Raises:
        EngineError: scores are NaN or infinite.
    """
    if len(runner.input_shape) == 4:
        return _whole(bundle, runner, item, study)
    decoder, spec = Decoder(bundle.preprocessing), bundle.preprocessing
    shown = study.displayed()
    shape = shown.pixels.shape[1:3]
    mask = np.zeros((shown.num_slices, *shape), np.uint8)
    for start in range(0, shown.num_slices, runner.batch):
        span = range(start, min(start + runner.batch, shown.num_slices))
        images = [decoder.image(shown.slice(index), item.files[0]) for index in span]
        bad = next((image for image in images if isinstance(image, Bad)), None)
        if bad is not None:
            return bad
        pixels = np.stack([image.pixels for image in images if not isinstance(image, Bad)])
        for index, scores in zip(span, runner.infer(pixels)[LOGITS], strict=True):
            _check_finite(scores)
            mask[index] = scores_to_study(scores, shape, spec, in_plane(shown)).argmax(axis=0)
    return undisplayed(mask, study)


def _whole(bundle: Bundle, runner: AbstractRunner, item: Item, study: Study) -> np.ndarray | Bad:
    """By a 3-D network, patch by patch."""
    from dinorad_rt.training.segmentation.predict import patch_segmenter, segment_study

    spacing = bundle.graph.manifest.get("spacing")
    segmenter = patch_segmenter(runner, bundle.preprocessing, len(bundle.class_names), spacing)

    def scores(volume: np.ndarray) -> np.ndarray:
        found = segmenter.scores(volume)
        _check_finite(found)
        return found

    try:
        return segment_study(replace(segmenter, scores=scores), study)
    except DataError as error:
        return Bad(reason_of(error, item.files[0]))


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise EngineError(
            "The engine gave NaN or infinite scores; no mask is written.",
            "Build the engine in a wider precision: --precision fp32, or bf16.",
        )


def volumes_ml(mask: np.ndarray, study: Study, classes: int) -> np.ndarray:
    """Volume of each foreground class in millilitres, (classes - 1,); NaN without spacing."""
    if study.spacing is None or not np.isfinite(study.spacing).all():
        return np.full(classes - 1, np.nan)
    voxels = np.bincount(mask.ravel(), minlength=classes)[1:classes]
    volumes: np.ndarray = voxels * float(np.prod(study.spacing)) / 1000.0
    return volumes
