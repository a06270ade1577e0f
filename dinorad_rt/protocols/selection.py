"""Choosing on validation, never on test: by which metric, and on which rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.classification import weighted_auroc, weighted_average_precision
from dinorad_rt.metrics.decisions import predicted_labels
from dinorad_rt.types import Task

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable

SelectBy = Literal["auroc", "average_precision", "accuracy", "balanced_accuracy"]


def choose(
    candidates: Sequence[np.ndarray], labels: np.ndarray, task: Task, select_by: SelectBy
) -> tuple[int, list[float]]:
    """The candidate with the best scores on validation; the first one of equals.

    Args:
        candidates: (rows, classes) scores of each candidate.
        labels: (rows,) class indices, or (rows, classes) 0/1.
        task: of the dataset.
        select_by: metric that decides.

    Returns:
        Its index, and every candidate's value.

    Raises:
        ProtocolError: the metric is undefined on the validation rows, or does not fit the task.
    """
    values = [score(item, labels, task, select_by) for item in candidates]
    if np.isnan(values).all():
        raise ProtocolError(
            f"{select_by} is undefined on the {len(labels)} validation images: no class has both "
            "positive and negative ones among them.",
            "Give the val split images of at least two classes, or choose by accuracy: "
            "--set select_by=accuracy",
        )
    return int(np.nanargmax(np.round(values, 12))), [float(value) for value in values]


def score(scores: np.ndarray, labels: np.ndarray, task: Task, metric: SelectBy) -> float:
    """One metric of plain scores: macro over the classes that occur, NaN if none does.

    Raises:
        ProtocolError: the metric does not fit the task.
    """
    check_metric(metric, task)
    if metric == "accuracy":
        return float((predicted_labels(scores, task) == labels).mean())
    if metric == "balanced_accuracy":
        right = predicted_labels(scores, task) == labels
        return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))
    ranked = weighted_auroc if metric == "auroc" else weighted_average_precision
    hot = labels if labels.ndim == 2 else labels[:, None] == np.arange(scores.shape[1])
    classes = [scores.shape[1] - 1] if task == "binary" else range(scores.shape[1])
    once = np.ones((1, len(labels)))
    usable = [c for c in classes if 0 < hot[:, c].sum() < len(hot)]
    if not usable:
        return float("nan")
    return float(np.mean([ranked(hot[:, c].astype(bool), scores[:, c], once)[0] for c in usable]))


def check_metric(metric: str, task: Task) -> None:
    """Refuse a metric that the task does not have.

    Raises:
        ProtocolError: with those that it has.
    """
    if task == "multilabel" and metric == "balanced_accuracy":
        raise ProtocolError(
            "Balanced accuracy is the mean recall of classes that exclude each other; this task "
            "is multi-label.",
            "Use auroc, average_precision or accuracy.",
        )


def with_validation(
    train: EmbeddingTable, val: EmbeddingTable, dataset: DatasetInfo, seed: int
) -> tuple[EmbeddingTable, EmbeddingTable, list[str]]:
    """The splits to fit and to choose on; without a val split one is cut from train by patient.

    Returns:
        Rows to fit, rows to choose on, and what a reader must know.

    Raises:
        ProtocolError: too few patients to cut any.
    """
    if len(val):
        return train, val, []
    from dinorad_rt.datasets.splits import stratified_splits

    labels = train.labels
    hot = labels if labels.ndim == 2 else labels[:, None] == np.arange(len(dataset.class_names))
    names = [str(patient) for patient in train.patients]
    if len(set(names)) < 4:
        raise ProtocolError(
            f"{len(set(names))} training patients and no val split: nothing can be chosen.",
            "Give more training images, or a val split.",
        )
    cut = np.asarray(stratified_splits(names, hot.astype(float), seed=seed)) == "val"
    if not cut.any():
        cut = np.asarray(names) == sorted(set(names))[0]
    note = (
        f"No val split: {cut.sum()} of {len(cut)} training images were set apart by patient "
        f"(seed {seed}) to choose on; test chose nothing."
    )
    return train.take(~cut), train.take(cut), [note]
