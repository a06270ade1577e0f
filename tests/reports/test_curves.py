"""Curves equal scikit-learn's; bands equal a loop over resampled patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import calibration, metrics

from dinorad_rt.appearance import by_appearance
from dinorad_rt.metrics.intervals import patient_counts
from dinorad_rt.reports import curves
from dinorad_rt.reports.figures import curves_figure
from dinorad_rt.reports.plots import to_svg


def drawn(
    seed: int = 0, n: int = 120, patients: int = 40, ties: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores with ties, and patients with several images each."""
    random = np.random.default_rng(seed)
    patient = random.integers(patients, size=n)
    positive = random.random(n) < 0.4
    score = 1 / (1 + np.exp(-(random.normal(size=n) + positive)))
    return positive, np.round(score, 2) if ties else score, patient


@pytest.mark.parametrize("ties", [True, False])
def test_roc_points_equal_scikit_learn(ties: bool) -> None:
    positive, score, _ = drawn(ties=ties)
    false_rate, true_rate, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
    ours = curves.roc_points(positive, score)
    np.testing.assert_allclose(ours, (false_rate, true_rate), rtol=0, atol=1e-15)
    assert np.trapezoid(ours[1], ours[0]) == pytest.approx(metrics.roc_auc_score(positive, score))


@pytest.mark.parametrize("ties", [True, False])
def test_pr_points_equal_scikit_learn(ties: bool) -> None:
    positive, score, _ = drawn(ties=ties)
    precision, recall, _ = metrics.precision_recall_curve(positive, score)
    ours = curves.pr_points(positive, score)
    np.testing.assert_allclose(ours, (recall[::-1], precision[::-1]), rtol=0, atol=1e-15)


def test_reliability_equals_scikit_learn() -> None:
    positive, score, patient = drawn()
    found, said = calibration.calibration_curve(positive, score, n_bins=10)
    ours = curves.reliability(positive, score, patient, resamples=50)
    np.testing.assert_allclose(ours.found, found)
    np.testing.assert_allclose(ours.said, said)
    assert ours.count.sum() == len(score)


def test_confusion_equals_scikit_learn() -> None:
    random = np.random.default_rng(1)
    truth, predicted = random.integers(4, size=(2, 200))
    ours = curves.confusion(truth, predicted, 5)
    theirs = metrics.confusion_matrix(truth, predicted, labels=range(5))
    np.testing.assert_array_equal(ours, theirs)


def resampled_rows(patient: np.ndarray, resamples: int) -> list[np.ndarray]:
    """Row indices of every resample, as the bootstrap by patient draws them."""
    groups = by_appearance(patient)
    names, index = groups.keys, groups.index
    counts = np.concatenate(list(patient_counts(len(names), resamples=resamples, seed=0)))
    return [np.repeat(np.arange(len(index)), row[index]) for row in counts]


def test_the_roc_band_equals_a_loop_over_scikit_learn() -> None:
    positive, score, patient = drawn()
    lines = []
    for rows in resampled_rows(patient, 60):
        x, y, _ = metrics.roc_curve(positive[rows], score[rows], drop_intermediate=False)
        lines.append(np.interp(curves.GRID, x, y))
    low, high = np.percentile(lines, [2.5, 97.5], axis=0)
    ours, _ = curves.roc_and_pr(positive[:, None], score[:, None], patient, resamples=60)
    np.testing.assert_allclose((ours.low, ours.high), (low, high), atol=1e-12)


def test_the_pr_band_equals_a_loop_over_scikit_learn() -> None:
    positive, score, patient = drawn()
    lines = []
    for rows in resampled_rows(patient, 60):
        precision, recall, _ = metrics.precision_recall_curve(positive[rows], score[rows])
        recall, precision = recall[::-1][1:], precision[::-1][1:]
        lines.append([precision[np.argmax(recall >= at - 1e-12)] for at in curves.GRID])
    low, high = np.percentile(lines, [2.5, 97.5], axis=0)
    _, ours = curves.roc_and_pr(positive[:, None], score[:, None], patient, resamples=60)
    np.testing.assert_allclose((ours.low, ours.high), (low, high), atol=1e-12)


def test_the_reliability_band_equals_a_loop() -> None:
    positive, score, patient = drawn(n=400)
    bins = np.clip(np.ceil(score * 10) - 1, 0, 9)
    used = np.unique(bins)
    shares = [
        [
            positive[rows][bins[rows] == at].mean() if (bins[rows] == at).any() else np.nan
            for at in used
        ]
        for rows in resampled_rows(patient, 80)
    ]
    low, high = np.nanpercentile(shares, [2.5, 97.5], axis=0)
    ours = curves.reliability(positive, score, patient, resamples=80)
    np.testing.assert_allclose((ours.low, ours.high), (low, high))


def test_the_mean_curve_of_several_classes() -> None:
    random = np.random.default_rng(3)
    hot = random.random((90, 3)) < 0.3
    scores = random.random((90, 3)) + 0.5 * hot
    lines = [
        np.interp(curves.GRID, *metrics.roc_curve(hot[:, c], scores[:, c])[:2]) for c in range(3)
    ]
    ours, _ = curves.roc_and_pr(hot, scores, np.arange(90), resamples=20)
    np.testing.assert_allclose(ours.y, np.mean(lines, axis=0))
    assert (ours.low <= ours.high).all()


def test_many_scores_are_gathered_and_the_band_hardly_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    positive, score, patient = drawn(n=900, patients=300, ties=False)
    exact, _ = curves.roc_and_pr(positive[:, None], score[:, None], patient, resamples=100)
    monkeypatch.setattr(curves, "MAX_STEPS", 200)
    gathered, _ = curves.roc_and_pr(positive[:, None], score[:, None], patient, resamples=100)
    assert np.abs(exact.low - gathered.low).max() < 0.02


def test_a_resample_without_positives_has_no_curve() -> None:
    positive = np.array([True, False, False, False])
    curve, _ = curves.roc_and_pr(
        positive[:, None], np.array([[0.9], [0.1], [0.2], [0.3]]), np.arange(4), resamples=200
    )
    assert np.isfinite(curve.low).all()


def test_both_curves_are_of_the_same_resamples_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    positive, score, patient = drawn()
    seen: list[int] = []
    plain = curves.patient_counts
    monkeypatch.setattr(
        curves, "patient_counts", lambda *a, **k: (seen.append(1), plain(*a, **k))[1]
    )
    curves.roc_and_pr(positive[:, None], score[:, None], patient, resamples=20)
    assert len(seen) == 1


def test_many_classes_with_an_image_each_have_curves_without_bands() -> None:
    hot = np.eye(40, dtype=bool)
    scores = np.random.default_rng(0).random((40, 40))
    for curve in curves.roc_and_pr(hot, scores, np.arange(40), resamples=50):
        assert np.isnan(curve.low).all() and np.isnan(curve.high).all()
        assert np.isfinite(curve.y).all()
        to_svg(curves_figure({"a": curve}, "x", "y"))
