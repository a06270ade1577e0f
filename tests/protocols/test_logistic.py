"""Logistic regression against scikit-learn's at equal C: the same optimum and the same scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.logistic import (
    CS,
    LogisticClassifier,
    LogisticSettings,
    evaluate_logistic,
)

EXACT = {"tol": 1e-10, "max_iter": 50_000}
STRENGTHS = (1e-6, 1e-2, 1.0, 1e2, 1e5)


def data(rows: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features around one centre per class; separable where rows are few."""
    random = np.random.default_rng(rows + classes)
    labels = np.arange(rows) % classes
    centres = random.standard_normal((classes, dim)) * 0.3
    mixing = random.standard_normal((dim, dim)) / np.sqrt(dim)
    return (centres[labels] + random.standard_normal((rows, dim))) @ mixing + 3.0, labels


def objective(C: float, coef: np.ndarray, losses: np.ndarray) -> float:
    """Scikit-learn's."""
    return float(C * losses.sum() + 0.5 * (coef**2).sum())


def softmax_objective(
    C: float, coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray
) -> float:
    logits = log_softmax(X @ coef.T + intercept, axis=1)
    return objective(C, coef, -logits[np.arange(len(y)), y])


def sigmoid_objective(
    C: float, coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray
) -> float:
    logits = X @ coef + intercept
    return objective(C, coef, np.logaddexp(0, np.where(y, -logits, logits)))


@pytest.mark.parametrize("rows", [40, 300])
@pytest.mark.parametrize("C", STRENGTHS)
def test_binary_optimum_is_scikit_learns(rows: int, C: float) -> None:
    X, y = data(rows, 24, 2)
    theirs = LogisticRegression(C=C, **EXACT).fit(X, y)
    ours = LogisticClassifier(C).fit(X, y)
    expected = sigmoid_objective(C, theirs.coef_[0], theirs.intercept_, X, y)
    found = sigmoid_objective(C, ours.coef_[0], ours.intercept_, X, y)
    assert found == pytest.approx(ours.loss_, rel=1e-9)
    assert found <= expected * (1 + 1e-6)
    assert found >= expected * (1 - 1e-5)  # theirs stops earlier on separable data
    if C <= 1:
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("rows", [40, 300])
@pytest.mark.parametrize("C", STRENGTHS)
def test_softmax_optimum_is_scikit_learns(rows: int, C: float) -> None:
    X, y = data(rows, 24, 4)
    theirs = LogisticRegression(C=C, **EXACT).fit(X, y)
    ours = LogisticClassifier(C).fit(X, y)
    expected = softmax_objective(C, theirs.coef_, theirs.intercept_, X, y)
    found = softmax_objective(C, ours.coef_, ours.intercept_, X, y)
    assert found <= expected * (1 + 1e-6)
    assert found >= expected * (1 - 1e-5)
    if C <= 1:
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


def test_one_vs_rest_equals_scikit_learns() -> None:
    X, y = data(200, 16, 3)
    theirs = OneVsRestClassifier(LogisticRegression(C=0.1, **EXACT)).fit(X, y)
    ours = LogisticClassifier(0.1, scheme="one-vs-rest").fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)


def test_labels_of_a_multilabel_task_are_problems_of_their_own() -> None:
    X, _ = data(200, 16, 3)
    hot = (np.random.default_rng(0).random((200, 3)) < [0.5, 0.1, 0.02]).astype(int)
    ours = LogisticClassifier(0.5).fit(X, hot)
    for label in range(3):
        theirs = LogisticRegression(C=0.5, **EXACT).fit(X, hot[:, label])
        np.testing.assert_allclose(
            ours.predict_proba(X)[:, label], theirs.predict_proba(X)[:, 1], atol=1e-5
        )


