"""From scores to decisions, and how far scores are from being probabilities."""

from __future__ import annotations

import numpy as np

from dinorad_rt.types import Task

CALIBRATION_BINS = 15


def predicted_labels(scores: np.ndarray, task: Task) -> np.ndarray:
    """Class index with the highest score, or for multi-label 0/1 at a threshold of 0.5."""
    if task == "multilabel":
        return (scores >= 0.5).astype(np.int64)
    return np.asarray(scores.argmax(axis=1))


def calibration_gaps(
    confidence: np.ndarray, right: np.ndarray, bins: int = CALIBRATION_BINS
) -> np.ndarray:
    """Confidence minus outcome in the bin that each sample falls into, else 0.

    Args:
        confidence: (samples,) in [0, 1]: of the predicted class, or of the positive one.
        right: (samples,) bool: prediction right, or image positive.
        bins: of equal width; a value on an edge belongs to the upper one.

    Returns:
        (samples, bins) float64.
    """
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    member = (index[:, None] == np.arange(bins)).astype(np.float64)
    return np.asarray(member * (confidence - right)[:, None])
