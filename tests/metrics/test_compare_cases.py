"""Segmenters against each other: the numbers against plain resampling, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.errors import DataError, ProtocolError, UnknownNameError
from dinorad_rt.metrics.cases import CaseTable
from dinorad_rt.metrics.compare_cases import Asked, answer_runs, compare_cases
from dinorad_rt.metrics.segmentation import CaseScores, case_scores, segmentation_metrics
from dinorad_rt.reports.comparison import comparison_table
from dinorad_rt.reports.table import to_text

CLASSES = ("background", "liver", "spleen")
QUICK = Asked("dice", resamples=400)


def masks(count: int, error: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and prediction of volumes of (2, 12, 12): noise in a share of the voxels."""
    truths, random = np.random.default_rng(0), np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth = np.zeros((2, 12, 12), np.uint8)
        row, column = truths.integers(1, 5, 2)
        truth[:, row : row + 4, column : column + 4] = 1
        truth[:, row + 4 : row + 7, column : column + 6] = 2
        wrong = random.random(truth.shape) < error
        found.append((truth, np.where(wrong, random.integers(3, size=truth.shape), truth)))
    return found


def table_of(
    pairs: list[tuple[np.ndarray, np.ndarray]], per_patient: int = 2, *, surfaces: bool = False
) -> CaseTable:
    """What `eval` writes of such volumes, patients of `per_patient` volumes each.

    Distances take nearly all of the time, so they are measured where a test asks for them.
    """
    scores = [case_scores(*pair, 3, spacing=(2, 1, 1), surfaces=surfaces) for pair in pairs]
    return of_scores(scores, per_patient)


def of_scores(scores: list[CaseScores], per_patient: int = 2) -> CaseTable:
    counts = [np.stack([s.confusion.sum(1)[1:], s.confusion.sum(0)[1:]], axis=1) for s in scores]
    names = ("dice", "jaccard", "hd95", "nsd")
    return CaseTable(
        case_ids=np.array([f"c{i:03d}" for i in range(len(scores))]),
        patients=np.array([f"p{i // per_patient:03d}" for i in range(len(scores))]),
        class_names=CLASSES[1:],
        scores={name: np.stack([getattr(s, name) for s in scores]) for name in names},
        voxels=np.stack(counts),
        unit="mm",
        tolerance=1.0,
    )


def test_a_better_segmenter_is_called_better_with_the_right_numbers() -> None:
    good, bad = table_of(masks(60, 0.02, 1)), table_of(masks(60, 0.2, 2))
    ((question, (found,)),) = compare_cases([bad, good], ["bad", "good"], Asked("dice"))
    assert question.judged == "case"
    first, second = (table.scores["dice"].mean(axis=1) for table in (bad, good))
    assert found.value_first == pytest.approx(first.mean())
    assert found.value_second == pytest.approx(second.mean())
    assert (found.n, found.n_patients, found.metric) == (60, 30, "dice")
    assert "good is better than bad: mean Dice" in found.verdict
    assert "on the same 60 cases of 30 patients" in found.verdict
    assert found.p_value is not None and found.p_permutation is not None
    assert max(found.p_value, found.p_permutation) < 0.01
    assert found.p_delong is None
    low, high = plain_interval(first, second)
    assert found.low == pytest.approx(low, abs=0.003)
    assert found.high == pytest.approx(high, abs=0.003)


