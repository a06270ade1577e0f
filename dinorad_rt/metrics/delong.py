"""AUROC with the variance of DeLong, and paired comparison of models on the same images.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837; midranks as in Sun and Xu, IEEE
Signal Processing Letters 21 (2014) 1389: one sort per model. With several images per patient the
placements are summed within patients (Obuchowski, Biometrics 53 (1997) 567); with one image each
that is DeLong's own formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorad_rt.errors import LabelError


@dataclass(frozen=True)
class AurocEstimate:
    """AUROC with a normal interval, cut at 0 and 1.

    Attributes:
        value: the AUROC.
        standard_error: of it; 0 when positives and negatives are separated.
        low, high: ends of the interval.
    """

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class AurocComparison:
    """Two models on the same images.

    Attributes:
        first, second: their AUROCs.
        difference: second minus first.
        standard_error: of the difference, which respects that the images are the same.
        low, high: ends of its interval.
        p_value: two-sided, of no difference; NaN where the standard error is 0 and the
            difference is not.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float


def delong(
    positive: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs of models on the same images, and their covariance.

    Args:
        positive: (samples,) bool.
        scores: (models, samples), higher means more positive.
        patients: (samples,) key of each sample's patient; None makes every image its own.

    Returns:
        AUROCs (models,) and covariance (models, models).

    Raises:
        LabelError: fewer than two patients with positive, or with negative, images.
    """
    positive = np.asarray(positive, dtype=bool)
    keys = np.arange(len(positive)) if patients is None else patients
    index = np.unique(keys, return_inverse=True)[1]
    m, n = int(positive.sum()), int((~positive).sum())
    _check(index, positive)
    ranks = np.stack([midranks(row) for row in scores])
    above = (ranks[:, positive] - _within(scores[:, positive])) / n
    below = 1 - (ranks[:, ~positive] - _within(scores[:, ~positive])) / m
    auroc = above.mean(axis=1)
    by_positive = _centred_sums(above, auroc, index[positive], int(index.max()) + 1)
    by_negative = _centred_sums(below, auroc, index[~positive], int(index.max()) + 1)
    first = _unbiased(by_positive, by_positive, len(np.unique(index[positive]))) / m**2
    second = _unbiased(by_negative, by_negative, len(np.unique(index[~positive]))) / n**2
    crossed = _unbiased(by_positive, by_negative, len(np.unique(index))) / (m * n)
    return auroc, first + second + crossed + crossed.T


def auroc_interval(
    positive: np.ndarray,
    score: np.ndarray,
    patients: np.ndarray | None = None,
    *,
    level: float = 0.95,
) -> AurocEstimate:
    """AUROC with its normal interval, by patient if patients are given.

    Args:
        positive: (samples,) bool.
        score: (samples,).
        patients: (samples,) key of each sample's patient.
        level: of the interval, between 0 and 1.

    Raises:
        LabelError: as `delong`.
    """
    auroc, covariance = delong(positive, score[None], patients)
    value, error = float(auroc[0]), _root(covariance[0, 0])
    reach = quantile(level) * error
    return AurocEstimate(value, error, max(0.0, value - reach), min(1.0, value + reach))


def compare_auroc(
    positive: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    patients: np.ndarray | None = None,
    *,
    level: float = 0.95,
) -> AurocComparison:
    """Is the AUROC of `second` another than that of `first` on the same images?

    Args:
        positive: (samples,) bool.
        first, second: (samples,) scores of the two models.
        patients: (samples,) key of each sample's patient.
        level: of the interval, between 0 and 1.

    Raises:
        LabelError: as `delong`.
    """
    auroc, covariance = delong(positive, np.stack([first, second]), patients)
    difference = float(auroc[1] - auroc[0])
    error = _root(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    reach = quantile(level) * error
    return AurocComparison(
        first=float(auroc[0]),
        second=float(auroc[1]),
        difference=difference,
        standard_error=error,
        low=difference - reach,
        high=difference + reach,
        p_value=two_sided(difference, error),
    )


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs. (samples,) → (samples,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def quantile(level: float) -> float:
    """How many standard errors a two-sided normal interval reaches: 1.96 for 0.95."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)


def two_sided(difference: float, error: float) -> float:
    """Normal two-sided p-value; 1 for no difference at all, NaN for a difference without error."""
    from statistics import NormalDist

    if error == 0:
        return 1.0 if difference == 0 else float("nan")
    return 2 * NormalDist().cdf(-abs(difference) / error)


def _within(scores: np.ndarray) -> np.ndarray:
    return np.stack([midranks(row) for row in scores])


def _centred_sums(
    placements: np.ndarray, auroc: np.ndarray, index: np.ndarray, patients: int
) -> np.ndarray:
    """Sum of (placement - AUROC) per patient: (models, patients)."""
    centred = placements - auroc[:, None]
    return np.stack([np.bincount(index, weights=row, minlength=patients) for row in centred])


def _unbiased(left: np.ndarray, right: np.ndarray, groups: int) -> np.ndarray:
    return np.asarray(groups / (groups - 1) * (left @ right.T))


def _root(variance: float) -> float:
    """Square root of a variance that rounding may have made a little negative."""
    return float(np.sqrt(variance)) if variance > 1e-15 else 0.0


def _check(index: np.ndarray, positive: np.ndarray) -> None:
    groups = (len(np.unique(index[positive])), len(np.unique(index[~positive])))
    if min(groups) < 2:
        raise LabelError(
            f"DeLong's variance needs two patients with positive and two with negative images; "
            f"there are {groups[0]} and {groups[1]}.",
            "Use a larger test split.",
        )
