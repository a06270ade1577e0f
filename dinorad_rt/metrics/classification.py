"""Classification metrics under any number of weightings at once.

Every function takes `weights` of shape (resamples, samples): a bootstrap resample is a weighting
by how often each sample was drawn, so one sort serves all of them. Ones give the plain metric.
Undefined values are NaN, never 0.
"""

from __future__ import annotations

import numpy as np

Weights = np.ndarray


def weighted_auroc(positive: np.ndarray, score: np.ndarray, weights: Weights) -> np.ndarray:
    """Area under the ROC curve; ties count half (Mann-Whitney).

    Args:
        positive: (samples,) bool.
        score: (samples,), higher means more positive.
        weights: (resamples, samples), not negative.

    Returns:
        (resamples,) float64; NaN where a resample has no positive or no negative.
    """
    order = np.argsort(score, kind="stable")
    groups = tie_starts(score[order])
    sorted_weights = weights[:, order]
    truth = positive[order]
    ups = np.add.reduceat(sorted_weights * truth, groups, axis=1)
    downs = np.add.reduceat(sorted_weights * ~truth, groups, axis=1)
    below = np.cumsum(downs, axis=1) - downs
    pairs = ups.sum(axis=1) * downs.sum(axis=1)
    wins = np.einsum("bg,bg->b", ups, below + 0.5 * downs)
    return ratio(wins, pairs)


def weighted_average_precision(
    positive: np.ndarray, score: np.ndarray, weights: Weights
) -> np.ndarray:
    """Average precision: sum of (recall step) × precision over thresholds, as scikit-learn's.

    Args:
        positive, score, weights: as for `weighted_auroc`.

    Returns:
        (resamples,) float64; NaN where a resample has no positive.
    """
    order = np.argsort(-score, kind="stable")
    groups = tie_starts(score[order])
    sorted_weights = weights[:, order]
    hits = np.add.reduceat(sorted_weights * positive[order], groups, axis=1)
    drawn = np.add.reduceat(sorted_weights, groups, axis=1)
    precision = ratio(np.cumsum(hits, axis=1), np.cumsum(drawn, axis=1))
    return ratio(np.nansum(hits * precision, axis=1), hits.sum(axis=1))


def weighted_recalls(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """Recall of each class that occurs in `truth`.

    Args:
        truth, predicted: (samples,) class indices.
        weights: (resamples, samples).

    Returns:
        (resamples, classes that occur) float64; NaN where a resample lacks the class.
    """
    present = np.unique(truth)
    member = (truth[:, None] == present).astype(np.float64)
    right = member * (truth == predicted)[:, None]
    return ratio(weights @ right, weights @ member)


def weighted_accuracy(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> np.ndarray:
    """Share of samples whose prediction equals the truth (all labels of a row, if 2-D).

    Returns:
        (resamples,) float64.
    """
    same = truth == predicted
    right = same.all(axis=1) if same.ndim == 2 else same
    return ratio(weights @ right.astype(np.float64), weights.sum(axis=1))


def tie_starts(ordered: np.ndarray) -> np.ndarray:
    """Index of the first of each run of equal values."""
    change = np.empty(len(ordered), dtype=bool)
    change[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=change[1:])
    return np.flatnonzero(change)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; NaN where the denominator is zero."""
    empty = denominator == 0
    return np.asarray(
        np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=~empty)
    )
