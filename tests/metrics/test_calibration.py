"""Calibration and thresholds against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, recall_score

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.calibration import (
    fit_calibration,
    fit_platt,
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
    (found,) = fit_temperature(true * 3.0, labels)
    assert found == pytest.approx(3.0, rel=0.05)
    calm = probabilities(true * 3.0, "softmax", found)
    assert log_loss(labels, calm) < log_loss(labels, softmax(true * 3.0, axis=1))
    assert negative_log_likelihood(true * 3, labels, "softmax", found) == pytest.approx(
        log_loss(labels, calm)
    )


def test_an_offset_and_a_temperature_are_scikit_learns_platt_scaling(
    rng: np.random.Generator,
) -> None:
    """Two labels, and two classes of which one is rare and was weighed up in training."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    x = rng.standard_normal((4_000, 2)) * 3
    labels = (rng.random((4_000, 2)) < expit(x * [0.5, 1.6] + [-2.0, 1.0])).astype(int)
    temperature, bias = fit_calibration(x, labels, "sigmoid")
    found = probabilities(x, "sigmoid", temperature, bias)
    for index in range(2):
        logit = x[:, index : index + 1]
        model = LogisticRegression(C=1e9, tol=1e-10).fit(logit, labels[:, index])
        model.coef_[:], model.intercept_[:] = 1.0, 0.0  # its decision is the logit
        judge = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
        wanted = judge.fit(logit, labels[:, index]).predict_proba(logit)[:, 1]
        np.testing.assert_allclose(found[:, index], wanted, atol=1e-4)
        logits = np.stack([-logit[:, 0] / 2, logit[:, 0] / 2], axis=1)
        both = fit_calibration(logits, labels[:, index], "softmax")
        np.testing.assert_allclose(probabilities(logits, "softmax", *both)[:, 1], wanted, atol=1e-4)


def test_what_training_weighed_up_comes_down_to_its_true_share(rng: np.random.Generator) -> None:
    """Balanced classes shift the logits, which no temperature undoes."""
    positive = rng.random((2, 5_000)) < 0.03
    x = rng.standard_normal((2, 5_000)) + 2 * positive
    fitted, judged = (
        (LogisticRegression(class_weight="balanced").fit(x[0][:, None], positive[0]))
        .decision_function(np.concatenate(x)[:, None])
        .reshape(2, -1)
    )
    temperature, bias = fit_platt(fitted, positive[0])
    assert expit(judged).mean() > 0.15
    assert expit(judged / temperature + bias).mean() == pytest.approx(positive[1].mean(), abs=0.01)


def test_what_is_of_one_kind_keeps_its_probabilities(rng: np.random.Generator) -> None:
    labels = np.zeros((50, 2), int)
    labels[::2, 1] = 1
    temperature, bias = fit_calibration(rng.standard_normal((50, 2)), labels, "sigmoid")
    assert (temperature[0], bias[0]) == (1.0, 0.0) != (temperature[1], bias[1])


def test_a_few_images_that_are_told_apart_give_no_certainty() -> None:
    logit = np.asarray([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    temperature, bias = fit_platt(logit, logit > 0)
    found = expit(logit / temperature + bias)
    assert 0.02 < found.min() < 0.3 and 0.7 < found.max() < 0.98


def test_several_classes_keep_the_most_probable(rng: np.random.Generator) -> None:
    logits = rng.standard_normal((300, 3))
    labels = np.where(rng.random(300) < 0.9, 0, rng.integers(1, 3, 300))
    temperature, bias = fit_calibration(logits, labels, "softmax")
    assert not bias.any() and temperature.shape == (1,)


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