def test_the_path_ends_where_a_start_from_zero_does() -> None:
    X, y = data(120, 60, 3)
    path = LogisticClassifier().fit_path(X, y, CS)
    assert [model.C for model in path] == sorted(CS)
    for index in (0, 20, 44):
        alone = LogisticClassifier(CS[index]).fit(X, y)
        assert path[index].loss_ == pytest.approx(alone.loss_, rel=1e-6)


def test_more_features_than_rows() -> None:
    X, y = data(30, 200, 2)
    theirs = LogisticRegression(C=1.0, **EXACT).fit(X, y)
    ours = LogisticClassifier(1.0).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


def test_classes_that_are_never_or_always_there_have_constant_scores() -> None:
    X, y = data(60, 8, 2)
    scores = LogisticClassifier(num_classes=4).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert (scores[:, 2:] == 0).all()
    hot = np.stack([y, np.zeros_like(y), np.ones_like(y)], axis=1)
    scores = LogisticClassifier().fit(X, hot).predict_proba(X)
    np.testing.assert_allclose(scores[:, 1:], [[1 / 62, 61 / 62]] * 60)
    only = LogisticClassifier(num_classes=3).fit(X, np.ones(60, int)).predict_proba(X)
    np.testing.assert_array_equal(only, [[0, 1, 0]] * 60)


def test_c_is_chosen_on_validation_and_refitted_on_both(
    make_table: Callable[..., EmbeddingTable],
) -> None:
    labels = np.arange(60) % 2
    train, val, test = (
        make_table(labels, split, seed=i) for i, split in enumerate(("a", "b", "c"))
    )
    info = DatasetInfo("toy", "binary", ("no", "yes"))
    settings = LogisticSettings(Cs=(1e-4, 1e-2, 1.0), resamples=50)
    results = evaluate_logistic(train, val, test, info, settings)
    C = results.settings["chosen_C"]
    both = np.concatenate([train.cls[:, -1], val.cls[:, -1]]), np.concatenate([labels, labels])
    theirs = LogisticRegression(C=C, **EXACT).fit(*both)
    np.testing.assert_allclose(
        results.predictions[0].scores, theirs.predict_proba(test.cls[:, -1]), atol=1e-4
    )
    best = np.argmax(results.settings["validation"])
    assert settings.Cs[best] == C


def test_test_labels_choose_nothing(make_table: Callable[..., EmbeddingTable]) -> None:
    """Other test labels, the same scores and the same C."""
    labels = np.arange(60) % 3
    train, val, test = (
        make_table(labels, split, seed=i) for i, split in enumerate(("a", "b", "c"))
    )
    info = DatasetInfo("toy", "multiclass", ("x", "y", "z"))
    settings = LogisticSettings(Cs=(1e-4, 1e-2, 1.0), resamples=20)
    found = []
    for shift in (0, 1):
        other = make_table((labels + shift) % 3, "c", seed=2)
        other.cls[:] = test.cls
        found.append(evaluate_logistic(train, val, other, info, settings))
    assert found[0].chosen == found[1].chosen
    np.testing.assert_array_equal(found[0].predictions[0].scores, found[1].predictions[0].scores)


def test_without_a_val_split_one_is_cut_by_patient(
    make_table: Callable[..., EmbeddingTable],
) -> None:
    labels = np.arange(60) % 2
    train, test = make_table(labels, "a"), make_table(labels, "c", seed=2)
    info = DatasetInfo("toy", "binary", ("no", "yes"))
    settings = LogisticSettings(Cs=(1e-3, 1.0), resamples=20)
    results = evaluate_logistic(train, train.take(slice(0, 0)), test, info, settings)
    assert any("set apart by patient" in note for note in results.notes)
    assert 0 < results.settings["validation_images"] < 30


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ProtocolError, match="above 0"):
        LogisticSettings(Cs=(0.0, 1.0))
    with pytest.raises(ProtocolError, match="one of multinomial, one-vs-rest"):
        LogisticSettings().changed({"scheme": "ovo"})
