"""What cells of a label column mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import LabelEncoder, MultiLabelBinarizer

from dinorad_rt.datasets.labels import labels_of_table, order_of_classes
from dinorad_rt.datasets.table import read_table
from dinorad_rt.errors import LabelError, TableError

WriteTable = Callable[..., Path]


def test_text_is_encoded_as_sklearn_does(write_table: WriteTable) -> None:
    cells = ["glioma", "meningioma", "pituitary", "glioma"] * 5
    table = read_table(write_table("image,label", [("x.png", cell) for cell in cells]))
    labels = labels_of_table(table, None, {"image"})
    encoder = LabelEncoder().fit(cells)
    assert labels.task == "multiclass" and list(labels.class_names) == list(encoder.classes_)
    assert [row[0] for row in labels.rows] == encoder.transform(cells).tolist()


def test_lists_are_encoded_as_sklearn_does(write_table: WriteTable) -> None:
    cells = ["Mass|Edema", "No Finding", "", "Edema"]
    table = read_table(write_table("image,Finding Labels", [("x", cell) for cell in cells]))
    labels = labels_of_table(table, None, {"image"})
    encoder = MultiLabelBinarizer()
    expected = encoder.fit_transform([[p for p in cell.split("|") if p] for cell in cells])
    assert list(labels.class_names) == list(encoder.classes_)
    assert np.array_equal(labels.rows, expected)
    assert any("1 row without any finding" in note for note in labels.notes)


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (["hemorrhage", "normal"], "hemorrhage"),
        (["yes", "no"], "yes"),
        (["Positive", "Negative"], "Positive"),
        (["0", "1"], "1"),
        (["abnormal", "Normal"], "abnormal"),
        (["covid", "no finding"], "covid"),
        (["b", "a"], "b"),
        (["10", "9"], "10"),
        (["CT_COVID", "CT_NonCOVID"], "CT_COVID"),
        (["Demented", "NonDemented"], "Demented"),
        (["fractured", "not fractured"], "fractured"),
        (["tumor", "without_tumor"], "tumor"),
        (["AD", "CN"], "AD"),
        (["lung", "lungno"], "lung"),
        (["nodule", "organ"], "organ"),
    ],
)
def test_the_finding_is_the_positive_class(names: list[str], positive: str) -> None:
    assert order_of_classes(names)[1] == positive


def test_spreadsheet_integers_and_names(write_table: WriteTable) -> None:
    rows = [("x", "0.0", "healthy"), ("x", "2.0", "ill"), ("x", "0", "healthy"), ("x", "2", "ill")]
    table = read_table(write_table("image,label,class", rows))
    labels = labels_of_table(table, None, {"image"})
    assert labels.class_names == ("healthy", "ill")
    assert [row[0] for row in labels.rows] == [0, 1, 0, 1]
    rows[3] = ("x", "2", "healthy")
    table = read_table(write_table("image,label,class", rows))
    assert labels_of_table(table, None, {"image"}).class_names == ("0", "2")


def test_flags_are_findings(write_table: WriteTable) -> None:
    rows = [("x", 1, "", 0, 61), ("x", 0, 1, 1, 59), ("x", 0, 0, 1, 1)]
    table = read_table(write_table("image,Mass,Edema,sex,age", rows))
    labels = labels_of_table(table, None, {"image"})
    assert labels.class_names == ("Mass", "Edema") and labels.rows == ((1, 0), (0, 1), (0, 0))
    assert "1 blank labels count as 0" in labels.notes
    chosen = labels_of_table(table, "Mass,sex", {"image"})
    assert chosen.class_names == ("Mass", "sex")


def test_one_flag_is_binary(write_table: WriteTable) -> None:
    table = read_table(write_table("image,Pneumonia", [("x", 1), ("x", 0)]))
    labels = labels_of_table(table, None, {"image"})
    assert labels.task == "binary" and labels.class_names == ("no Pneumonia", "Pneumonia")


def test_uncertain_is_the_users_decision(write_table: WriteTable) -> None:
    table = read_table(write_table("image,Mass,Edema", [("x", 1, 0), ("x", -1, 0)]))
    with pytest.raises(TableError, match="'Mass' holds '-1'"):
        labels_of_table(table, None, {"image"})


def test_too_many_classes_are_no_classes(write_table: WriteTable) -> None:
    table = read_table(write_table("image,label", [("x", f"id{i}") for i in range(30)]))
    with pytest.raises(LabelError, match="30 different values in 30 samples"):
        labels_of_table(table, None, {"image"})


def test_spellings_of_one_label_are_one_class(write_table: WriteTable) -> None:
    cells = ["Positive", "Positive", "positive", "NEGATIVE", "negative ", "Negative"] * 4
    table = read_table(write_table("image,label", [("x", cell) for cell in cells]))
    labels = labels_of_table(table, None, {"image"})
    assert labels.class_names == ("NEGATIVE", "Positive")
    assert [row[0] for row in labels.rows] == [1, 1, 1, 0, 0, 0] * 4
    assert any("Positive, positive are one class" in note for note in labels.notes)
    table = read_table(write_table("image,label", [("x", c) for c in ["Mass|edema", "Edema", ""]]))
    assert labels_of_table(table, None, {"image"}).class_names == ("Edema", "Mass")


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "<NA>", "null", "N/A"])
def test_words_for_missing_are_no_class(write_table: WriteTable, word: str) -> None:
    cells = ["a", "b", "a", word, "b"]
    table = read_table(write_table("image,label", [("x", cell) for cell in cells]))
    with pytest.raises(TableError, match=r"blank in 1 rows \(lines 5\)"):
        labels_of_table(table, None, {"image"})


def test_true_and_false_are_flags(write_table: WriteTable) -> None:
    rows = [("x", bool(i % 2), str(i % 3 == 0).lower()) for i in range(9)]
    table = read_table(write_table("image,edema,mass", rows))
    labels = labels_of_table(table, None, {"image"})
    assert labels.task == "multilabel" and labels.class_names == ("edema", "mass")
    assert labels.rows == tuple((i % 2, int(i % 3 == 0)) for i in range(9))


def test_many_numbers_may_be_a_measurement(write_table: WriteTable) -> None:
    """Such as the months of a bone age; grades are few."""
    for count, told in ((60, True), (30, False)):
        rows = [(f"{n}.png", 12 + n % count) for n in range(4 * count)]
        labels = labels_of_table(read_table(write_table("image,label", rows)), None, {"image"})
        assert any("if they measure something" in note for note in labels.notes) is told


@pytest.mark.parametrize("corners", ["x,y,width,height", "xmin,ymin,xmax,ymax"])
def test_coordinates_are_no_labels(write_table: WriteTable, corners: str) -> None:
    rows = [(f"{n}.png", n % 2, n % 2, 1, 1) for n in range(12)]
    table = read_table(write_table(f"image,{corners}", rows))
    with pytest.raises(TableError, match="no column for the label"):
        labels_of_table(table, None, {"image"})
    named = read_table(write_table("image,y", [row[:2] for row in rows]))
    assert labels_of_table(named, None, {"image"}).class_names == ("0", "1")
