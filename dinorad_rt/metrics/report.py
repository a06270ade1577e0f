"""Which metrics a task gets, computed with intervals from scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.metrics.classification import (
    weighted_accuracy,
    weighted_auroc,
    weighted_average_precision,
    weighted_recalls,
)
from dinorad_rt.metrics.intervals import Estimate, Metric, cluster_bootstrap
from dinorad_rt.reports.results import MetricValue, Predictions, predicted_labels

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable

Key = tuple[str, int | None]
_RANKED = {"auroc": weighted_auroc, "average_precision": weighted_average_precision}


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
    metrics = _metrics(predictions.scores, queries.labels, dataset, usable)
    estimates = cluster_bootstrap(
        {_text(key): metric for key, metric in metrics.items()},
        queries.patients,
        resamples=resamples,
        seed=seed,
    )
    hot = one_vs_rest(queries.labels, len(dataset.class_names))
    patients = len(np.unique(queries.patients))
    return [
        _value(
            key,
            estimates[_text(key)],
            setting=dict(predictions.setting),
            class_name=None if key[1] is None else dataset.class_names[key[1]],
            n=len(hot),
            n_patients=patients,
            n_positive=None if key[1] is None else int(hot[:, key[1]].sum()),
        )
        for key in metrics
    ]


def _metrics(
    scores: np.ndarray, labels: np.ndarray, dataset: DatasetInfo, usable: Sequence[int]
) -> dict[Key, Metric]:
    hot = one_vs_rest(labels, len(dataset.class_names))
    ranked = [usable[-1]] if dataset.task == "binary" else list(usable)
    metrics: dict[Key, Metric] = {}
    for name, function in _RANKED.items():
        parts = {c: partial(function, hot[:, c], scores[:, c]) for c in ranked}
        metrics[name, None] = partial(_mean, list(parts.values()))
        if dataset.task != "binary":
            metrics |= {(name, c): part for c, part in parts.items()}
    predicted = predicted_labels(scores, dataset.task)
    metrics["accuracy", None] = partial(weighted_accuracy, labels, predicted)
    if dataset.task != "multilabel":
        metrics["balanced_accuracy", None] = partial(_balanced, labels, predicted)
    return metrics


def _mean(parts: Sequence[Metric], weights: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean([part(weights) for part in parts], axis=0))


def _balanced(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(weighted_recalls(truth, predicted, weights).mean(axis=1))


def _text(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


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
