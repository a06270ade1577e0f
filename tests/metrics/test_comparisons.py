"""Paired comparisons against scipy, DeLong, published adjustments and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.by_patient import RankingByPatient
from dinorad_rt.metrics.comparisons import (
    auroc_swap,
    equivalence_test,
    holm,
    mean_swap,
    paired_bootstrap,
    permutation_test,
)
from dinorad_rt.metrics.delong import compare_auroc


def models(seed: int, patients: int = 80, gain: float = 0.6):
    """Truth, scores of two correlated models, and patients of two images each."""
    random = np.random.default_rng(seed)
    who = np.arange(patients).repeat(2)
    positive = (random.random(patients) < 0.5)[who]
    shared = random.standard_normal(patients)[who] + positive
    scores = shared + random.standard_normal((2, len(who)))
    scores[1] += gain * positive
    return positive, scores, who


def test_paired_bootstrap_agrees_with_paired_delong() -> None:
    positive, scores, who = models(0)
    metrics = [RankingByPatient(positive, row, who, 80) for row in scores]
    difference = paired_bootstrap(*metrics, 80, resamples=3000)[0]
    theirs = compare_auroc(positive, *scores, who)
    assert difference.value == pytest.approx(theirs.difference)
    assert difference.draws.std() == pytest.approx(theirs.standard_error, rel=0.1)
    assert difference.low == pytest.approx(theirs.low, abs=0.01)
    assert difference.high == pytest.approx(theirs.high, abs=0.01)
    assert paired_bootstrap(*metrics, 80, resamples=50) == paired_bootstrap(
        *metrics, 80, resamples=50
    )


def test_permutation_of_means_equals_scipy_exactly() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((2, 10)).round(2)
    expected = stats.permutation_test(
        (first, second), lambda a, b: (b - a).mean(), permutation_type="samples"
    ).pvalue
    assert permutation_test(mean_swap(first, second), np.arange(10)) == pytest.approx(expected)


def test_means_leave_out_what_is_not_defined_swap_by_swap() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((2, 6))
    first[2] = second[2] = second[4] = np.nan
    swaps = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(bool)
    found = mean_swap(first, second)(swaps)
    for row, value in zip(swaps, found, strict=True):
        left, right = np.where(row, second, first), np.where(row, first, second)
        assert value == pytest.approx(np.nanmean(right) - np.nanmean(left))


def test_patients_are_swapped_whole() -> None:
    random = np.random.default_rng(2)
    first, second = random.random((2, 12))
    who = np.arange(12) // 3
    sums = (second - first).reshape(4, 3).sum(axis=1)
    signs = 1 - 2 * ((np.arange(16)[:, None] >> np.arange(4)) & 1)
    expected = np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12)
    assert permutation_test(mean_swap(first, second), who) == pytest.approx(expected)


def test_permutation_of_aurocs_agrees_with_delong() -> None:
    positive, scores, who = models(3, 60, 0.35)
    ours = permutation_test(auroc_swap(positive, *scores), who, permutations=2000)
    assert ours == pytest.approx(compare_auroc(positive, *scores, who).p_value, abs=0.04)
    observed = auroc_swap(positive, *scores)(np.zeros((1, len(who)), bool))[0]
    aurocs = [roc_auc_score(positive, row) for row in scores]
    assert observed == pytest.approx(aurocs[1] - aurocs[0])


def test_swapped_aurocs_equal_scikit_learns_with_ties_and_one_sort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    positive, scores, _ = models(5, 40)
    scores = scores.round()  # ties within a model and between them
    swaps = np.random.default_rng(6).random((30, len(positive))) < 0.5
    sorts: list[int] = []
    plain = np.argsort
    monkeypatch.setattr(np, "argsort", lambda *a, **k: (sorts.append(1), plain(*a, **k))[1])
    found = auroc_swap(positive, *scores)(swaps)
    assert len(sorts) == 1  # of 25,000 images, a sort for each of 999 swaps took a minute a label
    monkeypatch.undo()
    ranks = [stats.rankdata(row) for row in scores]
    for swap, value in zip(swaps, found, strict=True):
        left, right = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        expected = roc_auc_score(positive, right) - roc_auc_score(positive, left)
        assert value == pytest.approx(expected, abs=1e-14)


def test_holm_equals_its_definition() -> None:
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03 0.06 0.06 0.02."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.9])), [1.0, 1.0])
    adjusted = holm(np.array([np.nan, 0.02]))
    assert np.isnan(adjusted[0])
    assert adjusted[1] == pytest.approx(0.04)


@pytest.mark.parametrize(("shift", "equivalent"), [(0.0, True), (0.009, False), (0.05, False)])
def test_equivalence_equals_two_one_sided_tests(shift: float, equivalent: bool) -> None:
    draws = np.random.default_rng(4).normal(shift, 0.005, 20_000)
    found = equivalence_test(draws, 0.01)
    expected = stats.norm.sf(0.01, shift, 0.005)
    assert found.equivalent is equivalent
    assert found.p_value == pytest.approx(expected, abs=0.01)
    assert found.equivalent == (found.low > -0.01 and found.high < 0.01)


def test_equivalence_needs_a_margin() -> None:
    with pytest.raises(ProtocolError, match="margin above 0"):
        equivalence_test(np.zeros(3), 0.0)
