"""Whole protocols on stored embeddings: every one runs, repeats to the bit and says what it saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable, Failure
from dinorad_rt.errors import LeakageError, ProtocolError, UnknownNameError
from dinorad_rt.evaluation import evaluate_store
from dinorad_rt.progress import Progress
from dinorad_rt.protocols.pooling import pool
from dinorad_rt.protocols.registry import PROTOCOL_PRESETS, PROTOCOLS
from dinorad_rt.types import Task

QUICK: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 1, "epoch_length": 5},
    "few-shot": {"shots": (1, 2), "repeats": 2, "head": "knn"},
}


@dataclass
class Store:
    """What `evaluate_store` asks of a store."""

    tables: dict[str, EmbeddingTable]
    info: DatasetInfo
    provenance: dict[str, Any] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)

    def chunks(self) -> Iterator[EmbeddingTable]:
        for table in self.tables.values():
            for start in range(0, max(len(table), 1), 7):
                yield table.take(slice(start, start + 7))

    def dataset_info(self) -> DatasetInfo:
        return self.info

    def failures(self) -> list[Failure]:
        return self.failed


def store_of(task: Task = "binary", slices: int = 1, rows: int = 40) -> Store:
    """Informative embeddings of single images or of volumes."""
    tables = {}
    for seed, split in enumerate(("train", "val", "test")):
        random = np.random.default_rng(seed)
        labels = np.arange(rows) % (2 if task == "binary" else 3)
        hot = np.eye(3)[labels]
        if task == "multilabel":
            labels = hot = (random.random((rows, 3)) < 0.4).astype(np.int64)
        index = np.repeat(np.arange(rows), slices)
        points = random.standard_normal((len(index), 4, 12))
        points[:, :, :3] += hot[index][:, None]
        names = np.array([f"{split}{i}" for i in range(rows)], dtype=object)
        tables[split] = EmbeddingTable(
            names[index],
            names[index],
            np.full(len(index), split),
            labels[index].astype(np.int64),
            points.astype(np.float32),
            points[:, 0].astype(np.float32),
            np.tile(np.arange(slices), rows),
        )
    names = ("no", "yes") if task == "binary" else ("a", "b", "c")
    return Store(tables, DatasetInfo("toy", task, names))


def evaluate(store: Store, protocol: str, **options: Any) -> Any:
    given = QUICK.get(protocol, {}) | {"resamples": 30} | options
    return evaluate_store(store, protocol=protocol, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_protocol_on_every_task_repeats_to_the_bit(protocol: str, task: Task) -> None:
    store = store_of(task)
    first, second = (evaluate(store, protocol, seed=0) for _ in range(2))
    assert first.metrics == second.metrics
    for one, two in zip(first.predictions, second.predictions, strict=True):
        np.testing.assert_array_equal(one.scores, two.scores)
        assert ((one.scores >= 0) & (one.scores <= 1)).all()
    assert first.protocol == protocol
    assert evaluate(store, protocol, seed=1).seeds != first.seeds


@pytest.mark.parametrize("preset", PROTOCOL_PRESETS)
@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_preset_is_named_in_its_results(protocol: str, preset: str) -> None:
    options = {}
    if protocol == "few-shot":
        options = {"shots": (2,), "repeats": None, "head": None}  # the preset's own
    if protocol == "linear":
        options = {"epoch_length": 2}  # type: ignore[dict-item]
    results = evaluate(store_of(), protocol, protocol_preset=preset, **options)
    assert results.preset == results.settings["preset_name"] == preset
    if preset == "study":
        assert all(text.startswith(("study:", "ML-kNN")) for text in results.deviations)
        assert results.deviations


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_volumes_and_missing_validation(protocol: str) -> None:
    store = store_of(slices=3)
    store.tables["val"] = store.tables["val"].take(slice(0, 0))
    results = evaluate(store, protocol)
    assert {value.n for value in results.metrics} == {40}
    assert results.predictions[0].scores.shape == (40, 2)


def test_a_patient_in_two_splits_is_refused() -> None:
    store = store_of()
    train = store.tables["train"]
    store.tables["train"] = replace(train, patients=store.tables["test"].patients)
    with pytest.raises(LeakageError, match="40 patients"):
        evaluate(store, "knn")


def test_copies_across_splits_head_the_notes() -> None:
    store = store_of()
    store.tables["test"].cls[3] = store.tables["val"].cls[8]
    notes = evaluate(store, "knn").notes
    assert notes[0].startswith("LEAKAGE? 1 of 40 test images have a copy or near copy in val")


def test_nan_embeddings_are_refused_by_row() -> None:
    store = store_of()
    store.tables["train"].cls[7, 0, 0] = np.nan
    with pytest.raises(ProtocolError, match=r"row 7 \(train7\)"):
        evaluate(store, "knn")


def test_unreadable_files_are_told() -> None:
    store = store_of()
    store.failed = [Failure("s", "x.dcm", "truncated"), Failure("s", "x.dcm", "slice 2", 2)]
    assert any("1 image could not be read" in note for note in evaluate(store, "knn").notes)


def test_the_reasons_of_unreadable_files_are_told() -> None:
    store = store_of()
    reasons = ["empty.", "cut short", "cut short", "a", "b"]
    store.failed = [Failure(f"s{i}", "", reason) for i, reason in enumerate(reasons)]
    note = evaluate(store, "knn").notes[-1]
    assert "5 images could not be read" in note and ": 2 x cut short; 1 x empty; 1 x a" in note
    assert note.endswith("; and 1 other reason.")


def test_what_does_not_exist_is_refused_by_name() -> None:
    store = store_of()
    with pytest.raises(UnknownNameError, match="linear"):
        evaluate(store, "lineal")
    with pytest.raises(ProtocolError, match="crops the images anew"):
        evaluate(store, "linear", augment=True)
    with pytest.raises(ProtocolError, match="Seed -1"):
        evaluate(store, "knn", seed=-1)
    with pytest.raises(UnknownNameError, match="temperature"):
        evaluate(store, "knn", temprature=0.1)
    with pytest.raises(ProtocolError, match="up to 80"):
        evaluate(store, "knn", ks=(81,))
    with pytest.raises(ProtocolError, match="20 patients"):
        evaluate(store, "few-shot", shots=(21,))


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_test_labels_reach_nothing_that_is_chosen(protocol: str) -> None:
    """Other test labels change the metrics, and neither the scores nor what was chosen."""
    store = store_of()
    before = evaluate(store, protocol)
    flipped = replace(store.tables["test"], labels=1 - store.tables["test"].labels)
    store.tables["test"] = flipped
    after = evaluate(store, protocol)
    assert after.chosen == before.chosen
    assert after.metrics != before.metrics
    for one, two in zip(before.predictions, after.predictions, strict=True):
        np.testing.assert_array_equal(one.scores, two.scores)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_a_class_without_training_images_is_said(protocol: str) -> None:
    store = store_of("multiclass")
    for split in ("train", "val"):
        store.tables[split] = store.tables[split].take(store.tables[split].labels < 2)
    results = evaluate(store, protocol)
    assert any("No training image shows c" in note for note in results.notes)
    assert results.metric("auroc", "c", **results.metrics[0].setting).n_positive == 13


@pytest.mark.parametrize(
    ("protocol", "options", "kept"),
    [
        ("knn", {}, (1, False)),
        ("mlknn", {}, (1, False)),
        ("logistic", {}, (1, False)),
        ("logistic", {"features": "cls+patch_mean"}, (1, True)),
        ("linear", {"blocks": (2,), "patch_mean": "without"}, (2, False)),
        ("linear", {}, (4, True)),
        ("few-shot", {"head": "logistic"}, (1, False)),
        ("few-shot", {"head": "linear"}, (4, True)),
    ],
)
def test_only_what_a_protocol_reads_is_kept_in_memory(
    protocol: str, options: dict[str, Any], kept: tuple[int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four blocks and the patch mean of 750,000 slices of ViT-L take 15 GB, the last block 3."""
    seen: list[tuple[int, bool]] = []

    def look(table: EmbeddingTable, settings: Any) -> EmbeddingTable:
        assert table.cls.base is None or table.cls.base.nbytes == table.cls.nbytes
        seen.append((table.cls.shape[1], table.patch_mean is not None))
        return pool(table, settings)

    monkeypatch.setattr("dinorad_rt.protocols.pooling.pool", look)
    store = store_of("multilabel")
    given = QUICK.get(protocol, {}) | {"resamples": 5} | options
    evaluate_store(store, protocol=protocol, **given)  # type: ignore[arg-type]
    assert seen[:3] == [kept] * 3


