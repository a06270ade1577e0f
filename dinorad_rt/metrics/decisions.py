"""Metrics of decisions and of probabilities, under any number of weightings at once.

Arguments and undefined values as in `classification`: `weights` is (resamples, samples).
"""

from __future__ import annotations

import numpy as np

from dinorad_rt.metrics.classification import Weights, ratio, tie_starts, weighted_auroc
from dinorad_rt.types import Task

CALIBRATION_BINS = 15


def predicted_labels(scores: np.ndarray, task: Task) -> np.ndarray:
    """Class index with the highest score, or for multi-label 0/1 at a threshold of 0.5."""
    if task == "multilabel":
        return (scores >= 0.5).astype(np.int64)
    return np.asarray(scores.argmax(axis=1))


def weighted_f1(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """F1 of each label: twice the hits over predicted plus true positives.

    Args:
        truth, predicted: (samples, labels) 0/1; for classes, one column each.
        weights: (resamples, samples).

    Returns:
        (resamples, labels) float64; NaN where a label is neither true nor predicted.
    """
    true, guess = truth.astype(np.float64), predicted.astype(np.float64)
    return ratio(2 * (weights @ (true * guess)), weights @ (true + guess))


def weighted_sensitivity_at(
    positive: np.ndarray, score: np.ndarray, weights: Weights, *, specificity: float
) -> np.ndarray:
    """Highest sensitivity among the thresholds whose specificity is at least the asked one.

    The threshold is chosen on the images that it is judged on, so the value is optimistic: it
    describes the ROC curve, not a deployed threshold.

    Args:
        positive: (samples,) bool.
        score: (samples,), higher means more positive.
        weights: (resamples, samples).
        specificity: between 0 and 1.

    Returns:
        (resamples,) float64; NaN without positives or negatives.
    """
    order = np.argsort(-score, kind="stable")
    groups = tie_starts(score[order])
    drawn, truth = weights[:, order], positive[order]
    found = np.cumsum(np.add.reduceat(drawn * truth, groups, axis=1), axis=1)
    alarms = np.cumsum(np.add.reduceat(drawn * ~truth, groups, axis=1), axis=1)
    allowed = (1 - specificity) * alarms[:, -1:] + 1e-9
    best = np.where(alarms <= allowed, found, 0.0).max(axis=1)
    return np.where(alarms[:, -1] > 0, ratio(best, found[:, -1]), np.nan)


def weighted_micro_auroc(hot: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """AUROC over all (image, class) pairs together.

    Args:
        hot: (samples, classes) bool.
        scores: (samples, classes), comparable between classes.
        weights: (resamples, samples).
    """
    return weighted_auroc(
        hot.ravel().astype(bool), scores.ravel(), np.repeat(weights, hot.shape[1], axis=1)
    )


def weighted_brier(hot: np.ndarray, scores: np.ndarray, weights: Weights) -> np.ndarray:
    """Mean squared distance between probabilities and truth (Brier, 1950), summed over classes.

    Args:
        hot, scores: (samples, classes); for a binary task give the positive class's column alone,
            and the value is the usual one between 0 and 1.
        weights: (resamples, samples).
    """
    squared = ((scores - hot) ** 2).sum(axis=1)
    return ratio(weights @ squared, weights.sum(axis=1))


def weighted_calibration_error(
    confidence: np.ndarray, right: np.ndarray, weights: Weights, *, bins: int = CALIBRATION_BINS
) -> np.ndarray:
    """Expected calibration error over bins of equal width (Guo et al., arXiv 1706.04599).

    Args:
        confidence: (samples,) in [0, 1]: of the predicted class, or of the positive one.
        right: (samples,) bool: prediction right, or image positive.
        weights: (resamples, samples).
        bins: number of bins; a value on an edge belongs to the upper one.
    """
    gap = weights @ calibration_gaps(confidence, right, bins)
    return ratio(np.abs(gap).sum(axis=1), weights.sum(axis=1))


def calibration_gaps(
    confidence: np.ndarray, right: np.ndarray, bins: int = CALIBRATION_BINS
) -> np.ndarray:
    """(samples, bins): confidence minus outcome in the bin that a sample falls into, else 0."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    member = (index[:, None] == np.arange(bins)).astype(np.float64)
    return np.asarray(member * (confidence - right)[:, None])
