"""Metrics on counts of patients against the same metrics on weights of samples."""

from __future__ import annotations

import numpy as np
import pytest

from dinorad_rt.metrics import by_patient, classification
from dinorad_rt.metrics.intervals import bootstrap_patients, cluster_bootstrap


@pytest.fixture(params=["distinct", "tied", "constant"])
def scores(request: pytest.FixtureRequest) -> np.ndarray:
    """Scores of 200 samples without ties, with many, and all equal."""
    raw = np.random.default_rng(2).random(200)
    return {"distinct": raw, "tied": raw.round(1), "constant": np.zeros(200)}[request.param]


PATIENT = np.unique(np.random.default_rng(3).integers(0, 40, 200), return_inverse=True)[1]
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
