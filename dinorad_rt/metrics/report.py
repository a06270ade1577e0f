"""Which metrics a task gets, computed with intervals from scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.metrics.by_patient import (
    RankingByPatient,
    accuracy_by_patient,
    recalls_by_patient,
)
from dinorad_rt.metrics.intervals import CountMetric, Estimate, bootstrap_patients
from dinorad_rt.reports.results import MetricValue, Predictions, predicted_labels

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable

Key = tuple[str, int | None]
RANKED = ("auroc", "average_precision")


def present_classes(
    labels: np.ndarray, class_names: Sequence[str]
) -> tuple[list[int], dict[str, str]]:
    """Classes with positive and negative test images, and why the others are left out.

    Args:
        labels: (samples,) class indices or (samples, classes) 0/1.
        class_names: index → name.
    """
    hot = one_vs_rest(labels, len(class_names))
    positives = hot.sum(axis=0)
    usable, excluded = [], {}
    for index, name in enumerate(class_names):
        if positives[index] == 0:
            excluded[name] = f"no positive among {len(hot)} test images"
        elif positives[index] == len(hot):
            excluded[name] = f"no negative among {len(hot)} test images"
        else:
            usable.append(index)
    return usable, excluded


def one_vs_rest(labels: np.ndarray, classes: int) -> np.ndarray:
    """(samples, classes) bool."""
    return labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.arange(classes)


def evaluate_scores(
    predictions: Predictions,
    queries: EmbeddingTable,
    dataset: DatasetInfo,
    usable: Sequence[int],
    *,
    seed: int,
    resamples: int,
) -> list[MetricValue]:
    """AUROC and average precision (macro and per class), accuracy, balanced accuracy.

    Binary tasks rank by the score of the last class; multi-class and multi-label tasks take each
    class against the rest and the plain mean over the usable classes. A resample in which one of
    them vanishes has no macro mean.

    Args:
        predictions: scores (samples, classes).
        queries: truth and patients of the same samples.
        usable: class indices with positives and negatives.
        seed, resamples: of the bootstrap by patient.
    """
    keys, metric, width = _metrics(predictions.scores, queries, dataset, usable)
    patients = len(np.unique(queries.patients))
    estimates = bootstrap_patients(metric, patients, resamples=resamples, seed=seed, width=width)
    hot = one_vs_rest(queries.labels, len(dataset.class_names))
    return [
        _value(
            key,
            estimate,
            setting=dict(predictions.setting),
            class_name=None if key[1] is None else dataset.class_names[key[1]],
            n=len(hot),
            n_patients=patients,
            n_positive=None if key[1] is None else int(hot[:, key[1]].sum()),
        )
        for key, estimate in zip(keys, estimates, strict=True)
    ]


def _metrics(
    scores: np.ndarray, queries: EmbeddingTable, dataset: DatasetInfo, usable: Sequence[int]
) -> tuple[list[Key], CountMetric, int]:
    """What the rows of the metric are, the metric, and its values per resample in memory."""
    labels, (names, patient) = queries.labels, np.unique(queries.patients, return_inverse=True)
    hot = one_vs_rest(labels, len(dataset.class_names))
    each = [] if dataset.task == "binary" else list(usable)
    rankings = [
        RankingByPatient(hot[:, c], scores[:, c], patient, len(names)) for c in each or [usable[-1]]
    ]
    predicted = predicted_labels(scores, dataset.task)
    accuracy = accuracy_by_patient(labels, predicted, patient, len(names))
    keys: list[Key] = [(name, c) for name in RANKED for c in (None, *each)]
    keys.append(("accuracy", None))
    recalls = None
    if dataset.task != "multilabel":
        recalls = recalls_by_patient(labels, predicted, patient, len(names))
        keys.append(("balanced_accuracy", None))

    def metric(counts: np.ndarray) -> np.ndarray:
        ranked = np.stack([ranking(counts) for ranking in rankings], axis=1)
        rows = [
            row for values in ranked for row in (values.mean(axis=0), *(values if each else ()))
        ]
        rows.extend(accuracy(counts))
        if recalls is not None:
            rows.append(recalls(counts).mean(axis=0))
        return np.stack(rows)

    return keys, metric, max(ranking.steps for ranking in rankings)


def _value(key: Key, estimate: Estimate, **facts: object) -> MetricValue:
    value = _defined(estimate.value)
    return MetricValue(
        name=key[0],
        value=value,
        ci_low=_defined(estimate.low),
        ci_high=_defined(estimate.high),
        resamples=estimate.resamples,
        undefined=estimate.undefined,
        values=(value,),
        **facts,  # type: ignore[arg-type]
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value
