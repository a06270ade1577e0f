"""`EmbeddingStore`: opening, refusing, reading by split and in chunks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dinorad_rt.embeddings.store import EmbeddingStore
from dinorad_rt.errors import DataError, OutputExistsError, UnknownNameError

Run = Callable[..., Any]


def test_load_takes_splits_in_order(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data")
    run(dataset, tmp_path / "store")
    store = EmbeddingStore.open(tmp_path / "store")
    for splits in (("test",), ("train", "val"), ("train", "val", "test")):
        wanted = [s.sample_id for s in dataset.samples if s.split in splits]
        assert store.load(*splits).sample_ids.tolist() == wanted
    with pytest.raises(UnknownNameError, match="split 'tset'.*Closest: test"):
        store.load("tset")  # type: ignore[arg-type]


def test_chunks_are_the_table_in_pieces(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    store = run(fakes.png_dataset(tmp_path / "data"), tmp_path / "store")
    whole = store.load("train", "test")
    pieces = list(store.chunks("train", "test", rows=3))
    assert max(map(len, pieces)) <= 3
    np.testing.assert_array_equal(np.concatenate([p.cls for p in pieces]), whole.cls)
    assert whole.cls.flags.writeable and whole.patch_mean.flags.writeable


def test_multilabel_rows_are_vectors(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=6)
    samples = [replace(s, labels=(i % 2, 1, 0)) for i, s in enumerate(dataset.samples)]
    dataset = fakes.dataset_of(tmp_path / "data", samples, "multilabel")
    store = run(dataset, tmp_path / "store")
    np.testing.assert_array_equal(store.load().labels, dataset.labels_array())
    info = store.dataset_info()
    assert (info.task, info.class_names, info.notes) == (
        "multilabel",
        ("a", "b", "c"),
        ("made up",),
    )
    assert store.load("train").labels.shape == (2, 3)


def test_a_split_without_rows_is_an_empty_table(
    run: Run, fakes: ModuleType, tmp_path: Path
) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=2)
    table = run(dataset, tmp_path / "store").load("test")
    assert len(table) == 0 and table.cls.shape == (0, fakes.BLOCKS, fakes.DIM)
    assert table.labels.shape == (0,)


def test_folders_of_others_are_left_alone(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=2)
    with pytest.raises(OutputExistsError, match="belongs to something else"):
        run(dataset, tmp_path / "data")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="is a file"):
        run(dataset, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine" and len(list(tmp_path.glob("data/*"))) == 2


def test_what_is_no_store(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no embedding store"):
        EmbeddingStore.open(tmp_path)
    run(fakes.png_dataset(tmp_path / "data", count=2), tmp_path / "store")
    target = tmp_path / "store" / "provenance.json"
    target.write_text(json.dumps(json.loads(target.read_text()) | {"format": 99}))
    with pytest.raises(DataError, match="format 99"):
        EmbeddingStore.open(tmp_path / "store")


def test_a_damaged_or_foreign_shard_is_made_again(
    run: Run, fakes: ModuleType, tmp_path: Path
) -> None:
    dataset = fakes.png_dataset(tmp_path / "data")
    store = run(dataset, tmp_path / "store")
    other = run(dataset, tmp_path / "other", engine=fakes.fake_engine("engine-b"))
    first, second, third = sorted(store.folder.glob("shard-*"))
    kept, whole = third.read_bytes(), first.read_bytes()
    first.write_bytes(whole[:-40])
    second.write_bytes((other.folder / second.name).read_bytes())
    assert store.missing_shards() == (0, 1)
    with pytest.raises(DataError, match="1 of 3 shards"):
        store.load()
    run(dataset, tmp_path / "store")
    assert first.read_bytes() == whole and third.read_bytes() == kept
    assert run.runners[-1].rows == 16  # type: ignore[attr-defined]
    first.write_bytes(whole[:100] + b"\xff" * 400 + whole[500:])
    with pytest.raises(DataError, match=r"shard-000000\.parquet of the store cannot be read"):
        store.load()


def test_summary_is_json(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    store = run(fakes.png_dataset(tmp_path / "data", bad=(1,)), tmp_path / "store")
    summary = json.loads(json.dumps(store.summary()))
    assert summary["rows"] == 21 and summary["failures"] == 1 and summary["shards"] == "3 of 3"
    assert summary["images_per_s"] > 0
    assert "images_per_s" not in EmbeddingStore.open(store.folder).summary()
