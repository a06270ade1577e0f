"""Which metrics a task gets, computed with intervals from scores.

    auroc, average_precision, sensitivity   each class against the rest, and their mean
    auroc_micro                             all (image, class) pairs together
    auroc_study                             the mean as the study has it: an absent class counts 0
    accuracy, balanced_accuracy, f1         of decisions: highest score, or 0.5 for multi-label
    brier, calibration_error                of scores as probabilities

Sensitivity is that at a fixed specificity, the protocol's setting `specificity`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.metrics.by_patient import (
    AurocByPatient,
    CalibrationByPatient,
    RankingByPatient,
    accuracy_by_patient,
    f1_by_patient,
    mean_by_patient,
    recalls_by_patient,
)
from dinorad_rt.metrics.decisions import predicted_labels
from dinorad_rt.metrics.intervals import Estimate, bootstrap_draws, estimate, mean_of_repeats
from dinorad_rt.progress import Stages, part_of, unseen
from dinorad_rt.reports.results import MetricValue, Predictions

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.settings import AbstractSettings

Key = tuple[str, int | None]
"""A metric and the class it is for; None for all."""

RANKED = ("auroc", "average_precision", "sensitivity")
MICRO, STUDY = "auroc_micro", "auroc_study"


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


@dataclass(frozen=True)
class Panel:
    """All metrics of one set of scores, as a function of how often each patient was drawn.

    Attributes:
        keys: what the rows are.
        metric: counts (resamples, patients) → (keys, resamples).
        width: values that it holds per resample.
    """

    keys: list[Key]
    metric: Callable[[np.ndarray], np.ndarray]
    width: int


def evaluate_scores(
    predictions: Sequence[Predictions],
    test: EmbeddingTable,
    dataset: DatasetInfo,
    usable: Sequence[int],
    *,
    settings: AbstractSettings,
    seed: int,
    stages: Stages = unseen,
) -> list[MetricValue]:
    """Every metric of every setting, with 95 % intervals by patient.

    Binary tasks rank by the score of the last class; multi-class and multi-label tasks take each
    class against the rest and the plain mean over the usable classes. A resample in which one of
    them vanishes has no macro mean. Repeats of a setting give one value, their mean, whose
    interval covers patients and repeats.

    Args:
        predictions: scores (samples, classes) by setting.
        test: truth and patients of the same samples.
        usable: class indices with positives and negatives.
        settings: `resamples` and `specificity` are used.
        seed: of the bootstrap by patient.
        stages: told of the resamples of all settings and repeats.
    """
    patients, each = len(np.unique(test.patients)), settings.resamples
    found: list[MetricValue] = []
    done, total = 0, each * len(predictions)
    with stages("resampling patients", "resamples") as progress:
        for setting, repeats in grouped(predictions):
            runs = []
            for item in repeats:
                panel = _panel(item.scores, test, dataset, usable, settings)
                drawn = bootstrap_draws(
                    panel.metric,
                    patients,
                    resamples=each,
                    seed=seed,
                    width=panel.width,
                    progress=part_of(progress, done, total),
                )
                runs.append(drawn)
                done += each
            values, draws = (np.stack(part) for part in zip(*runs, strict=True))
            if len(runs) == 1:
                pairs = zip(values[0], draws[0], strict=True)
                estimates = [estimate(float(value), row) for value, row in pairs]
            else:
                estimates = mean_of_repeats(values, draws, seed=seed)
            found += _values(setting, panel.keys, estimates, values, test=test, dataset=dataset)
    return found


def grouped(predictions: Sequence[Predictions]) -> list[tuple[dict[str, Any], list[Predictions]]]:
    """Settings without `repeat`, each with its repeats, in order of first appearance."""
    groups: dict[tuple[tuple[str, Any], ...], list[Predictions]] = {}
    for item in predictions:
        key = tuple((name, value) for name, value in item.setting.items() if name != "repeat")
        groups.setdefault(key, []).append(item)
    return [(dict(key), items) for key, items in groups.items()]


def _panel(
    scores: np.ndarray,
    test: EmbeddingTable,
    dataset: DatasetInfo,
    usable: Sequence[int],
    settings: AbstractSettings,
) -> Panel:
    groups = by_appearance(test.patients)
    return panel_of(
        scores,
        test.labels,
        (groups.index, len(groups)),
        dataset,
        usable=usable,
        specificity=settings.specificity,
    )


def panel_of(
    scores: np.ndarray,
    labels: np.ndarray,
    patients: tuple[np.ndarray, int],
    dataset: DatasetInfo,
    *,
    usable: Sequence[int],
    specificity: float,
    only: str | None = None,
) -> Panel:
    """All metrics of one set of scores.

    Args:
        scores: (samples, classes).
        labels: (samples,) class indices, or (samples, classes) 0/1.
        patients: index of each sample's patient, and how many there are.
        dataset: task and classes.
        usable: class indices with positives and negatives.
        specificity: of the sensitivity.
        only: the one metric that is wanted: others are left out where that saves time.
    """
    hot = one_vs_rest(labels, len(dataset.class_names))
    parts = []
    if only is None or only in (*RANKED, STUDY):
        each = [] if dataset.task == "binary" else list(usable)
        columns = [(hot[:, c], scores[:, c], *patients) for c in each or [usable[-1]]]
        ranking = partial(RankingByPatient, specificity=specificity)
        rankings = [(AurocByPatient if only == "auroc" else ranking)(*one) for one in columns]
        parts.append(_ranked(rankings, each, len(dataset.class_names)))
    if dataset.task != "binary" and only in (None, MICRO):
        parts.append(_micro(scores, hot, patients))
    if only is None or not parts:
        parts.append(_decided(scores, labels, hot, patients, dataset))

    def metric(counts: np.ndarray) -> np.ndarray:
        # patient by patient in memory, as every sparse product wants it: turned once for all
        turned = np.asfortranarray(counts)
        return np.concatenate([part.metric(turned) for part in parts])

    keys = [key for part in parts for key in part.keys]
    return Panel(keys, metric, max(part.width for part in parts))


def _ranked(
    rankings: Sequence[AurocByPatient | RankingByPatient], each: Sequence[int], classes: int
) -> Panel:
    """Metrics of the order of scores, of the classes `each`; of a binary task's one if none."""
    names = RANKED if isinstance(rankings[0], RankingByPatient) else RANKED[:1]
    keys: list[Key] = [(name, c) for name in names for c in (None, *each)]
    absent = 0 < len(each) < classes
    keys += [(STUDY, None)] if absent else []

    def metric(counts: np.ndarray) -> np.ndarray:
        ranked = np.stack([ranking(counts) for ranking in rankings], axis=1)
        rows = [
            row for values in ranked for row in (values.mean(axis=0), *(values if each else ()))
        ]
        if absent:
            rows.append(np.nan_to_num(ranked[0]).sum(axis=0) / classes)
        return np.stack(rows)

    return Panel(keys, metric, max(ranking.steps for ranking in rankings))


