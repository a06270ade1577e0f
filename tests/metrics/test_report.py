"""Every metric of a run against scikit-learn and torchmetrics; draws against plain loops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
    multilabel_auroc,
)

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.intervals import mean_of_repeats, patient_counts
from dinorad_rt.metrics.report import Panel, panel_of, present_classes
from dinorad_rt.protocols.judge import judge
from dinorad_rt.protocols.knn import KNNSettings
from dinorad_rt.reports.results import Predictions, Results
from dinorad_rt.types import Task

NAMES = ("a", "b", "c")


def data(task: Task, rows: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Labels and informative scores with ties."""
    random = np.random.default_rng(4)
    if task == "multilabel":
        labels = (random.random((rows, 3)) < [0.5, 0.3, 0.1]).astype(np.int64)
        scores = 0.6 * random.random((rows, 3)) + 0.4 * labels * random.random((rows, 3))
        return labels, scores.round(2)
    classes = 2 if task == "binary" else 3
    labels = random.integers(classes, size=rows)
    raw = (random.random((rows, classes)) + 0.6 * np.eye(classes)[labels]).round(2)
    return labels, raw / raw.sum(axis=1, keepdims=True)


def run(task: Task, labels: np.ndarray, scores: np.ndarray, **settings: object) -> Results:
    names = np.array([f"s{i}" for i in range(len(labels))], dtype=object)
    patients = np.array([f"p{i // 2}" for i in range(len(labels))], dtype=object)
    points = np.zeros((len(labels), 1, 2), np.float32)
    table = EmbeddingTable(names, patients, np.full(len(labels), "test"), labels, points)
    info = DatasetInfo("toy", task, NAMES[: scores.shape[1]])
    chosen = KNNSettings(resamples=30).changed(settings)
    return judge("knn", table, info, [Predictions({"k": 1}, scores)], chosen, seed=0)


def test_binary() -> None:
    labels, scores = data("binary")
    results, positive = run("binary", labels, scores), scores[:, 1]
    predicted = scores.argmax(axis=1)
    false, true, _ = reference.roc_curve(labels, positive, drop_intermediate=False)
    confidence = binary_calibration_error(torch.tensor(positive), torch.tensor(labels), 15)
    expected = {
        "auroc": reference.roc_auc_score(labels, positive),
        "average_precision": reference.average_precision_score(labels, positive),
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "f1": reference.f1_score(labels, predicted),
        "sensitivity": true[1 - false >= 0.9 - 1e-9].max(),
        "brier": reference.brier_score_loss(labels, positive),
        "calibration_error": float(confidence),
    }
    assert {value.name for value in results.metrics} == set(expected)
    for name, value in expected.items():
        assert results.metric(name).value == pytest.approx(value, abs=1e-6), name


def test_multiclass() -> None:
    labels, scores = data("multiclass")
    results, predicted = run("multiclass", labels, scores), scores.argmax(axis=1)
    hot = np.eye(3)[labels]
    confidence = multiclass_calibration_error(torch.tensor(scores), torch.tensor(labels), 3, 15)
    expected = {
        "auroc": reference.roc_auc_score(labels, scores, multi_class="ovr"),
        "auroc_micro": reference.roc_auc_score(hot, scores, average="micro"),
        "average_precision": reference.average_precision_score(hot, scores, average="macro"),
        "f1": reference.f1_score(labels, predicted, average="macro"),
        "brier": ((scores - hot) ** 2).sum(axis=1).mean(),
        "calibration_error": float(confidence),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
    }
    for name, value in expected.items():
        assert results.metric(name).value == pytest.approx(value, abs=1e-6), name
    for c, name in enumerate(NAMES):
        found = results.metric("auroc", name)
        assert found.value == pytest.approx(reference.roc_auc_score(labels == c, scores[:, c]))
        assert found.n_positive == (labels == c).sum()


