"""Intervals by patient: images of one patient are drawn together or not at all.

Cluster bootstrap with percentile intervals (Efron and Tibshirani, An Introduction to the
Bootstrap, chapters 8 and 13). Drawing images instead of patients would pretend that two images of
one patient are independent, and give intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.progress import Progress, uncounted

RESAMPLES = 10_000
FEW_PATIENTS = 30
LEVEL = 0.95
_CHUNK_VALUES = 300_000  # small enough for the cache: 2.5 × faster than 4 million

Metric = Callable[[np.ndarray], np.ndarray]
"""Weights (resamples, samples) → values (resamples,)."""

CountMetric = Callable[[np.ndarray], np.ndarray]
"""Counts (resamples, patients), how often each patient was drawn → values (metrics, resamples)."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval.

    Attributes:
        value: on the samples as they are; NaN if undefined.
        low, high: ends of the 95 % interval; NaN if undefined.
        resamples: resamples that were drawn.
        undefined: resamples in which the metric has no value; they are left out of the interval.
    """

    value: float
    low: float
    high: float
    resamples: int
    undefined: int


def cluster_bootstrap(
    metrics: dict[str, Metric],
    patients: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Values and 95 % percentile intervals of metrics, all on the same resamples of patients.

    Args:
        metrics: name → function of weights.
        patients: (samples,) key of each sample's patient.
        resamples: number of resamples.
        seed: same seed, same interval, to the bit.
    """
    index = by_appearance(patients).index

    def measure(counts: np.ndarray) -> np.ndarray:
        weights = counts[:, index].astype(np.float64)
        return np.stack([metric(weights) for metric in metrics.values()])

    estimates = bootstrap_patients(
        measure, int(index.max()) + 1, resamples=resamples, seed=seed, width=len(patients)
    )
    return dict(zip(metrics, estimates, strict=True))


def bootstrap_patients(
    metric: CountMetric,
    patients: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    width: int | None = None,
) -> list[Estimate]:
    """Values and 95 % percentile intervals of metrics that take counts of patients.

    Args:
        metric: gives a row of values for each metric; see `by_patient` for the usual ones.
        patients: number of patients; counts have one column for each.
        resamples: number of resamples.
        seed: same seed, same interval, to the bit.
        width: values that the metric holds per resample; bounds the memory of a chunk.
    """
    once, draws = bootstrap_draws(metric, patients, resamples=resamples, seed=seed, width=width)
    return [estimate(float(value), row) for value, row in zip(once, draws, strict=True)]


def bootstrap_draws(
    metric: CountMetric,
    patients: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    width: int | None = None,
    progress: Progress = uncounted,
) -> tuple[np.ndarray, np.ndarray]:
    """Values (metrics,) on the samples as they are, and (metrics, resamples) on the resamples.

    A single patient tells nothing of others: no resamples are drawn, and the interval is undefined.

    Args: as `bootstrap_patients`; `progress` is called with (done, total) resamples.
    """
    once = metric(np.ones((1, patients), dtype=np.int64))
    if patients == 1:
        return once[:, 0], once[:, :0]
    draws: list[np.ndarray] = []
    done = 0
    for counts in patient_counts(patients, resamples=resamples, seed=seed, width=width):
        draws.append(metric(counts))
        done += len(counts)
        progress(done, resamples)
    return once[:, 0], np.concatenate(draws, axis=1)


def few_patients_notes(patients: int) -> list[str]:
    """What must be said of intervals that rest on so few test patients; nothing for enough."""
    if patients >= FEW_PATIENTS:
        return []
    if patients == 1:
        return ["1 test patient: no interval by patient can be given."]
    return [f"{patients} test patients: bootstrap intervals of so few tend to be too narrow."]


def mean_of_repeats(values: np.ndarray, draws: np.ndarray, *, seed: int = 0) -> list[Estimate]:
    """Means over repeats of a protocol, with intervals that cover patients and repeats.

    Each resample of patients also draws the repeats with replacement.

    Args:
        values: (repeats, metrics).
        draws: (repeats, metrics, resamples), all on the same resamples of patients.
        seed: same seed, same interval.
    """
    repeats, _, resamples = draws.shape
    chosen = np.random.default_rng([seed, repeats]).integers(repeats, size=(repeats, resamples))
    means = np.zeros(draws.shape[1:])
    for row in chosen:
        means += draws[row, :, np.arange(resamples)].T
    means /= repeats
    return [
        estimate(float(value), row) for value, row in zip(values.mean(axis=0), means, strict=True)
    ]


def patient_counts(
    patients: int, *, resamples: int, seed: int, width: int | None = None
) -> Iterator[np.ndarray]:
    """How often each patient is drawn, when patients are drawn with replacement.

    Yields:
        (some resamples, patients) int64 arrays, `resamples` rows in all. The draws do not depend
        on how they are cut.
    """
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // max(width or patients, patients, 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        draws = random.integers(patients, size=(size, patients))
        draws += np.arange(size)[:, None] * patients
        yield np.bincount(draws.ravel(), minlength=size * patients).reshape(size, patients)


def patient_weights(patients: np.ndarray, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """`patient_counts` as weights of samples: those of one patient share its count.

    Args:
        patients: (samples,) key of each sample's patient.

    Yields:
        (some resamples, samples) float64 arrays of bounded size, `resamples` rows in all.
    """
    index = by_appearance(patients).index
    for counts in patient_counts(
        int(index.max()) + 1, resamples=resamples, seed=seed, width=len(patients)
    ):
        yield counts[:, index].astype(np.float64)


def estimate(value: float, values: np.ndarray) -> Estimate:
    """A value with the percentile interval of its draws; NaN draws are left out and counted."""
    defined = values[~np.isnan(values)]
    low = high = float("nan")
    if len(defined) and not np.isnan(value):
        tail = 100 * (1 - LEVEL) / 2
        low, high = (float(end) for end in np.percentile(defined, [tail, 100 - tail]))
    return Estimate(value, low, high, len(values), len(values) - len(defined))
