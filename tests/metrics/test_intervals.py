"""Intervals by patient: against a plain loop, and against the truth by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dinorad_rt.metrics.by_patient import RankingByPatient
from dinorad_rt.metrics.classification import weighted_auroc
from dinorad_rt.metrics.intervals import (
    bootstrap_patients,
    cluster_bootstrap,
    few_patients_notes,
    patient_weights,
)


def clustered(random: np.random.Generator, patients: int, images: int, shared: float):
    """Scores with a patient effect; every image of a patient has the patient's label."""
    sick = random.random(patients) < 0.5
    effect = random.standard_normal(patients) * shared
    own = random.standard_normal((patients, images)) * np.sqrt(1 - shared**2)
    scores = (sick[:, None] + effect[:, None] + own).ravel()
    return sick.repeat(images), scores, np.arange(patients).repeat(images)


def test_equals_a_plain_loop_over_the_same_draws() -> None:
    truth, scores, patients = clustered(np.random.default_rng(0), 30, 3, 0.7)
    estimate = cluster_bootstrap(
        {"auroc": lambda w: weighted_auroc(truth, scores, w)}, patients, resamples=200, seed=5
    )["auroc"]
    values = []
    for weights in patient_weights(patients, resamples=200, seed=5):
        for row in weights:
            index = np.repeat(np.arange(len(truth)), row.astype(int))
            values.append(roc_auc_score(truth[index], scores[index]))
    assert estimate.value == pytest.approx(roc_auc_score(truth, scores))
    assert [estimate.low, estimate.high] == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_images_of_one_patient_are_drawn_together() -> None:
    patients = np.array(["a", "b", "a", "c", "b", "a"])
    for weights in patient_weights(patients, resamples=50, seed=0):
        assert (weights[:, 0] == weights[:, 2]).all()
        assert (weights[:, 0] == weights[:, 5]).all()
        assert (weights[:, 1] == weights[:, 4]).all()
        assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_seed_decides_and_zero_is_a_seed() -> None:
    truth, scores, patients = clustered(np.random.default_rng(0), 20, 2, 0.5)
    metric = {"auroc": lambda w: weighted_auroc(truth, scores, w)}
    runs = [cluster_bootstrap(metric, patients, resamples=100, seed=s)["auroc"] for s in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0].low != runs[2].low


def test_one_patient_has_values_and_no_interval() -> None:
    metrics = {"positive": lambda w: w @ np.array([0.0, 1.0, 1.0]) / w.sum(axis=1)}
    found = cluster_bootstrap(metrics, np.array(["a", "a", "a"]))["positive"]
    assert found.value == pytest.approx(2 / 3)
    assert np.isnan([found.low, found.high]).all() and (found.resamples, found.undefined) == (0, 0)
    assert few_patients_notes(1) == ["1 test patient: no interval by patient can be given."]
    assert "too narrow" in few_patients_notes(2)[0] and not few_patients_notes(30)


def test_resamples_without_a_class_are_counted() -> None:
    truth = np.array([True, False, False, False])
    estimate = cluster_bootstrap(
        {"auroc": lambda w: weighted_auroc(truth, np.arange(4.0), w)}, np.arange(4), resamples=500
    )["auroc"]
    assert 0.25 < estimate.undefined / estimate.resamples < 0.40  # (3/4)^4 + a single class


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = np.arange(10)
    whole = np.concatenate(list(patient_weights(patients, resamples=40, seed=3)))
    monkeypatch.setattr("dinorad_rt.metrics.intervals._CHUNK_VALUES", 100)
    parts = list(patient_weights(patients, resamples=40, seed=3))
    assert len(parts) == 4
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.slow
def test_coverage_by_patient_holds_and_by_image_fails() -> None:
    """95 % intervals by patient cover the true AUROC 93 to 97 times in 100; by image far fewer."""
    random = np.random.default_rng(7)
    truth, scores, _ = clustered(random, 400_000, 1, 0.9)
    true = roc_auc_score(truth, scores)
    covered = np.zeros(2)
    runs = 1000
    for run in range(runs):
        truth, scores, patients = clustered(random, 100, 6, 0.9)
        metric = {"auroc": lambda w, t=truth, s=scores: weighted_auroc(t, s, w)}
        for kind, groups in enumerate((patients, np.arange(len(patients)))):
            interval = cluster_bootstrap(metric, groups, resamples=400, seed=run)["auroc"]
            covered[kind] += interval.low <= true <= interval.high
    by_patient, by_image = covered / runs
    assert 0.93 <= by_patient <= 0.97
    assert by_image < 0.80


def test_coverage_in_small() -> None:
    """The same with fewer runs, for every test run: wider bounds, the same two findings."""
    random = np.random.default_rng(3)
    true = 0.7602  # AUROC of two unit normals one apart: Φ(1/√2)
    covered = np.zeros(2)
    for run in range(200):
        truth, scores, patients = clustered(random, 80, 6, 0.9)
        for kind, groups in enumerate((patients, np.arange(len(patients)))):
            metric = RankingByPatient(truth, scores, groups, groups[-1] + 1)
            auroc = bootstrap_patients(metric, groups[-1] + 1, resamples=200, seed=run)[0]
            covered[kind] += auroc.low <= true <= auroc.high
    by_patient, by_image = covered / 200
    assert 0.90 <= by_patient <= 0.99
    assert by_image < 0.85
