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
from dinorad_rt.engines.task_gate import judge_tables
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
