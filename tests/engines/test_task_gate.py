"""The task gate: scikit-learn's AUROC, its own agreement, and verdicts that the data allow."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from dinorad_rt.embeddings.table import EmbeddingTable
from dinorad_rt.engines.task_gate import SegmentationGate, judge_masks, judge_tables
from dinorad_rt.engines.verify import images_check
from dinorad_rt.errors import ProtocolError
from dinorad_rt.export.recipe import load_recipe


def _table(rows: int, seed: int, *, classes: int = 2, per_patient: int = 1) -> EmbeddingTable:
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=rows)
    cls = random.standard_normal((rows, 4, 16)).astype(np.float32)
    cls[np.arange(rows), -1, labels] += 1.5
    names = np.array([f"s{i}" for i in range(rows)])
    patients = np.array([f"p{i // per_patient}" for i in range(rows)])
    return EmbeddingTable(names, patients, np.full(rows, "test"), labels, cls)


def _moved(table: EmbeddingTable, by: float, seed: int = 9) -> EmbeddingTable:
    noise = np.random.default_rng(seed).standard_normal(table.cls.shape).astype(np.float32)
    return replace(table, cls=table.cls + np.float32(by) * noise)


def _tables(test: int = 400, **options: Any) -> dict[str, EmbeddingTable]:
    return {"train": _table(200, 0, **options), "test": _table(test, 1, **options)}


def test_the_auroc_is_scikit_learns() -> None:
    tables = _tables()
    gate = judge_tables(tables, tables, classes=2, k=5)
    train, test = tables["train"], tables["test"]

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / 0.07)

    other = KNeighborsClassifier(5, weights=weights, metric="cosine")
    other.fit(unit(train.cls[:, -1]), train.labels)
    scores = other.predict_proba(unit(test.cls[:, -1]))[:, 1]
    assert gate.auroc_engine == pytest.approx(roc_auc_score(test.labels, scores), abs=2e-4)


def test_the_same_embeddings_pass_with_the_exact_interval() -> None:
    tables = _tables()
    gate = judge_tables(tables, tables, classes=2)
    assert (gate.verdict, gate.agreement, gate.difference) == ("passed", 1.0, 0.0)
    assert gate.cosine_min == pytest.approx(1.0)
    assert gate.agreement_low == pytest.approx(beta.ppf(0.025, 400, 1), abs=1e-6)


def test_rounding_passes_and_another_model_fails() -> None:
    tables = _tables(600)
    rounded = {name: _moved(table, 1e-5) for name, table in tables.items()}
    assert judge_tables(tables, rounded, classes=2).verdict == "passed"
    broken = {name: _moved(table, 5.0) for name, table in tables.items()}
    gate = judge_tables(tables, broken, classes=2)
    assert gate.verdict == "failed"
    assert "the AUROC differs by more than 0.002" in gate.reason
    assert gate.high < -0.002


def test_few_patients_decide_nothing_however_many_images_they_have() -> None:
    for test, per_patient in ((20, 1), (400, 20)):
        tables = _tables(test, per_patient=per_patient)
        gate = judge_tables(tables, tables, classes=2)
        assert gate.verdict == "undecided"
        assert "too few patients: 20 in the test split" in gate.reason


def test_an_interval_that_reaches_beyond_the_limits_is_undecided() -> None:
    tables = _tables(60)
    gate = judge_tables(tables, {n: _moved(t, 0.05) for n, t in tables.items()}, classes=2)
    assert gate.low < -0.002 or gate.high > 0.002
    assert gate.verdict == "undecided"
    assert "reaches beyond" in gate.reason


def test_more_classes_and_labels_are_averaged() -> None:
    tables = _tables(300, classes=3)
    assert judge_tables(tables, tables, classes=3).verdict == "passed"
    several = {
        name: replace(table, labels=np.eye(3, dtype=np.int64)[table.labels])
        for name, table in tables.items()
    }
    gate = judge_tables(several, several, classes=3)
    assert gate.verdict == "passed"
    assert gate.auroc_engine > 0.7


def test_other_images_are_refused() -> None:
    tables = _tables()
    other = tables | {"test": tables["test"].take(slice(0, 399))}
    with pytest.raises(ProtocolError, match="different test images"):
        judge_tables(tables, other, classes=2)
    with pytest.raises(ProtocolError, match="training and test images"):
        judge_tables(tables | {"test": tables["test"].take(slice(0, 0))}, tables, classes=2)


@pytest.mark.parametrize(("by", "verdict"), [(0.001, "passed"), (0.3, "failed")])
def test_the_worst_of_the_users_images_is_held_to_the_recipe(by: float, verdict: str) -> None:
    tables = _tables()
    moved = {name: _moved(table, by) for name, table in tables.items()}
    graph: Any = SimpleNamespace(manifest={"recipe": {"family": "vit"}}, precision="bf16")
    check = images_check(graph, judge_tables(tables, moved, classes=2))
    assert check.verdict == verdict
    assert check.numbers["limit"] == load_recipe("vit").limits["bf16"].cosine
    assert bool(check.fix) == (verdict == "failed")


def _dice(volumes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.6, 0.95, volumes)


def _plain_interval(first: np.ndarray, second: np.ndarray, per_patient: int) -> tuple[float, float]:
    """Patients drawn one by one."""
    random, groups = np.random.default_rng(3), len(first) // per_patient
    means = []
    for _ in range(2000):
        drawn = random.integers(groups, size=groups)
        rows = (per_patient * drawn[:, None] + np.arange(per_patient)).ravel()
        means.append(np.nanmean(second[rows]) - np.nanmean(first[rows]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _judged(first: np.ndarray, second: np.ndarray, **options: Any) -> SegmentationGate:
    """Volumes of 1,000 voxels, patients of one volume each unless told."""
    count, equal = len(first), options.pop("equal", 999)
    per_patient = options.pop("per_patient", 1)
    patients = [f"p{i // per_patient}" for i in range(count)]
    voxels = np.tile([equal, 1000], (count, 1))
    return judge_masks(np.stack([first, second], axis=1), voxels, patients, **options)


def test_the_dice_gate_draws_patients_and_leaves_undefined_volumes_out() -> None:
    first = _dice(120)
    second = first + np.random.default_rng(1).normal(-0.02, 0.01, 60).repeat(2)
    first[3] = second[3] = np.nan
    gate = _judged(first, second, per_patient=2)
    assert (gate.volumes, gate.patients) == (120, 60)
    assert gate.dice_reference == pytest.approx(np.nanmean(first))
    assert gate.difference == pytest.approx(np.nanmean(second) - np.nanmean(first))
    low, high = _plain_interval(first, second, 2)
    assert gate.low == pytest.approx(low, abs=5e-4)
    assert gate.high == pytest.approx(high, abs=5e-4)
    assert gate.verdict == "failed"
    assert "the Dice differs by more than 0.002" in gate.reason
    assert _judged(first, second, per_patient=2, margin=0.05).verdict == "passed"


def test_verdicts_of_the_dice_gate() -> None:
    dice = _dice(40)
    assert _judged(dice, dice).verdict == "passed"
    fewer = _judged(dice[:20], dice[:20])
    assert (fewer.verdict, fewer.reason) == (
        "undecided",
        "too few patients: 20 in the validation split; 30 are needed",
    )
    other = _judged(dice, dice, equal=990)
    assert other.verdict == "failed"
    assert "the same class for 99.00% of the voxels, 99.5% wanted" in other.reason
    wide = _judged(dice, dice + np.random.default_rng(2).normal(0, 0.02, 40))
    assert wide.verdict == "undecided"
    assert "reaches beyond ±0.002" in wide.reason
    nothing = _judged(np.full(40, np.nan), np.full(40, np.nan))
    assert nothing.verdict == "undecided"
    assert nothing.as_dict()["difference"] is None
    with pytest.raises(ProtocolError, match="40, 40 and 39"):
        judge_masks(np.zeros((40, 2)), np.ones((40, 2)), ["p"] * 39)
    with pytest.raises(ProtocolError, match="one or more"):
        judge_masks(np.zeros((0, 2)), np.ones((0, 2)), [])


def test_voxels_that_agree_for_some_patients_only_are_undecided() -> None:
    dice = np.stack([_dice(40)] * 2, axis=1)
    voxels = np.tile([1000, 1000], (40, 1))
    voxels[0, 0] = 700
    gate = judge_masks(dice, voxels, [f"p{i}" for i in range(40)])
    assert gate.agreement == pytest.approx(1 - 300 / 40_000)
    assert gate.agreement_low < 0.995 < gate.agreement_high
    assert gate.verdict == "undecided"
