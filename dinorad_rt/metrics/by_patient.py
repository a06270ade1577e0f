"""The metrics of `classification` and more, for many resamples of patients at once.

A resample of patients is a row of counts: how often each patient was drawn. Whatever a metric
sums over images is first summed per patient, once; each resample is then a product with a sparse
matrix of (steps, patients), where a step is a distinct score of a positive image. Nothing of the
size (resamples, images) is made, and no resample is sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dinorad_rt.metrics.classification import ratio, tie_starts
from dinorad_rt.metrics.decisions import calibration_gaps

_EXACT_FLOAT32 = 2**24


class AurocByPatient:
    """AUROC of one class; ties count half.

    Args:
        positive: (samples,) bool.
        score: (samples,), higher means more positive.
        patient: (samples,) index of each sample's patient, from 0.
        patients: number of patients.
    """

    def __init__(
        self, positive: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int
    ) -> None:
        self._steps = _Steps(positive, score, patient, patients)
        self.steps = self._steps.count

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """AUROC (1, resamples) of counts (resamples, patients); NaN if undefined."""
        return self._steps.drawn(counts).auroc[None]


class RankingByPatient:
    """AUROC, average precision and sensitivity at a specificity of one class.

    The sensitivity is the highest among the thresholds whose specificity is at least the asked one.
    Its threshold is chosen on the images that it is judged on, so it is optimistic: it describes
    the ROC curve, not a deployed threshold.

    Args:
        positive, score, patient, patients: as for `AurocByPatient`.
        specificity: of the sensitivity; None leaves it out.
    """

    def __init__(
        self,
        positive: np.ndarray,
        score: np.ndarray,
        patient: np.ndarray,
        patients: int,
        *,
        specificity: float | None = None,
    ) -> None:
        self._specificity = specificity
        self._steps = _Steps(positive, score, patient, patients)
        self.steps = self._steps.count

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """AUROC, average precision and, if asked for, sensitivity: (2 or 3, resamples) of counts
        (resamples, patients); NaN if undefined."""
        drawn = self._steps.drawn(counts)
        found = np.cumsum(drawn.hits, axis=0)
        sensitivity = self._sensitivity(found, drawn)
        wrong = drawn.wrong
        wrong += found
        precision = np.zeros(found.shape)
        np.divide(found, wrong, out=precision, where=wrong > 0, dtype=np.float64)
        rows = [drawn.auroc, ratio(_dot(drawn.hits, precision), drawn.positives)]
        return np.stack(rows + sensitivity)

    def _sensitivity(self, found: np.ndarray, drawn: _Drawn) -> list[np.ndarray]:
        """The best threshold is a positive's score."""
        if self._specificity is None:
            return []
        allowed = (1 - self._specificity) * drawn.negatives + 1e-9
        last = (drawn.wrong <= allowed).sum(axis=0) - 1
        best = np.zeros(len(drawn.positives))
        if self.steps:
            best = np.take_along_axis(found, np.maximum(last, 0)[None], axis=0)[0].astype(float)
            best[last < 0] = 0.0
        return [np.where(drawn.negatives > 0, ratio(best, drawn.positives), np.nan)]


@dataclass(frozen=True)
class _Drawn:
    """What some resamples hold at each step: (steps, resamples), highest score first.

    Attributes:
        hits: positives of the step.
        wrong: negatives at or above the step.
        positives, negatives, auroc: (resamples,) of all steps.
    """

    hits: np.ndarray
    wrong: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    auroc: np.ndarray


class _Steps:
    """Positives and negatives of each patient at each distinct score of a positive."""

    def __init__(
        self, positive: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int
    ) -> None:
        order = np.argsort(-score, kind="stable")
        starts = np.zeros(len(order), bool)
        starts[tie_starts(score[order])] = True
        tie = np.cumsum(starts) - 1
        truth, who = positive[order], patient[order]
        steps = np.unique(tie[truth])
        step = np.searchsorted(steps, tie)  # first step at or below each sample
        within = truth | np.isin(tie, steps)
        counted = step < len(steps)
        shape = (len(steps), patients)
        dtype = _exact_dtype(patient)
        self._hits = _sums(step[truth], who[truth], shape, dtype)
        between, tied = (~truth & part & counted for part in (~within, within))
        self._between = _sums(step[between], who[between], shape, dtype)
        self._tied = _sums(step[tied], who[tied], shape, dtype) if tied.any() else None
        self._positives = np.bincount(who[truth], minlength=patients).astype(np.float64)
        self._negatives = np.bincount(who[~truth], minlength=patients).astype(np.float64)
        self.count = len(steps)

    def drawn(self, counts: np.ndarray) -> _Drawn:
        """Sums of counts (resamples, patients)."""
        drawn = np.ascontiguousarray(counts.T, dtype=self._hits.dtype)
        positives, negatives = counts @ self._positives, counts @ self._negatives
        hits, wrong = self._hits @ drawn, self._between @ drawn
        halves: np.ndarray | float = 0.0
        if self._tied is not None:
            tied = self._tied @ drawn
            wrong += tied
            halves = 0.5 * _dot(hits, tied)
        np.cumsum(wrong, axis=0, out=wrong)
        pairs = negatives * positives
        auroc = ratio(pairs - _dot(hits, wrong) + halves, pairs)
        return _Drawn(hits, wrong, positives, negatives, auroc)


