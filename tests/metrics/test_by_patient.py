"""Metrics on counts of patients against the same metrics on weights of samples.

Those weights go into our own functions, which are those of scikit-learn, or into scikit-learn.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import binary_calibration_error

from dinorad_rt.appearance import by_appearance
from dinorad_rt.metrics import by_patient, classification
from dinorad_rt.metrics.intervals import bootstrap_patients, cluster_bootstrap


@pytest.fixture(params=["distinct", "tied", "constant"])
def scores(request: pytest.FixtureRequest) -> np.ndarray:
    """Scores of 200 samples without ties, with many, and all equal."""
    raw = np.random.default_rng(2).random(200)
    return {"distinct": raw, "tied": raw.round(1), "constant": np.zeros(200)}[request.param]


PATIENT = by_appearance(np.random.default_rng(3).integers(0, 40, 200)).index
PATIENTS = int(PATIENT.max()) + 1
COUNTS = np.random.default_rng(4).integers(0, 4, (9, PATIENTS))
WEIGHTS = COUNTS[:, PATIENT].astype(float)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("exact", [2**24, 0])
def test_ranking(
    scores: np.ndarray, share: float, exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_patient, "_EXACT_FLOAT32", exact)
    positive = np.random.default_rng(5).random(200) < share
    found = by_patient.RankingByPatient(positive, scores, PATIENT, PATIENTS)(COUNTS)
    auroc = classification.weighted_auroc(positive, scores, WEIGHTS)
    precision = classification.weighted_average_precision(positive, scores, WEIGHTS)
    np.testing.assert_allclose(found, [auroc, precision], rtol=1e-12)


def test_shares() -> None:
    truth, predicted = np.random.default_rng(6).integers(0, 3, (2, 200))
    recalls = by_patient.recalls_by_patient(truth, predicted, PATIENT, PATIENTS)
    accuracy = by_patient.accuracy_by_patient(truth, predicted, PATIENT, PATIENTS)
    np.testing.assert_allclose(
        recalls(COUNTS).T, classification.weighted_recalls(truth, predicted, WEIGHTS)
    )
    np.testing.assert_allclose(
        accuracy(COUNTS)[0], classification.weighted_accuracy(truth, predicted, WEIGHTS)
    )


@pytest.mark.parametrize("specificity", [0.0, 0.8, 0.95, 1.0])
def test_sensitivity_at_a_specificity_is_on_the_roc_curve(
    scores: np.ndarray, specificity: float
) -> None:
    positive = np.random.default_rng(5).random(200) < 0.2 + 0.4 * scores
    ranking = by_patient.RankingByPatient(
        positive, scores, PATIENT, PATIENTS, specificity=specificity
    )
    for row, value in zip(WEIGHTS, ranking(COUNTS)[2], strict=True):
        false, true, _ = reference.roc_curve(
            positive, scores, sample_weight=row, drop_intermediate=False
        )
        assert value == pytest.approx(true[1 - false >= specificity - 1e-9].max())


def test_micro_auroc_f1_and_brier_are_scikit_learns() -> None:
    random = np.random.default_rng(8)
    hot = random.random((200, 3)) < 0.4
    scores = (0.5 * random.random((200, 3)) + 0.5 * hot * random.random((200, 3))).round(2)
    guess = scores > 0.4
    pairs = by_patient.RankingByPatient(
        hot.ravel(), scores.ravel(), np.repeat(PATIENT, 3), PATIENTS
    )
    f1 = by_patient.f1_by_patient(hot, guess, PATIENT, PATIENTS)
    brier = by_patient.mean_by_patient((scores - hot) ** 2, PATIENT, PATIENTS)
    found = zip(WEIGHTS, pairs(COUNTS)[0], f1(COUNTS).T, brier(COUNTS).T, strict=True)
    for row, micro, harmonic, squares in found:
        weighted = {"sample_weight": row}
        assert micro == pytest.approx(
            reference.roc_auc_score(hot, scores, average="micro", **weighted)
        )
        np.testing.assert_allclose(
            harmonic, reference.f1_score(hot, guess, average=None, **weighted)
        )
        for label in range(3):
            wanted = reference.brier_score_loss(hot[:, label], scores[:, label], **weighted)
            assert squares[label] == pytest.approx(wanted)


def test_calibration_error_is_torchmetrics() -> None:
    random = np.random.default_rng(9)
    confidence = random.random(200)
    right = random.random(200) < confidence**2
    both = np.stack([confidence, confidence[::-1]], axis=1), np.stack([right, right[::-1]], axis=1)
    who = PATIENT, PATIENTS
    alone = by_patient.CalibrationByPatient(*(part[:, :1] for part in both), *who)(COUNTS)
    found = by_patient.CalibrationByPatient(*both, *who)(COUNTS)
    np.testing.assert_allclose(found[:1], alone, rtol=1e-14)
    assert not np.allclose(found[0], found[1])
    for row, value in zip(WEIGHTS.astype(int), found[0], strict=True):
        drawn = np.repeat(np.arange(200), row)
        theirs = binary_calibration_error(
            torch.tensor(confidence[drawn]), torch.tensor(right[drawn]).int(), 15
        )
        assert value == pytest.approx(float(theirs), abs=1e-6)


def test_both_bootstraps_draw_the_same(scores: np.ndarray) -> None:
    positive = np.random.default_rng(7).random(200) < 0.3
    slow = cluster_bootstrap(
        {"auroc": lambda w: classification.weighted_auroc(positive, scores, w)},
        PATIENT,
        resamples=60,
        seed=3,
    )["auroc"]
    ranking = by_patient.RankingByPatient(positive, scores, PATIENT, PATIENTS)
    fast = bootstrap_patients(ranking, PATIENTS, resamples=60, seed=3)[0]
    assert (fast.low, fast.high, fast.value) == pytest.approx((slow.low, slow.high, slow.value))