def plain_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Patients of two volumes drawn one by one."""
    random, values = np.random.default_rng(5), []
    for _ in range(2000):
        drawn = random.integers(len(first) // 2, size=len(first) // 2)
        rows = np.concatenate([2 * drawn, 2 * drawn + 1])
        values.append(np.nanmean(second[rows]) - np.nanmean(first[rows]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def test_the_means_are_those_of_the_results() -> None:
    pairs = masks(12, 0.1, 1)
    scores = [case_scores(*pair, 3, spacing=(2, 1, 1)) for pair in pairs]
    table = of_scores(scores)
    published = {
        (m.name, m.class_name): m.value
        for m in segmentation_metrics(scores, table.patients, CLASSES, resamples=20)
        if m.setting == {"over": "volumes"}
    }
    for metric, name in product(("dice", "jaccard", "hd95", "nsd"), (None, "spleen")):
        asked = Asked(metric, name, resamples=100)
        ((_, (found,)),) = compare_cases([table, table], ["a", "b"], asked)
        assert found.value_first == pytest.approx(published[metric, name])


def test_all_metrics_that_both_hold_and_distances_with_a_margin_in_mm() -> None:
    tables = [table_of(masks(20, error, 3), surfaces=True) for error in (0.02, 0.15)]
    answers = compare_cases(tables, ["a", "b"], Asked(resamples=200, margin=0.05))
    assert [question.metric for question, _ in answers] == ["dice", "hd95", "nsd"]
    assert [question.margin for question, _ in answers] == [0.05, 1.0, 0.05]
    (distance,) = answers[1][1]
    assert distance.difference is not None and distance.difference > 0
    assert "b is worse than a: mean HD95 in mm" in distance.verdict
    ends = f"{distance.difference:+.2f} [{distance.low:+.2f}, {distance.high:+.2f}], p"
    assert f"{distance.value_second:.2f} against {distance.value_first:.2f}, " in distance.verdict
    assert f"difference {ends}" in distance.verdict
    unmeasured = dict(tables[1].scores) | {"hd95": np.full((20, 2), np.nan)}
    answers = compare_cases([tables[0], replace(tables[1], scores=unmeasured)], ["a", "b"], QUICK)
    assert [question.metric for question, _ in answers] == ["dice"]
    with pytest.raises(ProtocolError, match=r"no hd95[^\n]*\nThey have dice, jaccard, nsd"):
        compare_cases([tables[0], replace(tables[1], scores=unmeasured)], ["a", "b"], Asked("hd95"))


def test_what_too_few_patients_cannot_show_is_told() -> None:
    """Of 4 patients 16 swaps are all there are: none of two sides has a smaller share than 1/8."""
    good, bad = (table_of(masks(4, *how), per_patient=1) for how in ((0.02, 1), (0.2, 2)))
    ((question, found),) = compare_cases([bad, good], ["bad", "good"], QUICK)
    assert found[0].p_value is not None and found[0].p_value < 0.05
    assert found[0].p_permutation == pytest.approx(0.125)
    assert "good is better than bad" in found[0].verdict
    assert found[0].verdict.endswith("the permutation test does not confirm it (p = 0.125).")
    text = to_text(comparison_table(found, question))
    assert "· 4 test patients: bootstrap intervals of so few tend to be too narrow." in text


def test_a_segmenter_is_equivalent_to_itself() -> None:
    table = table_of(masks(30, 0.05, 1))
    ((_, (found,)),) = compare_cases([table, table], ["one", "two"], QUICK)
    assert (found.difference, found.equivalent, found.p_permutation) == (0, True, 1.0)
    assert "equivalent within ±0.02" in found.verdict


def test_many_pairs_are_corrected_by_holm() -> None:
    tables = [table_of(masks(30, error, i)) for i, error in enumerate((0.1, 0.11, 0.105, 0.13))]
    ((_, found),) = compare_cases(tables, list("abcd"), QUICK)
    assert len(found) == 6
    raw = np.array([item.p_value for item in found])
    order = np.argsort(raw)
    expected = np.minimum(np.maximum.accumulate(raw[order] * np.arange(6, 0, -1)), 1)
    np.testing.assert_allclose([found[i].p_holm for i in order], expected)
    assert "after Holm's correction for 6 pairs" in found[0].verdict


def test_rows_in_another_order_are_the_same_volumes() -> None:
    first, second = table_of(masks(30, 0.1, 1)), table_of(masks(30, 0.05, 2))
    straight = compare_cases([first, second], ["a", "b"], QUICK)
    order = np.random.default_rng(0).permutation(30)
    mixed = replace(
        second,
        case_ids=second.case_ids[order],
        patients=second.patients[order],
        scores={name: values[order] for name, values in second.scores.items()},
        voxels=second.voxels[order],
    )
    assert compare_cases([first, mixed], ["a", "b"], QUICK) == straight


def test_volumes_with_a_value_in_one_run_only_are_told() -> None:
    """Both masks empty is no value; a false alarm there is a Dice of 0."""
    pairs = masks(30, 0.05, 1)
    empty = np.zeros((2, 12, 12), np.uint8)
    alarm = empty.copy()
    alarm[0, 3, 3] = 1
    quiet, loud = table_of([*pairs, (empty, empty)]), table_of([*pairs, (empty, alarm)])
    ((_, (found,)),) = compare_cases([quiet, loud], ["quiet", "loud"], QUICK)
    assert found.unpaired == 1
    assert "(1 of them with a value in one run only)" in found.verdict
    assert found.value_first is not None and found.value_second is not None
    assert found.value_second == pytest.approx(found.value_first * 30 / 31)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("fewer", "it has 20 test cases, the first run 30, and 20 are the same"),
        ("other volumes", "0 are the same"),
        ("patients", "patients of the same cases are others"),
        ("masks", "masks of the same cases are others"),
        ("classes", "its classes are liver, kidney"),
    ],
)
def test_other_test_sets_are_refused(change: str, told: str) -> None:
    first, second = table_of(masks(30, 0.1, 1)), table_of(masks(30, 0.1, 2))
    changes: dict[str, dict[str, Any]] = {
        "other volumes": {"case_ids": np.array([f"x{i}" for i in range(30)])},
        "patients": {"patients": second.case_ids},
        "masks": {"voxels": second.voxels + 1},
        "classes": {"class_names": ("liver", "kidney")},
    }
    other = table_of(masks(20, 0.1, 2)) if change == "fewer" else replace(second, **changes[change])
    with pytest.raises(ProtocolError, match="not judged on the same test set") as caught:
        compare_cases([first, other], ["a", "b"], QUICK)
    assert told in caught.value.problem
    assert "same classes" in caught.value.fix


def test_other_conventions_of_empty_masks_are_refused() -> None:
    empty = np.zeros((2, 12, 12), np.uint8)
    table = table_of([*masks(10, 0.05, 1), (empty, empty)])
    ones = {name: np.nan_to_num(values, nan=1.0) for name, values in table.scores.items()}
    with pytest.raises(ProtocolError, match="both masks empty 1 as dice, a no value"):
        compare_cases([table, replace(table, scores=ones)], ["a", "b"], QUICK)
    lost = table_of([*masks(10, 0.05, 1), (masks(1, 0, 1)[0][0], empty)], surfaces=True)
    skipped = dict(lost.scores) | {"hd95": np.where(lost.scores["dice"] == 0, np.nan, 1.0)}
    with pytest.raises(ProtocolError, match="only the prediction empty no value as hd95"):
        compare_cases([lost, replace(lost, scores=skipped)], ["a", "b"], Asked("hd95"))


def test_other_units_and_tolerances_are_refused_where_they_matter() -> None:
    table = table_of(masks(10, 0.05, 1), surfaces=True)
    for other in (replace(table, unit="px"), replace(table, tolerance=2.0)):
        assert compare_cases([table, other], ["a", "b"], QUICK)
        with pytest.raises(ProtocolError, match="do not mean the same"):
            compare_cases([table, other], ["a", "b"], Asked("nsd"))


def test_what_cannot_be_asked() -> None:
    table = table_of(masks(10, 0.05, 1))
    with pytest.raises(ProtocolError, match="no auroc"):
        compare_cases([table, table], ["a", "b"], Asked("auroc"))
    with pytest.raises(UnknownNameError, match="class"):
        compare_cases([table, table], ["a", "b"], Asked("dice", "kidney"))
    with pytest.raises(ProtocolError, match="1 run"):
        compare_cases([table], ["a"])
    with pytest.raises(DataError, match=r"no results\.json"):
        answer_runs([Path("nowhere"), Path("nowhere")], Asked())