def _micro(scores: np.ndarray, hot: np.ndarray, patients: tuple[np.ndarray, int]) -> Panel:
    """AUROC of all pairs of a sample and a class together."""
    who = np.repeat(patients[0], hot.shape[1])
    pairs = AurocByPatient(hot.ravel(), scores.ravel(), who, patients[1])
    return Panel([(MICRO, None)], pairs, pairs.steps)


def _decided(
    scores: np.ndarray,
    labels: np.ndarray,
    hot: np.ndarray,
    patients: tuple[np.ndarray, int],
    dataset: DatasetInfo,
) -> Panel:
    """Metrics of decisions, and of scores as probabilities."""
    predicted = predicted_labels(scores, dataset.task)
    guessed = one_vs_rest(predicted, hot.shape[1])
    parts: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "accuracy": accuracy_by_patient(labels, predicted, *patients)
    }
    if dataset.task != "multilabel":
        parts["balanced_accuracy"] = recalls_by_patient(labels, predicted, *patients)
    counted = hot.any(axis=0) if dataset.task != "binary" else np.array([False, True])
    parts["f1"] = f1_by_patient(hot[:, counted], guessed[:, counted], *patients)
    parts["brier"] = mean_by_patient(_squared(scores, hot, dataset)[:, None], *patients)
    parts["calibration_error"] = _calibration(scores, hot, predicted, patients, dataset)

    def metric(counts: np.ndarray) -> np.ndarray:
        return np.stack([part(counts).mean(axis=0) for part in parts.values()])

    return Panel([(name, None) for name in parts], metric, 1)


def _squared(scores: np.ndarray, hot: np.ndarray, dataset: DatasetInfo) -> np.ndarray:
    """Squared errors per sample: of the positive class, summed over classes, or their mean."""
    squared = (scores - hot) ** 2
    if dataset.task == "binary":
        return np.asarray(squared[:, -1])
    return np.asarray(squared.mean(axis=1) if dataset.task == "multilabel" else squared.sum(axis=1))


def _calibration(
    scores: np.ndarray,
    hot: np.ndarray,
    predicted: np.ndarray,
    patients: tuple[np.ndarray, int],
    dataset: DatasetInfo,
) -> CalibrationByPatient:
    """Of the positive class, of the predicted class, or of every label."""
    if dataset.task == "multiclass":
        rows = np.arange(len(hot))
        confidence = np.clip(scores[rows, predicted], 0.0, 1.0)
        return CalibrationByPatient(confidence[:, None], hot[rows, predicted][:, None], *patients)
    columns = slice(-1, None) if dataset.task == "binary" else slice(None)
    return CalibrationByPatient(scores[:, columns], hot[:, columns], *patients)


def _values(
    setting: Mapping[str, Any],
    keys: Sequence[Key],
    estimates: Sequence[Estimate],
    values: np.ndarray,
    *,
    test: EmbeddingTable,
    dataset: DatasetInfo,
) -> list[MetricValue]:
    hot = one_vs_rest(test.labels, len(dataset.class_names))
    patients = len(np.unique(test.patients))
    return [
        MetricValue(
            name=name,
            setting=dict(setting),
            class_name=None if index is None else dataset.class_names[index],
            value=_defined(item.value),
            ci_low=_defined(item.low),
            ci_high=_defined(item.high),
            n=len(hot),
            n_patients=patients,
            n_positive=None if index is None else int(hot[:, index].sum()),
            resamples=item.resamples,
            undefined=item.undefined,
            values=tuple(_defined(float(value)) for value in column),
        )
        for (name, index), item, column in zip(keys, estimates, values.T, strict=True)
    ]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value
