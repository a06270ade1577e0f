"""Made splits are kept when a dataset grows; copies of a file never cross them unnoticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dinorad_rt.datasets.duplicates import identical_files
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.datasets.split_lists import read_split_list
from dinorad_rt.datasets.traces import trace_of
from dinorad_rt.errors import EmptyDataError, LeakageError, TableError
from dinorad_rt.identifiers import kept

WriteImages = Callable[..., None]
WriteTable = Callable[..., Path]


def rows(count: int) -> list[tuple[str, int, str]]:
    return [(f"img/{i}.png", i % 2, f"MRN{i // 2}") for i in range(count)]


def test_a_grown_set_keeps_every_patient_where_it_was(
    write_images: WriteImages, write_table: WriteTable, own_cache: Path
) -> None:
    write_images(*(name for name, *_ in rows(60)))
    first = open_dataset(write_table("image,label,patient", rows(40)))
    before = {sample.patient: sample.split for sample in first.samples}
    grown = open_dataset(write_table("image,label,patient", rows(60)))
    after = {sample.patient: sample.split for sample in grown.samples}
    assert len(after) == 30 and before.items() <= after.items()
    assert any("20 patients keep the split of an earlier run, 10 are new" in n for n in grown.notes)
    assert len(grown.of_split("test")) == 12
    again = open_dataset(write_table("image,label,patient", rows(60)))
    assert again.split_hash == grown.split_hash
    shutil.rmtree(own_cache / "splits")
    fresh = open_dataset(write_table("image,label,patient", rows(40)))
    assert fresh.split_hash == first.split_hash  # the same data, the same splits, saved or not


def test_saved_splits_hold_no_identifiers(
    write_images: WriteImages, write_table: WriteTable, own_cache: Path
) -> None:
    write_images(*(name for name, *_ in rows(40)))
    open_dataset(write_table("image,label,patient", rows(40)))
    text = "".join(path.read_text() for path in own_cache.rglob("*.json"))
    assert '"train"' in text and "MRN" not in text and "img" not in text


def test_copies_across_given_splits_are_told(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*(name for name, *_ in rows(20)))
    shutil.copy(tmp_path / "img" / "0.png", tmp_path / "img" / "19.png")
    shutil.copy(tmp_path / "img" / "1.png", tmp_path / "img" / "2.png")
    listed = [
        (n, i, f"p{k}", "train" if k < 12 else "test") for k, (n, i, _) in enumerate(rows(20))
    ]
    table = write_table("image,label,patient,split", listed)
    dataset = open_dataset(table)
    (note,) = (n for n in dataset.notes if n.startswith("COPIES ACROSS SPLITS"))
    assert "2 images are byte-identical to one in another split, 1 of them in test" in note
    assert "0.png" not in note and dataset.facts["copies_across_splits"] == 2
    assert "1 image is a byte-identical copy of one in the same split" in dataset.notes
    with kept():
        (note,) = (n for n in open_dataset(table).notes if n.startswith("COPIES"))
    assert "img/0.png (train) = img/19.png (test)" in note


def test_made_splits_keep_copies_together(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*(f"{i}.png" for i in range(60)))
    for number in range(0, 60, 3):
        shutil.copy(tmp_path / f"{number}.png", tmp_path / f"{number + 1}.png")
    dataset = open_dataset(write_table("image,label", [(f"{i}.png", i // 30) for i in range(60)]))
    split = {sample.path.stem: sample.split for sample in dataset.samples}
    assert all(split[str(n)] == split[str(n + 1)] for n in range(0, 60, 3))
    assert not any(note.startswith("COPIES") for note in dataset.notes)


def test_real_duplicates(shared_data: Path) -> None:
    """The set's README counts 22 groups with 25 copies; their groups are its column dup_group."""
    folder = shared_data / "mri_brain_tumor_yesno"
    paths = sorted(path for name in ("yes", "no") for path in (folder / name).iterdir())
    groups = identical_files(paths, [trace_of(path) for path in paths])
    assert len(groups) == 22 and sum(len(group) - 1 for group in groups) == 25


def test_equal_ends_are_not_equal_files(tmp_path: Path) -> None:
    for name, place in (("a", 5_000), ("b", 6_000)):
        content = bytearray(100_000)
        content[place] = 1
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / "a", tmp_path / "b"]
    traces = [trace_of(path) for path in paths]
    assert traces[0] == traces[1] and identical_files(paths, traces) == []


@pytest.mark.parametrize("layout", ["lists", "tables", "json", "csv", "monai"])
def test_split_lists_of_every_layout(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable, layout: str
) -> None:
    write_images(*(name for name, *_ in rows(20)))
    table = write_table("image,label,patient", rows(20))
    parts = {"train": range(12), "val": range(12, 16), "test": range(16, 20)}
    source = tmp_path / "lists"
    source.mkdir()
    if layout == "lists":
        for split, numbers in parts.items():
            (source / f"{split}_list.txt").write_text("\n".join(f"{n}.png" for n in numbers))
    elif layout == "tables":
        for split, numbers in parts.items():
            lines = [f"Set-v1/img/{n}.png,x" for n in numbers]
            (source / f"{split}.csv").write_text("\n".join(["Path,Sex", *lines]))
    elif layout == "json":
        document = {split: [f"img/{n}.png" for n in numbers] for split, numbers in parts.items()}
        source = tmp_path / "splits.json"
        source.write_text(json.dumps(document))
    elif layout == "monai":
        words = {"train": "training", "val": "validation", "test": "testing"}
        source = tmp_path / "dataset_0.json"
        source.write_text(
            json.dumps({words[s]: [{"image": f"img/{n}.png"} for n in p] for s, p in parts.items()})
        )
    else:
        source = tmp_path / "splits.csv"
        lines = [f"MRN{n // 2},{split}" for split, numbers in parts.items() for n in numbers]
        source.write_text("\n".join(["patient,split", *lines]))
    dataset = open_dataset(table, splits=source)
    assert [len(dataset.of_split(s)) for s in ("train", "val", "test")] == [12, 4, 4]  # type: ignore[arg-type]


def test_split_lists_that_do_not_fit(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*(name for name, *_ in rows(20)))
    table = write_table("image,label,patient", rows(20))
    source = tmp_path / "s.csv"
    source.write_text("image,split\n0.png,train\n1.png,test\n")
    with pytest.raises(LeakageError, match="1 of 1 patients"):
        open_dataset(table, splits=source)
    source.write_text("image,split\n0.png,train\n0.png,test\n")
    with pytest.raises(LeakageError, match="1 names stand in more than one split"):
        open_dataset(table, splits=source)
    source.write_text("image,split\nx.png,train\ny.png,test\n")
    with pytest.raises(TableError, match="None of the 2 names"):
        open_dataset(table, splits=source)
    source.write_text("image,split\n0.png,first\n")
    with pytest.raises(TableError, match="holds 'first'"):
        read_split_list(source)
    with pytest.raises(EmptyDataError, match="does not exist"):
        read_split_list(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="names no splits"):
        read_split_list(tmp_path / "empty")
