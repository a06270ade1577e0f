"""Intervals by patient: images of one patient are drawn together or not at all.

Cluster bootstrap with percentile intervals (Efron and Tibshirani, An Introduction to the
Bootstrap, chapters 8 and 13). Drawing images instead of patients would pretend that two images of
one patient are independent, and give intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
_CHUNK_VALUES = 4_000_000

Metric = Callable[[np.ndarray], np.ndarray]
"""Weights (resamples, samples) → values (resamples,)."""


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
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for weights in patient_weights(patients, resamples=resamples, seed=seed):
        for name, metric in metrics.items():
            drawn[name].append(metric(weights))
    once = np.ones((1, len(patients)))
    return {
        name: _estimate(float(metric(once)[0]), np.concatenate(drawn[name]))
        for name, metric in metrics.items()
    }


def patient_weights(patients: np.ndarray, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each sample is drawn, when patients are drawn with replacement.

    Yields:
        (some resamples, samples) float64 arrays of bounded size, `resamples` rows in all.
    """
    _, index = np.unique(patients, return_inverse=True)
    count = int(index.max()) + 1
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // max(len(patients), 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        draws = random.integers(count, size=(size, count))
        draws += np.arange(size)[:, None] * count
        counts = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count)
        yield counts[:, index].astype(np.float64)


def _estimate(value: float, values: np.ndarray) -> Estimate:
    defined = values[~np.isnan(values)]
    low = high = float("nan")
    if len(defined) and not np.isnan(value):
        tail = 100 * (1 - LEVEL) / 2
        low, high = (float(end) for end in np.percentile(defined, [tail, 100 - tail]))
    return Estimate(value, low, high, len(values), len(values) - len(defined))
