"""Curves behind the plots: ROC, precision-recall, reliability, confusion; bands by patient.

Points are exact, one per distinct score. Bands are pointwise 95 % intervals of a bootstrap over
patients, on a grid; scores are gathered into at most `MAX_STEPS` quantiles for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.metrics.intervals import LEVEL, patient_counts

GRID = np.linspace(0.0, 1.0, 101)
MAX_STEPS = 2000
RESAMPLES = 1000

Line = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Curve:
    """A line with its band.

    Attributes:
        x, y: the line itself, one point per distinct score; on the grid for a mean of classes.
        grid: where the band is known.
        low, high: pointwise interval by patient; NaN where no resample has a value.
    """

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Reliability:
    """How often it was so, against how often it was said.

    Attributes:
        said: (bins,) mean score of the bin.
        found: (bins,) share of positives.
        low, high: (bins,) 95 % interval of `found` by patient.
        count: (bins,) scores in the bin; empty bins are left out.
    """

    said: np.ndarray
    found: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def roc_points(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from (0, 0), one step per distinct score, highest first.

    Args:
        positive: (samples,) bool.
        score: (samples,), higher means more positive.
    """
    hits, misses = _steps(positive, score)
    return _rates(misses), _rates(hits)


def pr_points(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, one step per distinct score, highest first; begins at (0, 1)."""
    hits, misses = _steps(positive, score)
    recall = _rates(hits)
    with np.errstate(invalid="ignore"):
        precision = hits / (hits + misses)
    return recall, np.concatenate([[1.0], precision])


def roc_and_pr(
    hot: np.ndarray, scores: np.ndarray, patients: np.ndarray, *, resamples: int = RESAMPLES
) -> tuple[Curve, Curve]:
    """ROC and precision-recall curve of one class, or the means of several, of the same resamples.

    The mean of ROC curves is taken at equal false positive rate, that of the others at equal
    recall. Between two steps the precision of the next one counts, as in the average precision.

    Args:
        hot: (samples, classes) bool, each with positives and negatives.
        scores: (samples, classes).
        patients: (samples,) keys.
        resamples: of the bootstrap by patient, seed 0.
    """

    def at_recall(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
        return np.asarray(precision[1:][_reached(recall[1:], GRID)])

    roc = _mean_line(hot, scores, roc_points, lambda x, y: np.interp(GRID, x, y))
    pr = _mean_line(hot, scores, pr_points, at_recall)
    bands = _bands(hot, scores, patients, (_roc_on_grid, _pr_on_grid), resamples)
    first, second = (Curve(*line, GRID, *band) for line, band in zip((roc, pr), bands, strict=True))
    return first, second


def reliability(
    positive: np.ndarray,
    score: np.ndarray,
    patients: np.ndarray,
    *,
    bins: int = 10,
    resamples: int = RESAMPLES,
) -> Reliability:
    """Share of positives in bins of equal width of the score.

    Args:
        positive: (samples,) bool.
        score: (samples,) in [0, 1].
        patients: (samples,) keys.
        bins: between 0 and 1.
        resamples: of the bootstrap by patient, seed 0.
    """
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], score)
    used, place = np.unique(place, return_inverse=True)
    groups = by_appearance(patients)
    people, cells = len(groups), groups.index * len(used) + place
    hits, total, said = (
        np.bincount(cells, part, people * len(used)).reshape(people, len(used))
        for part in (positive, None, score)
    )
    count = total.sum(axis=0)
    rows = [
        _share(counts @ hits, counts @ total)
        for counts in patient_counts(people, resamples=resamples, seed=0)
    ]
    low, high = _ends(np.concatenate(rows))
    return Reliability(said.sum(axis=0) / count, hits.sum(axis=0) / count, low, high, count)


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(true class, predicted class) counts."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def _steps(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives at or above each distinct score, highest score first."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(positive[order])[last].astype(np.float64)
    return hits, np.flatnonzero(last) + 1.0 - hits


def _rates(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], counts / counts[-1]])


def _mean_line(
    hot: np.ndarray, scores: np.ndarray, points: Callable[..., Any], on_grid: Line
) -> tuple[np.ndarray, np.ndarray]:
    lines = [points(hot[:, c], scores[:, c]) for c in range(hot.shape[1])]
    if len(lines) == 1:
        x, y = lines[0]
        return x, y
    return GRID, np.mean([on_grid(x, y) for x, y in lines], axis=0)


def _bands(
    hot: np.ndarray, scores: np.ndarray, patients: np.ndarray, lines: Sequence[Line], resamples: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pointwise intervals of the mean over classes of each line on the grid."""
    groups = by_appearance(patients)
    index, people = groups.index, len(groups)
    tables = []
    for c in range(hot.shape[1]):
        step = _ranks(scores[:, c]) + 1  # step 0 comes before every score
        width = int(step.max()) + 1
        tables.append(
            [_gather(step[rows], index[rows], (width, people)) for rows in (hot[:, c], ~hot[:, c])]
        )
    width = max(table[0].shape[0] for table in tables)
    drawn: list[np.ndarray] = []
    for counts in patient_counts(people, resamples=resamples, seed=0, width=max(width, people)):
        turned = np.ascontiguousarray(counts.T, dtype=np.float64)
        mean = np.zeros((len(lines), len(counts), len(GRID)))
        for table in tables:
            sums = [np.cumsum(np.ascontiguousarray((part @ turned).T), axis=1) for part in table]
            for own, line in zip(mean, lines, strict=True):
                own += line(*sums)
        drawn.append(mean / len(tables))
    return [_ends(rows) for rows in np.concatenate(drawn, axis=1)]


def _ranks(score: np.ndarray) -> np.ndarray:
    """Step of each sample, 0 for the highest score; at most MAX_STEPS steps."""
    distinct, step = np.unique(-score, return_inverse=True)
    if len(distinct) <= MAX_STEPS:
        return np.asarray(step)
    return np.asarray(step * MAX_STEPS // len(distinct))


def _roc_on_grid(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """True positive rate at each false positive rate of the grid; one row per resample.

    Args:
        hits, misses: (resamples, steps + 1) positives and negatives up to each step, from 0.
    """
    rows = np.full((len(hits), len(GRID)), np.nan)
    for row, (up, down) in enumerate(zip(hits, misses, strict=True)):
        if up[-1] and down[-1]:
            rows[row] = np.interp(GRID, down / down[-1], up / up[-1])
    return rows


def _pr_on_grid(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """Precision at each recall of the grid; one row per resample."""
    rows = np.full((len(hits), len(GRID)), np.nan)
    for row, (up, down) in enumerate(zip(hits, misses, strict=True)):
        if up[-1]:
            # steps before the first drawn sample have no precision
            first = min(up.searchsorted(0.5), down.searchsorted(0.5))
            at = np.maximum(_reached(up / up[-1], GRID), first)
            rows[row] = up[at] / (up[at] + down[at])
    return rows


def _reached(recall: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the first step whose recall is at least the wanted one."""
    return np.asarray(np.minimum(recall.searchsorted(wanted - 1e-12), len(recall) - 1))


def _gather(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    empty = np.full(part.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=empty, where=whole > 0))


def _ends(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each column; NaN where no row has a value."""
    low, high = np.full((2, rows.shape[1]), np.nan)
    known = ~np.isnan(rows).all(axis=0)
    tail = 100 * (1 - LEVEL) / 2
    if known.any():  # of many classes with few images each, every resample may lack one
        low[known], high[known] = np.nanpercentile(rows[:, known], [tail, 100 - tail], axis=0)
    return low, high
