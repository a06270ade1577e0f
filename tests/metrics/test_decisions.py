"""Decisions and probabilities against scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import binary_calibration_error

from dinorad_rt.metrics.decisions import (
    weighted_brier,
    weighted_calibration_error,
    weighted_f1,
    weighted_micro_auroc,
    weighted_sensitivity_at,
)

RANDOM = np.random.default_rng(0)
HOT = RANDOM.random((90, 3)) < 0.4
SCORES = (0.5 * RANDOM.random((90, 3)) + 0.5 * HOT * RANDOM.random((90, 3))).round(2)
WEIGHTS = RANDOM.integers(0, 4, (5, 90)).astype(float)


def test_f1_equals_scikit_learn() -> None:
    predicted = SCORES > 0.4
    for row, found in zip(WEIGHTS, weighted_f1(HOT, predicted, WEIGHTS), strict=True):
        expected = reference.f1_score(HOT, predicted, average=None, sample_weight=row)
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("specificity", [0.0, 0.8, 0.95, 1.0])
def test_sensitivity_at_a_specificity_is_on_the_roc_curve(specificity: float) -> None:
    found = weighted_sensitivity_at(HOT[:, 0], SCORES[:, 0], WEIGHTS, specificity=specificity)
    for row, value in zip(WEIGHTS, found, strict=True):
        false, true, _ = reference.roc_curve(
            HOT[:, 0], SCORES[:, 0], sample_weight=row, drop_intermediate=False
        )
        assert value == pytest.approx(true[1 - false >= specificity - 1e-9].max())


def test_micro_auroc_equals_scikit_learn() -> None:
    expected = [
        reference.roc_auc_score(HOT, SCORES, average="micro", sample_weight=row) for row in WEIGHTS
    ]
    np.testing.assert_allclose(weighted_micro_auroc(HOT, SCORES, WEIGHTS), expected)


def test_brier_equals_scikit_learn() -> None:
    expected = [
        reference.brier_score_loss(HOT[:, 0], SCORES[:, 0], sample_weight=row) for row in WEIGHTS
    ]
    np.testing.assert_allclose(weighted_brier(HOT[:, :1], SCORES[:, :1], WEIGHTS), expected)


def test_calibration_error_equals_torchmetrics() -> None:
    confidence = RANDOM.random(500)
    right = RANDOM.random(500) < confidence**2
    ours = weighted_calibration_error(confidence, right, np.ones((1, 500)))
    theirs = binary_calibration_error(torch.tensor(confidence), torch.tensor(right).int(), 15)
    assert ours[0] == pytest.approx(float(theirs), abs=1e-6)
