"""DeLong against a published example, the literal double sum, and the bootstrap by patient."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from dinorad_rt.errors import LabelError
from dinorad_rt.metrics.classification import weighted_auroc
from dinorad_rt.metrics.delong import auroc_interval, compare_auroc, delong, midranks
from dinorad_rt.metrics.intervals import cluster_bootstrap

NORMAL, ABNORMAL = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
"""109 CT ratings from 1 to 5 (Hanley and McNeil, Radiology 143 (1982) 29, table I)."""


def ratings() -> tuple[np.ndarray, np.ndarray]:
    """Truth and rating of each of the 109 images."""
    scores = np.concatenate([np.repeat(np.arange(1, 6), counts) for counts in (NORMAL, ABNORMAL)])
    return np.arange(len(scores)) >= sum(NORMAL), scores.astype(float)


def two_models(seed: int, samples: int = 60, tied: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and scores of two correlated models."""
    random = np.random.default_rng(seed)
    positive = np.arange(samples) % 3 == 0
    scores = random.standard_normal((2, samples)) + random.standard_normal(samples)
    scores += positive * np.array([[0.6], [1.2]])
    return positive, scores.round(1) if tied else scores


def test_published_example() -> None:
    """Stata's manual, `roctab` on the same ratings: 0.8932, 0.0307, [0.83295, 0.95339]."""
    found = auroc_interval(*ratings())
    assert found.value == pytest.approx(0.8932, abs=5e-5)
    assert found.standard_error == pytest.approx(0.0307, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((0.83295, 0.95339), abs=1e-5)


def test_covariance_equals_the_literal_double_sum() -> None:
    positive, scores = two_models(0)
    left, right = scores[:, positive, None], scores[:, None, ~positive]
    kernel = (left > right) + 0.5 * (left == right)
    expected = np.cov(kernel.mean(axis=2)) / positive.sum()
    expected += np.cov(kernel.mean(axis=1)) / (~positive).sum()
    auroc, covariance = delong(positive, scores)
    np.testing.assert_allclose(covariance, expected, rtol=1e-12)
    np.testing.assert_allclose(auroc, [roc_auc_score(positive, row) for row in scores])


def test_patients_against_the_bootstrap_by_patient() -> None:
    random = np.random.default_rng(1)
    effect = random.standard_normal(150).repeat(5)
    scores = effect + random.standard_normal(750) * 0.5
    positive = random.standard_normal(750) + scores > 0.3
    patients = np.arange(150).repeat(5)
    by_patient = auroc_interval(positive, scores, patients)
    interval = cluster_bootstrap(
        {"auroc": lambda w: weighted_auroc(positive, scores, w)}, patients, resamples=2000
    )["auroc"]
    width = interval.high - interval.low
    assert by_patient.high - by_patient.low == pytest.approx(width, rel=0.1)
    by_image = auroc_interval(positive, scores)
    assert by_image.value == by_patient.value
    assert by_image.standard_error != pytest.approx(by_patient.standard_error, rel=0.05)


def test_patients_with_one_image_each_change_nothing() -> None:
    positive, scores = two_models(2)
    names = np.random.default_rng(0).permutation(len(positive)).astype(str)
    np.testing.assert_allclose(delong(positive, scores)[1], delong(positive, scores, names)[1])


def test_paired_comparison_sees_that_the_images_are_the_same() -> None:
    positive, scores = two_models(3, 200, tied=False)
    found = compare_auroc(positive, *scores)
    alone = [auroc_interval(positive, row).standard_error for row in scores]
    assert found.standard_error < np.hypot(*alone)
    assert found.difference == pytest.approx(found.second - found.first)
    assert found.low < found.difference < found.high
    swapped = compare_auroc(positive, *scores[::-1])
    assert swapped.p_value == pytest.approx(found.p_value)
    assert swapped.difference == pytest.approx(-found.difference)


def test_a_model_against_itself() -> None:
    positive, scores = two_models(4)
    found = compare_auroc(positive, scores[0], scores[0] * 3 + 1)
    assert (found.difference, found.p_value) == (0.0, 1.0)


def test_p_values_are_uniform_without_a_difference() -> None:
    random = np.random.default_rng(5)
    p_values = []
    for _ in range(600):
        positive = np.arange(80) % 2 == 0
        shared = random.standard_normal(80) + positive
        p_values.append(
            compare_auroc(positive, *(shared + random.standard_normal((2, 80)))).p_value
        )
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.08
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.05)


def test_midranks_equal_scipy() -> None:
    values = np.random.default_rng(6).random(100).round(1)
    np.testing.assert_array_equal(midranks(values), rankdata(values))


def test_one_positive_patient_is_refused() -> None:
    with pytest.raises(LabelError, match="there are 1 and 2"):
        auroc_interval(np.array([1, 1, 0, 0]) == 1, np.arange(4.0), np.array([0, 0, 1, 2]))
