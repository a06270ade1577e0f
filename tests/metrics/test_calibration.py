"""Calibration and thresholds against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, recall_score

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.calibration import (
    fit_temperature,
    negative_log_likelihood,
    operating_point,
    probabilities,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_softmax_temperature_is_the_one_that_made_the_labels(rng: np.random.Generator) -> None:
    true = rng.standard_normal((20_000, 4)) * 2
    labels = np.asarray([rng.choice(4, p=p) for p in softmax(true, axis=1)])
    (found,) = fit_temperature(true * 3.0, labels, "softmax")
    assert found == pytest.approx(3.0, rel=0.05)
    calm = probabilities(true * 3.0, "softmax", found)
    assert log_loss(labels, calm) < log_loss(labels, softmax(true * 3.0, axis=1))
    assert negative_log_likelihood(true * 3, labels, "softmax", found) == pytest.approx(
        log_loss(labels, calm)
    )


def test_sigmoid_temperature_is_logistic_regression_without_intercept(
    rng: np.random.Generator,
) -> None:
    logits = rng.standard_normal((4_000, 2)) * 3
    labels = (rng.random((4_000, 2)) < expit(logits * [0.5, 1.6])).astype(int)
    found = fit_temperature(logits, labels, "sigmoid")
    for index in range(2):
        model = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10)
        model.fit(logits[:, index : index + 1], labels[:, index])
        assert 1 / found[index] == pytest.approx(model.coef_[0, 0], rel=1e-3)


def test_a_label_of_one_kind_keeps_its_temperature(rng: np.random.Generator) -> None:
    labels = np.zeros((50, 2), int)
    labels[::2, 1] = 1
    assert fit_temperature(rng.standard_normal((50, 2)), labels, "sigmoid")[0] == 1.0


@pytest.mark.parametrize("rule", ["youden", "sensitivity", "specificity"])
def test_the_operating_point_is_the_best_of_all_thresholds(
    rng: np.random.Generator, rule: str
) -> None:
    positive = rng.random(300) < 0.3
    score = np.round(expit(rng.standard_normal(300) + positive), 2)
    found = operating_point(positive, score, rule=rule, least=0.8)  # type: ignore[arg-type]
    called = score >= found.threshold
    assert recall_score(positive, called) == pytest.approx(found.sensitivity)
    assert recall_score(~positive, ~called) == pytest.approx(found.specificity)
    pairs = [
        (recall_score(positive, score >= t), recall_score(~positive, score < t))
        for t in np.unique(score)
    ]
    if rule == "youden":
        assert found.sensitivity + found.specificity == pytest.approx(max(map(sum, pairs)))
    elif rule == "sensitivity":
        assert found.specificity == pytest.approx(max(b for a, b in pairs if a >= 0.8))
    else:
        assert found.sensitivity == pytest.approx(max(a for a, b in pairs if b >= 0.8))


def test_one_kind_of_image_gives_no_threshold() -> None:
    with pytest.raises(ProtocolError, match="positive"):
        operating_point(np.ones(5, bool), np.linspace(0, 1, 5))
