"""The task gate of segmenters: does an engine give the same Dice as PyTorch?

Both segment the validation volumes; `engines.task_gate` judges the Dice and the equal voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.engines.mask_gate import SegmentationGate, judge_masks
from dinorad_rt.errors import EmptyDataError
from dinorad_rt.metrics.segmentation import case_scores
from dinorad_rt.training.segmentation.evaluate import segment_group, volumes_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.training.segmentation.predict import AnySegmenter


def gate_on_validation(
    engine: AnySegmenter, reference: AnySegmenter, dataset: Dataset, *, seed: int = 0
) -> SegmentationGate:
    """Compare two segmenters on the validation split; slices of one series are one volume.

    Raises:
        EmptyDataError: no validation image, or none that can be read.
        LabelError, MaskError: a mask that fits neither the classes nor its image.
    """
    samples, classes = dataset.of_split("val"), len(dataset.class_names)
    failed: dict[str, str] = {}
    dice, voxels, owners = [], [], []
    for group in volumes_of(samples):
        found = segment_group((reference, engine), group, failed)
        if found is not None:
            truth, (wanted, given), _ = found
            dice.append([_dice(truth, mask, classes) for mask in (wanted, given)])
            voxels.append([int((wanted == given).sum()), truth.size])
            owners.append(group[0].patient)
    if not dice:
        raise EmptyDataError(
            f"{dataset.name} has no validation image that can be read for the task gate"
            + (f": {next(iter(failed.values()))}" if failed else "."),
            "Give the data that the run was trained on, with val in its split column.",
        )
    return judge_masks(
        np.asarray(dice, float), np.asarray(voxels), owners, unreadable=len(failed), seed=seed
    )


def _dice(truth: np.ndarray, mask: np.ndarray, classes: int) -> float:
    """Mean over the foreground classes that are there; NaN if none is."""
    found = case_scores(truth, mask, classes, surfaces=False).dice
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")
