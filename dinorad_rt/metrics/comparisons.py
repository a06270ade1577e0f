"""Paired comparison of models on the same patients, for any metric.

paired_bootstrap   difference with its interval: patients are drawn, both models see the same
permutation_test   p-value of no difference: the models are swapped patient by patient
holm               p-values of many comparisons
equivalence_test   is the difference surely inside a margin? (two one-sided tests)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.by_patient import AurocByPatient
from dinorad_rt.metrics.classification import ratio
from dinorad_rt.metrics.delong import midranks
from dinorad_rt.metrics.intervals import LEVEL, RESAMPLES, CountMetric, bootstrap_draws

SwapStatistic = Callable[[np.ndarray], np.ndarray]
"""Which samples are swapped (permutations, samples) bool → differences (permutations,)."""

Drawn = tuple[np.ndarray, np.ndarray]
"""What `bootstrap_draws` gives: values (metrics,) and draws (metrics, resamples)."""

_CHUNK_VALUES = 2_000_000
_TINY = 1e-12


@dataclass(frozen=True)
class Difference:
    """Second model minus first.

    Attributes:
        value: on the samples as they are.
        low, high: ends of the 95 % percentile interval; NaN if undefined.
        p_value: two-sided bootstrap p-value of no difference.
        undefined: resamples in which it has no value.
        draws: differences of the resamples, NaN where undefined.
    """

    value: float
    low: float
    high: float
    p_value: float
    undefined: int
    draws: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Equivalence:
    """Whether a difference lies inside ± margin.

    Attributes:
        margin: the largest difference that does not matter, in units of the metric.
        low, high: the 1 - 2 alpha interval; equivalent means that it lies inside the margin.
        p_value: the larger one of the two one-sided tests.
        equivalent: p-value below alpha.
    """

    margin: float
    low: float
    high: float
    p_value: float
    equivalent: bool


def paired_bootstrap(
    first: CountMetric,
    second: CountMetric,
    patients: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    width: int | None = None,
) -> list[Difference]:
    """Differences of each metric of two models, on the same resamples of patients.

    Args:
        first, second: counts (resamples, patients) → values (metrics, resamples); see `by_patient`.
        patients: number of patients.
        resamples, seed, width: as for `intervals.bootstrap_patients`.
    """
    return _differences(
        *bootstrap_draws(
            lambda counts: second(counts) - first(counts),
            patients,
            resamples=resamples,
            seed=seed,
            width=width,
        )
    )


def paired_differences(first: Drawn, second: Drawn) -> list[Difference]:
    """Differences of each metric of two models from what `bootstrap_draws` gave of each.

    Args:
        first, second: values (metrics,) and draws (metrics, resamples), of one seed and the same
            patients: then both models saw the same resamples.
    """
    return _differences(second[0] - first[0], second[1] - first[1])


def permutation_test(
    statistic: SwapStatistic,
    patients: np.ndarray,
    *,
    permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of no difference: the two models are swapped for whole patients.

    With so few patients that every swap can be tried, all are, and the p-value is exact.

    Args:
        statistic: difference of the models under swaps; see `auroc_swap` and `mean_swap`.
        patients: (samples,) key of each sample's patient.
        permutations: number of random swaps.
        seed: same seed, same p-value.
    """
    groups = by_appearance(patients)
    count, index = len(groups), groups.index
    observed = abs(float(statistic(np.zeros((1, len(index)), dtype=bool))[0]))
    exact = count < 31 and 2**count <= permutations
    total = 2**count if exact else permutations
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // max(len(index), 1))
    extreme = 0
    for start in range(0, total, rows):
        size = min(rows, total - start)
        if exact:
            numbers = np.arange(start, start + size)[:, None]
            swapped = (numbers >> np.arange(count)) & 1
        else:
            swapped = random.integers(2, size=(size, count))
        values = np.abs(statistic(swapped[:, index].astype(bool)))
        extreme += int((values >= observed - _TINY).sum())
    return extreme / total if exact else (extreme + 1) / (total + 1)


def auroc_swap(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> SwapStatistic:
    """Difference of AUROCs under swaps; scores become ranks, so that models are comparable.

    The scores of both models are sorted once: a swap draws each sample's score of one of them.

    Args:
        positive: (samples,) bool.
        first, second: (samples,) scores of the two models.
    """
    ranks = np.concatenate([midranks(first), midranks(second)])
    places = np.arange(len(ranks))
    auroc = AurocByPatient(np.tile(positive, 2), ranks, places, len(ranks))

    def statistic(swapped: np.ndarray) -> np.ndarray:
        kept = ~swapped
        left, right = np.hstack([kept, swapped]), np.hstack([swapped, kept])
        return np.asarray(auroc(right)[0] - auroc(left)[0])

    return statistic


def mean_swap(first: np.ndarray, second: np.ndarray) -> SwapStatistic:
    """Difference of means under swaps, such as of correct (1) and wrong (0) predictions.

    Args:
        first, second: (samples,) values of the two models; NaN where a sample has none: each
            mean is over the samples that have one.
    """
    values = np.stack([np.asarray(part, float) for part in (first, second)])
    defined = ~np.isnan(values)
    values = np.where(defined, values, 0.0)
    moved = np.stack([values[1] - values[0], defined[1] * 1.0 - defined[0]], axis=1)
    sums, sizes = values.sum(axis=1), defined.sum(axis=1)

    def statistic(swapped: np.ndarray) -> np.ndarray:
        value, size = (swapped.astype(float) @ moved).T
        left = ratio(sums[0] + value, sizes[0] + size)
        return np.asarray(ratio(sums[1] - value, sizes[1] - size) - left)

    return statistic


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values adjusted for their number (Holm, Scand. J. Statist. 6 (1979) 65).

    NaN, a comparison without p-value, stays NaN and still counts: it was looked at.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)  # NaN last
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def equivalence_test(draws: np.ndarray, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Two one-sided tests (Schuirmann, 1987) on the bootstrap draws of a difference.

    Args:
        draws: `Difference.draws`.
        margin: above 0, in units of the metric.
        alpha: level of each one-sided test.

    Raises:
        ProtocolError: the margin is not above 0, or no draw is defined.
    """
    defined = draws[~np.isnan(draws)]
    if not margin > 0 or not len(defined):
        raise ProtocolError(
            f"An equivalence test needs a margin above 0 and defined draws; got {margin} and "
            f"{len(defined)}.",
            "Choose the largest difference that does not matter, such as 0.02 AUROC.",
        )
    low, high = (float(end) for end in np.percentile(defined, [100 * alpha, 100 * (1 - alpha)]))
    tails = (defined <= -margin).sum(), (defined >= margin).sum()
    p_value = (1 + int(max(tails))) / (1 + len(defined))
    return Equivalence(margin, low, high, p_value, p_value < alpha)


def _differences(values: np.ndarray, draws: np.ndarray) -> list[Difference]:
    return [_difference(float(value), row) for value, row in zip(values, draws, strict=True)]


def _difference(value: float, draws: np.ndarray) -> Difference:
    defined = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(defined):
        nan = float("nan")
        return Difference(value, nan, nan, nan, len(draws) - len(defined), draws)
    tail = 100 * (1 - LEVEL) / 2
    low, high = (float(end) for end in np.percentile(defined, [tail, 100 - tail]))
    one_sided = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    p_value = min(1.0, 2 * (1 + one_sided) / (1 + len(defined)))
    return Difference(value, low, high, p_value, len(draws) - len(defined), draws)
