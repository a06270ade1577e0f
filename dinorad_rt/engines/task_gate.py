"""The task gate: does an engine give the same medical result as the FP32 reference?

A kNN classifier is fitted on the training images and asked about the test images, once with the
embeddings of the engine and once with those of the reference. Compared are the AUROC (paired
difference, interval by patient) and the predicted class (agreement). Segmenters: `mask_gate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.engines.task_verdict import (
    AUROC_LIMIT,
    LEAST_OF_CLASS,
    LEAST_PATIENTS,
    Judgement,
    verdict_of,
)
from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.by_patient import RankingByPatient
from dinorad_rt.metrics.comparisons import paired_bootstrap
from dinorad_rt.metrics.intervals import CountMetric

if TYPE_CHECKING:
    from dinorad_rt.embeddings.store import EmbeddingStore
    from dinorad_rt.embeddings.table import EmbeddingTable

NEIGHBOURS = 20


@dataclass(frozen=True)
class TaskGate(Judgement):
    """What the task gate found.

    Attributes:
        k: neighbours that voted.
        images, patients: of the test split.
        auroc_reference, auroc_engine: macro average over classes.
        agreement: share of test images with the same predicted class (labels, if multi-label).
        agreement_low, agreement_high: exact 95 % interval over patients all of whose images agree.
        cosine_min, cosine_p01: worst image and first percentile of the cosine of the last class
            token, or of the logits of a head of the model's own.
    """

    k: int
    images: int
    patients: int
    auroc_reference: float
    auroc_engine: float
    cosine_min: float
    cosine_p01: float


def judge_stores(
    reference: EmbeddingStore, engine: EmbeddingStore, *, k: int = NEIGHBOURS, seed: int = 0
) -> TaskGate:
    """Judge two stores of one dataset: train are the neighbours, test the queries.

    Args:
        reference: embedded by the FP32 reference.
        engine: embedded by the engine, with the same preprocessing.
        k: neighbours; fewer where the train split is smaller.
        seed: of the intervals' resampling.

    Raises:
        ProtocolError: no training or test images, or stores of different images.
    """
    from dinorad_rt.protocols.pooling import pool_slices

    tables = [
        {split: pool_slices(store.load(split)) for split in ("train", "test")}
        for store in (reference, engine)
    ]
    return judge_tables(*tables, classes=len(reference.dataset_info().class_names), k=k, seed=seed)


def judge_tables(
    reference: Mapping[str, EmbeddingTable],
    engine: Mapping[str, EmbeddingTable],
    *,
    classes: int,
    k: int = NEIGHBOURS,
    seed: int = 0,
) -> TaskGate:
    """`judge_stores` on tables under the names `train` and `test`.

    Raises:
        ProtocolError: no training or test images, or tables of different images.
    """
    _check(reference, engine)
    test = reference["test"]
    k = min(k, len(reference["train"]))
    scores = [_scores(tables, classes, k) for tables in (reference, engine)]
    tokens = [tables["test"].cls[:, -1] for tables in (reference, engine)]
    return judge_scores(scores, tokens, test.labels, test.patients, k=k, seed=seed)


def judge_scores(
    scores: Sequence[np.ndarray],
    vectors: Sequence[np.ndarray],
    labels: np.ndarray,
    patients_of: np.ndarray,
    *,
    k: int = 0,
    seed: int = 0,
) -> TaskGate:
    """Judge the scores that reference and engine give to the same images.

    Args:
        scores: (images, classes) of the reference, and of the engine.
        vectors: (images, values) that each computed them from, compared by cosine.
        labels: (images,) class indices, or (images, classes) 0/1.
        patients_of: (images,) key of each image's patient.
        k: neighbours behind the scores; 0 for a head of the model's own.
        seed: of the intervals' resampling.
    """
    patient = by_appearance(patients_of).index
    patients = int(patient.max()) + 1
    metrics = [_auroc(labels, score, patient, patients) for score in scores]
    (delta,) = paired_bootstrap(metrics[0], metrics[1], patients, seed=seed)
    once = np.ones((1, patients), np.int64)
    same, cosine = _same(labels, *scores), _cosines(*vectors)
    agreed = np.bincount(patient, weights=1.0 - same, minlength=patients) == 0
    low, high = _exact_interval(int(agreed.sum()), patients)
    numbers: dict[str, Any] = dict(
        k=k,
        images=len(labels),
        patients=patients,
        auroc_reference=float(metrics[0](once)[0, 0]),
        auroc_engine=float(metrics[1](once)[0, 0]),
        difference=delta.value,
        low=delta.low,
        high=delta.high,
        agreement=float(same.mean()),
        agreement_low=low,
        agreement_high=high,
        cosine_min=float(cosine.min()),
        cosine_p01=float(np.percentile(cosine, 1)),
    )
    rarest, shortage = _least_of_class(labels, patient, scores[0].shape[1]), ""
    if patients < LEAST_PATIENTS or rarest < LEAST_OF_CLASS:
        split = "test" if k else "validation"  # a head of its own is asked about validation
        shortage = (
            f"{patients} in the {split} split, {rarest} of the rarest class; {LEAST_PATIENTS} and "
            f"{LEAST_OF_CLASS} are needed"
        )
    verdict, reason = verdict_of(numbers, ("AUROC", AUROC_LIMIT), "images", shortage)
    return TaskGate(verdict=verdict, reason=reason, **numbers)


def _check(reference: Mapping[str, EmbeddingTable], engine: Mapping[str, EmbeddingTable]) -> None:
    sizes = {split: len(reference[split]) for split in ("train", "test")}
    if min(sizes.values()) == 0:
        raise ProtocolError(
            f"The task gate needs training and test images; there are {sizes['train']} and "
            f"{sizes['test']}.",
            "Give the CSV a split column with train, val and test, or none: then splits are made.",
        )
    for split in sizes:
        if not np.array_equal(reference[split].sample_ids, engine[split].sample_ids):
            raise ProtocolError(
                f"Engine and reference embedded different {split} images.",
                "Look at failures.parquet of both stores: the same files must be readable.",
            )


def _scores(tables: Mapping[str, EmbeddingTable], classes: int, k: int) -> np.ndarray:
    """kNN scores (test images, classes) of an engine's own embeddings on both sides."""
    from dinorad_rt.protocols.knn import KNNClassifier

    train, test = tables["train"], tables["test"]
    classifier = KNNClassifier(k, num_classes=classes).fit(train.cls[:, -1], train.labels)
    return classifier.predict_proba(test.cls[:, -1])