class SharesByPatient:
    """Ratios of sums over samples: accuracy, recall of each class, and what is made of them.

    Args:
        hits: (samples, shares) values of the numerators.
        members: (samples, shares) values of the denominators.
        patient: (samples,) index of each sample's patient, from 0.
        patients: number of patients.
    """

    def __init__(
        self, hits: np.ndarray, members: np.ndarray, patient: np.ndarray, patients: int
    ) -> None:
        rows = np.arange(len(patient))
        gather = _sums(patient, rows, (patients, len(patient)), np.dtype(np.float64))
        self._hits = gather @ hits.astype(np.float64)
        self._members = gather @ members.astype(np.float64)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Ratios (shares, resamples) of counts (resamples, patients); NaN if undefined."""
        return ratio(counts @ self._hits, counts @ self._members).T


def accuracy_by_patient(
    truth: np.ndarray, predicted: np.ndarray, patient: np.ndarray, patients: int
) -> SharesByPatient:
    """Share of samples whose prediction equals the truth (all labels of a row, if 2-D)."""
    same = truth == predicted
    right = same.all(axis=1) if same.ndim == 2 else same
    return SharesByPatient(right[:, None], np.ones((len(right), 1)), patient, patients)


def recalls_by_patient(
    truth: np.ndarray, predicted: np.ndarray, patient: np.ndarray, patients: int
) -> SharesByPatient:
    """Recall of each class that occurs in `truth`; their mean is the balanced accuracy."""
    member = truth[:, None] == np.unique(truth)
    return SharesByPatient(member & (truth == predicted)[:, None], member, patient, patients)


def f1_by_patient(
    truth: np.ndarray, predicted: np.ndarray, patient: np.ndarray, patients: int
) -> SharesByPatient:
    """F1 of each column of 0/1 (samples, labels): twice the hits over predicted and true positives.

    NaN where a label is neither true nor predicted.
    """
    true, guess = truth.astype(np.float64), predicted.astype(np.float64)
    return SharesByPatient(2 * true * guess, true + guess, patient, patients)


def mean_by_patient(values: np.ndarray, patient: np.ndarray, patients: int) -> SharesByPatient:
    """Mean over samples of (samples, columns) values, such as squared errors."""
    return SharesByPatient(values, np.ones_like(values), patient, patients)


def defined_mean_by_patient(
    values: np.ndarray, patient: np.ndarray, patients: int
) -> SharesByPatient:
    """Mean over the samples that have a value, column by column; NaN stands for none."""
    defined = ~np.isnan(values)
    return SharesByPatient(np.where(defined, values, 0.0), defined, patient, patients)


class CalibrationByPatient:
    """Expected calibration error over bins of equal width (Guo et al., arXiv 1706.04599).

    Args:
        confidence: (samples, columns) in [0, 1].
        right: (samples, columns) bool.
        patient: (samples,) index of each sample's patient, from 0.
        patients: number of patients.
    """

    def __init__(
        self, confidence: np.ndarray, right: np.ndarray, patient: np.ndarray, patients: int
    ) -> None:
        rows = np.arange(len(patient))
        gather = _sums(patient, rows, (patients, len(patient)), np.dtype(np.float64))
        columns = [calibration_gaps(*pair) for pair in zip(confidence.T, right.T, strict=True)]
        self._columns = len(columns)
        self._gaps = np.hstack([gather @ gaps for gaps in columns])
        self._samples = np.bincount(patient, minlength=patients).astype(np.float64)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """(columns, resamples) values of counts (resamples, patients)."""
        gaps = np.abs(counts @ self._gaps).reshape(len(counts), self._columns, -1).sum(axis=2)
        return ratio(gaps.T, np.tile(counts @ self._samples, (self._columns, 1)))


def _sums(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], dtype: Any) -> Any:
    """Sparse matrix that counts the pairs (row, column)."""
    from scipy.sparse import csr_array

    ones = np.ones(len(rows), dtype=dtype)
    return csr_array((ones, (rows, columns)), shape=shape)


def _exact_dtype(patient: np.ndarray) -> np.dtype[Any]:
    """float32 where no sum of counts can pass the integers that it holds exactly."""
    largest = np.bincount(patient).max(initial=0) * (int(patient.max(initial=0)) + 1)
    return np.dtype(np.float32 if largest < _EXACT_FLOAT32 else np.float64)


def _dot(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sum over steps of a product, in float64."""
    return np.asarray(np.einsum("sb,sb->b", left, right, dtype=np.float64))