def test_multilabel() -> None:
    labels, scores = data("multilabel")
    results, predicted = run("multilabel", labels, scores), scores >= 0.5
    errors = [
        float(binary_calibration_error(torch.tensor(scores[:, c]), torch.tensor(labels[:, c]), 15))
        for c in range(3)
    ]
    expected = {
        "auroc": reference.roc_auc_score(labels, scores),
        "auroc_micro": reference.roc_auc_score(labels, scores, average="micro"),
        "average_precision": reference.average_precision_score(labels, scores),
        "accuracy": reference.accuracy_score(labels, predicted),
        "f1": reference.f1_score(labels, predicted, average="macro"),
        "brier": ((scores - labels) ** 2).mean(),
        "calibration_error": np.mean(errors),
    }
    for name, value in expected.items():
        assert results.metric(name).value == pytest.approx(value, abs=1e-6), name
    with pytest.raises(KeyError):
        results.metric("balanced_accuracy")


def test_the_studys_macro_counts_an_absent_class_as_zero() -> None:
    """As torchmetrics does, which the study uses (PROTOCOLS 1.4); ours leaves the class out."""
    labels, scores = data("multilabel")
    labels[:, 1] = 0
    results = run("multilabel", labels, scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = multilabel_auroc(torch.tensor(scores), torch.tensor(labels), 3)
    assert results.metric("auroc_study").value == pytest.approx(float(theirs), abs=1e-6)
    present = [reference.roc_auc_score(labels[:, c], scores[:, c]) for c in (0, 2)]
    assert results.metric("auroc").value == pytest.approx(np.mean(present))
    assert list(results.excluded_classes) == ["b"]
    assert not any(
        value.name == "auroc_study" for value in run("multilabel", *data("multilabel")).metrics
    )


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_draws_equal_metrics_of_the_repeated_images(task: Task) -> None:
    labels, scores = data(task, 60)
    index = np.arange(60) // 3
    info = DatasetInfo("toy", task, NAMES[: scores.shape[1]])

    def panel(labels: np.ndarray, scores: np.ndarray, index: np.ndarray, patients: int):
        return panel_of(
            scores,
            labels,
            (index, patients),
            info,
            usable=list(range(scores.shape[1])),
            specificity=0.8,
        )

    whole = panel(labels, scores, index, 20)
    (counts,) = patient_counts(20, resamples=40, seed=1)
    drawn = whole.metric(counts)
    for row, values in zip(counts, drawn.T, strict=True):
        images = np.repeat(np.arange(60), row[index])
        usable, _ = present_classes(labels[images], info.class_names)
        if len(usable) < scores.shape[1]:
            continue
        again = panel(labels[images], scores[images], np.zeros(len(images), int), 1)
        np.testing.assert_allclose(values, again.metric(np.ones((1, 1), int))[:, 0], atol=1e-9)


def test_mean_of_repeats_covers_the_spread_of_repeats() -> None:
    values = np.array([[0.6], [0.9]])
    draws = np.repeat(values[:, :, None], 4000, axis=2)  # no spread from patients at all
    (found,) = mean_of_repeats(values, draws, seed=0)
    assert found.value == pytest.approx(0.75)
    assert (found.low, found.high) == (0.6, 0.9)
    assert mean_of_repeats(values, draws, seed=0) == [found]


def test_specificity_is_a_setting() -> None:
    labels, scores = data("binary")
    loose = run("binary", labels, scores, specificity=0.5).metric("sensitivity").value
    strict = run("binary", labels, scores, specificity=0.99).metric("sensitivity").value
    assert strict < loose  # type: ignore[operator]
    with pytest.raises(ProtocolError, match="between 0 and 1"):
        KNNSettings(specificity=1.0)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_one_metric_alone_is_the_same_to_the_bit_and_leaves_out_others(task: Task) -> None:
    labels, scores = data(task)
    classes = scores.shape[1]
    info = DatasetInfo("toy", task, NAMES[:classes])
    patients = (np.arange(len(labels)) // 2, len(labels) // 2)
    usable = list(range(classes)) if task == "binary" else [0, 2]
    counts = next(patient_counts(patients[1], resamples=20, seed=0))

    def panel(only: str | None) -> Panel:
        return panel_of(scores, labels, patients, info, usable=usable, specificity=0.9, only=only)

    whole = panel(None)
    everything = dict(zip(whole.keys, whole.metric(counts), strict=True))
    for name in {name for name, _ in whole.keys}:
        one = panel(name)
        rows = dict(zip(one.keys, one.metric(counts), strict=True))
        assert {key for key in whole.keys if key[0] == name} <= set(rows)
        assert len(rows) < len(everything)
        for key, row in rows.items():
            np.testing.assert_array_equal(row, everything[key])