def _auroc(
    labels: np.ndarray, scores: np.ndarray, patient: np.ndarray, patients: int
) -> CountMetric:
    """Macro AUROC of counts of patients; of a binary task, that of the positive class."""
    truth = labels == 1 if labels.ndim == 2 else labels[:, None] == np.arange(scores.shape[1])
    columns = [1] if labels.ndim == 1 and scores.shape[1] == 2 else range(scores.shape[1])
    rankings = [
        RankingByPatient(truth[:, column], scores[:, column], patient, patients)
        for column in columns
        if 0 < truth[:, column].sum() < len(truth)
    ]

    def metric(counts: np.ndarray) -> np.ndarray:
        if not rankings:
            return np.full((1, len(counts)), np.nan)
        values = np.stack([ranking(counts)[0] for ranking in rankings])
        defined = ~np.isnan(values)
        total = np.where(defined, values, 0.0).sum(axis=0)
        share = np.full(len(counts), np.nan)
        np.divide(total, defined.sum(axis=0), out=share, where=defined.any(axis=0))
        return share[None]

    return metric


def _same(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(images,) share of equal predictions: the class, or each label at 0.5."""
    if labels.ndim == 2:
        return np.asarray(((first >= 0.5) == (second >= 0.5)).mean(axis=1))
    return np.asarray(first.argmax(axis=1) == second.argmax(axis=1), float)


def _exact_interval(agreeing: int, patients: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(agreeing, patients).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(np.sum(first * second, axis=1) / np.maximum(lengths, 1e-300))


def _least_of_class(labels: np.ndarray, patient: np.ndarray, classes: int) -> int:
    """Patients of the rarest class that occurs (of the rarer of yes and no, if multi-label)."""
    if labels.ndim == 2:
        groups = [
            patient[labels[:, c] == value] for c in range(labels.shape[1]) for value in (0, 1)
        ]
    else:
        groups = [patient[labels == c] for c in range(classes)]
    return min(len(np.unique(group)) for group in groups if len(group))
