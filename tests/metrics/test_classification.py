"""Weighted metrics against scikit-learn's, which take sample weights one set at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import multilabel_auroc

from dinorad_rt.metrics.classification import (
    weighted_accuracy,
    weighted_auroc,
    weighted_average_precision,
    weighted_recalls,
)

SAMPLES, RESAMPLES = 83, 7


@pytest.fixture
def weights() -> np.ndarray:
    """Resamples as weights: how often each sample was drawn."""
    return np.random.default_rng(1).integers(0, 4, (RESAMPLES, SAMPLES)).astype(np.float64)


@pytest.fixture(params=["distinct", "tied", "constant"])
def scores(request: pytest.FixtureRequest) -> np.ndarray:
    """Scores without ties, with many, and all equal."""
    raw = np.random.default_rng(2).random(SAMPLES)
    return {"distinct": raw, "tied": raw.round(1), "constant": np.zeros(SAMPLES)}[request.param]


@pytest.fixture
def positive(scores: np.ndarray) -> np.ndarray:
    """Truth that the scores explain in part."""
    return np.random.default_rng(3).random(SAMPLES) < 0.2 + 0.5 * scores


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (weighted_auroc, reference.roc_auc_score),
        (weighted_average_precision, reference.average_precision_score),
    ],
)
def test_ranking_metrics_equal_scikit_learn(ours, theirs, positive, scores, weights) -> None:
    expected = [theirs(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(ours(positive, scores, weights), expected, rtol=1e-12)


def test_macro_auroc_equals_torchmetrics() -> None:
    random = np.random.default_rng(4)
    scores, truth = random.random((200, 5)), random.integers(0, 2, (200, 5))
    once = np.ones((1, 200))
    ours = [weighted_auroc(truth[:, c] == 1, scores[:, c], once)[0] for c in range(5)]
    theirs = multilabel_auroc(torch.tensor(scores), torch.tensor(truth), 5, average="macro")
    assert np.mean(ours) == pytest.approx(float(theirs), abs=1e-6)


def test_recalls_and_accuracy_equal_scikit_learn(weights: np.ndarray) -> None:
    random = np.random.default_rng(5)
    truth, predicted = random.integers(0, 3, (2, SAMPLES))
    recalls = weighted_recalls(truth, predicted, weights)
    for row, recall, accuracy in zip(
        weights, recalls, weighted_accuracy(truth, predicted, weights), strict=True
    ):
        expected = reference.recall_score(
            truth, predicted, average=None, sample_weight=row, zero_division=np.nan
        )
        np.testing.assert_allclose(recall, expected)
        assert accuracy == pytest.approx(
            reference.accuracy_score(truth, predicted, sample_weight=row)
        )
    plain = weighted_recalls(truth, predicted, np.ones((1, SAMPLES))).mean()
    assert plain == pytest.approx(reference.balanced_accuracy_score(truth, predicted))


def test_undefined_is_nan_and_never_zero() -> None:
    scores, everyone = np.array([0.1, 0.2, 0.3]), np.ones((1, 3))
    assert np.isnan(weighted_auroc(np.ones(3, bool), scores, everyone)[0])
    assert np.isnan(weighted_auroc(np.zeros(3, bool), scores, everyone)[0])
    assert np.isnan(weighted_average_precision(np.zeros(3, bool), scores, everyone)[0])


def test_multilabel_accuracy_counts_rows_that_are_right_in_every_label() -> None:
    truth = np.array([[1, 0], [1, 1]])
    predicted = np.array([[1, 0], [1, 0]])
    assert weighted_accuracy(truth, predicted, np.ones((1, 2)))[0] == 0.5