def test_bad_values_in_what_a_protocol_does_not_read_are_refused_too() -> None:
    store = store_of()
    patch_mean = store.tables["val"].patch_mean
    assert patch_mean is not None
    patch_mean[9, 3] = np.inf
    with pytest.raises(ProtocolError, match=r"1 of 40 val .* row 9 \(val9\)"):
        evaluate(store, "knn")


def test_a_store_is_read_once() -> None:
    store, reads = store_of(), []
    plain = store.chunks
    store.chunks = lambda: (reads.append(1), plain())[1]  # type: ignore[method-assign]
    evaluate(store, "knn")
    assert len(reads) == 1


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_long_step_tells_how_far_it_is(protocol: str) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def stages(title: str, unit: str) -> Iterator[Progress]:
        assert unit in ("images", "resamples", "steps", "heads", "values of C")
        told = seen.setdefault(title, [])
        yield lambda done, total: told.append((done, total))

    given = QUICK.get(protocol, {}) | {"resamples": 30}
    silent = evaluate_store(store_of(), protocol=protocol, **given)  # type: ignore[arg-type]
    told = evaluate_store(store_of(), protocol=protocol, stages=stages, **given)  # type: ignore[arg-type]
    assert told.metrics == silent.metrics
    unseen = seen.pop("fitting the chosen C", [])
    assert len(unseen) <= 1
    own = {
        "knn": {"searching neighbours", "searching neighbours to choose k"},
        "mlknn": {"searching neighbours of the reference", "searching neighbours"},
        "linear": {"training the grid of heads", "training the chosen head"},
        "logistic": {"fitting each C"},
        "few-shot": {"training on few shots"},
    }[protocol]
    assert own | {"resampling patients", "looking for copies in train"} <= set(seen)
    for steps in seen.values():
        done, total = zip(*steps, strict=True)
        assert len(set(total)) == 1 and done[-1] == total[-1]
        assert list(done) == sorted(done)
    assert seen["resampling patients"][-1][1] == 30 * len(told.predictions)
