"""Several findings in one label cell, told from names that hold such a character."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from dinorad_rt.datasets.labels import Labels, labels_of_table
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.datasets.table import read_table
from dinorad_rt.errors import LabelError, TableError

Read = Callable[..., Labels]


@pytest.fixture
def read(write_table: Callable[..., Path]) -> Read:
    """Labels of a table with the given label cells."""

    def labels(cells: Sequence[str], separator: str | None = None) -> Labels:
        table = read_table(write_table("image,label", [("x", cell) for cell in cells]))
        return labels_of_table(table, None, {"image"}, separator)

    return labels


def _as_sklearn(labels: Labels, lists: Sequence[Sequence[str]]) -> None:
    encoder = MultiLabelBinarizer()
    expected = encoder.fit_transform(lists)
    assert labels.task == "multilabel" and list(labels.class_names) == list(encoder.classes_)
    assert np.array_equal(labels.rows, expected)


NIH = ["Cardiomegaly|Emphysema", "Cardiomegaly", "No Finding", "Hernia|Emphysema", "No Finding"]


@pytest.mark.parametrize("separator", ["|", ";", ", "])
def test_lists_as_published_sets_write_them(read: Read, separator: str) -> None:
    alone = ["Emphysema", "Hernia"]
    labels = read([cell.replace("|", separator) for cell in NIH] + alone)
    _as_sklearn(labels, [cell.split("|") for cell in NIH] + [[one] for one in alone])
    (note,) = labels.notes
    assert f"separated by {separator.strip()}: 4 findings" in note
    assert "--label-separator none" in note


@pytest.mark.parametrize(
    "cells",
    [
        ["['edema', 'mass']", "['edema']", "[]", "['mass', 'nodule', ]"],
        ['["edema", "mass"]', '["edema"]', "", '["mass", "nodule"]'],
        ["['edema' 'mass']", "edema", "[]", "['mass'\n 'nodule']"],
        ["[edema, mass]", "[edema]", "[]", "[mass, nodule]"],
    ],
)
def test_lists_in_brackets(read: Read, cells: list[str]) -> None:
    labels = read(cells)
    _as_sklearn(labels, [["edema", "mass"], ["edema"], [], ["mass", "nodule"]])
    missing = ", 1 of them with a blank cell" if "" in cells else ""
    assert "in brackets" in labels.notes[0]
    assert f"1 row without any finding{missing}" in labels.notes


def test_an_apostrophe_in_a_finding(read: Read) -> None:
    labels = read(["[\"Boehler's angle\", 'edema']", "['edema']"])
    assert labels.class_names == ("Boehler's angle", "edema")


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["Pneumonia, viral", "Pneumonia, bacterial", "Normal"] * 3, 3),
        (["Pneumonia, viral", "Pneumonia, bacterial", "Pneumonia"] * 3, 3),
        (["T1; N0", "T1; N1", "T2; N0"] * 3, 3),
        (["L|R", "A|P"] * 3, 2),
        (["left (1;2)", "right"] * 3, 2),
        (["3,5", "3", "5"] * 3, 3),
        (["[left]", "right"] * 3, 2),
    ],
)
def test_names_that_hold_such_characters_stay_one_class(
    read: Read, cells: list[str], classes: int
) -> None:
    labels = read(cells)
    assert labels.task != "multilabel" and len(labels.class_names) == classes


def test_what_stays_one_class_is_said(read: Read) -> None:
    for separator, cells in (("|", ["L|R", "A|P"]), (";", ["T1; N0", "T1; N1", "T2; N0"])):
        labels = read(cells * 3)
        assert any(f"--label-separator '{separator}'" in note for note in labels.notes)
    assert not any("separator" in note for note in read(["Opacity, left", "Normal"] * 3).notes)


def test_what_cannot_be_told_is_refused_with_the_option(read: Read) -> None:
    cells = ["edema;mass", "edema", "normal"] * 3
    with pytest.raises(LabelError, match="1 different label holds ';'") as caught:
        read(cells)
    assert "--label-separator ';'" in caught.value.fix and "none" in caught.value.fix
    assert read(cells, ";").class_names == ("edema", "mass", "normal")
    assert read(cells, "none").class_names == ("edema", "edema;mass", "normal")


def test_the_user_decides(read: Read) -> None:
    assert read(NIH, "none").task == "multiclass"
    assert read(["edema + mass", "edema"], "+").class_names == ("edema", "mass")
    assert read(["['a', 'b']", "c"], "none").task == "binary"
    with pytest.raises(LabelError, match="No cell of column 'label' holds the separator '/'"):
        read(NIH, "/")


def test_a_separator_needs_one_column_of_a_table(
    write_table: Callable[..., Path], write_images: Callable[..., None], tmp_path: Path
) -> None:
    table = read_table(write_table("image,a,b", [("x", 1, 0), ("x", 0, 1)]))
    with pytest.raises(TableError, match="Several label columns"):
        labels_of_table(table, "a,b", {"image"}, "|")
    with pytest.raises(TableError, match="no column for the label"):
        labels_of_table(table, None, {"image"}, "|")
    write_images("folder/yes/1.png", "folder/no/2.png")
    with pytest.raises(TableError, match="no labels to separate"):
        open_dataset(tmp_path / "folder", label_separator="|")


def test_a_table_of_lists_is_opened(
    write_table: Callable[..., Path], write_images: Callable[..., None], tmp_path: Path
) -> None:
    names = [f"{number}.png" for number in range(12)]
    write_images(*names)
    cells = ["edema;mass", "edema", "mass"] * 4
    rows = [(name, cell, name) for name, cell in zip(names, cells, strict=True)]
    dataset = open_dataset(write_table("image,label,patient", rows))
    assert dataset.task == "multilabel" and dataset.class_names == ("edema", "mass")
    assert [sample.labels for sample in dataset.samples[:3]] == [(1, 1), (1, 0), (0, 1)]
    assert any("separated by ;: 2 findings" in note for note in dataset.notes)
    single = open_dataset(tmp_path, label_separator="none")
    assert single.task == "multiclass" and len(single.class_names) == 3


def test_the_real_nih_set_by_columns_and_as_its_publisher_writes_it(
    shared_data: Path, write_table: Callable[..., Path]
) -> None:
    root = shared_data / "cxr_nih1000_multilabel"
    with (root / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    findings = list(rows[0])[5:]
    flags = [tuple(int(row[name]) for name in findings) for row in rows]
    dataset = open_dataset(root)
    assert dataset.task == "multilabel" and list(dataset.class_names) == findings
    assert [sample.labels for sample in dataset.samples] == flags
    assert len({one.patient for one in dataset.samples}) == len({row["patient"] for row in rows})
    lists = [[name for name in findings if row[name] == "1"] or ["No Finding"] for row in rows]
    cells = [("x", "|".join(names)) for names in lists]
    labels = labels_of_table(
        read_table(write_table("image,Finding Labels", cells)), None, {"image"}
    )
    _as_sklearn(labels, lists)
