"""Reading tables: what Excel, R and pandas write."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest

from dinorad_rt.datasets.table import read_table
from dinorad_rt.errors import EmptyDataError, TableError


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_quotes(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    lines = ["image,label", '"a, b; c.png",1', "", '"two\nlines",2']
    text = "\n".join(line.replace(",", delimiter) if '"' not in line else line for line in lines)
    text = text.replace('",', '"' + delimiter)
    path.write_text(text, encoding="utf-8")
    table = read_table(path)
    assert table.column("image") == ["a, b; c.png", "two\nlines"]
    assert table.column("label") == ["1", "2"] and table.lines == (2, 4)


def test_unequal_rows_name_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label\na.png,1\nb.png\n")
    with pytest.raises(TableError, match="line 3: 1 cells, but the header has 2"):
        read_table(tmp_path / "t.csv")


def test_trailing_delimiters_are_forgiven(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label\na.png,1,,\n")
    assert read_table(tmp_path / "t.csv").rows == (("a.png", "1"),)


def test_doubled_columns_and_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label,label\na,1,2\n")
    with pytest.raises(TableError, match="twice: label"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("\n\n")
    with pytest.raises(EmptyDataError):
        read_table(tmp_path / "t.csv")


def test_a_spreadsheet_is_no_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04\x00\x00")
    with pytest.raises(TableError, match="no text"):
        read_table(tmp_path / "t.csv")


def test_the_line_of_excel_above_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\r\nimage;label\r\nx, y.png;1\r\nz.png;0\r\n", newline="")
    table = read_table(path)
    assert table.header == ("image", "label") and table.rows[0] == ("x, y.png", "1")
    assert table.lines == (3, 4)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_write(
    tmp_path: Path, delimiter: str, encoding: str, newline: str
) -> None:
    rows = [["image", "label", "site"], ["a, b.png", "mass|edema; left", "Köln"]]
    rows += [["c\tc.png", "two\nlines", "Zürich"]] * 3
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if newline == "\r" else csv.QUOTE_MINIMAL  # Python quotes no \n there
    csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=quoting).writerows(rows)
    path = tmp_path / "t.csv"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(mark + text.getvalue().encode(encoding))
    table = read_table(path)
    assert [list(table.header), *map(list, table.rows)] == rows


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("image,label\na.png,Mass|Edema\nb.png,Mass|Hernia\n", ("image", "label")),
        ("image;label\na.png;1,5\nb.png;2,5\n", ("image", "label")),
        ("image|label\na.png|x,y\nb.png|z,t\n", ("image", "label")),
        ("image;size, mm;label\na.png;3,1;x\nb.png;4;y\n", ("image", "size, mm", "label")),
        ("image;a|b;label\na.png;x;x\nb.png;x|y;y\n", ("image", "a|b", "label")),
        ("image\na,b.png\nc,d.png\n", None),
        ("image,label\na.png,1\nb.png,1;2\nc.png,3,\n", ("image", "label")),
    ],
)
def test_the_delimiter_is_what_cuts_rows_alike(
    tmp_path: Path, text: str, header: tuple[str, ...] | None
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    if header is None:
        with pytest.raises(TableError, match="2 cells, but the header has 1"):
            read_table(path)
    else:
        assert read_table(path).header == header


def test_decimal_commas_are_points_in_columns_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image;mass;age;note\na,1.png;1,0;61,5;3,5\nb.png;0,0;;left, 2\nc.png;1;60;x\n")
    table = read_table(path)
    assert table.column("mass") == ["1.0", "0.0", "1"]
    assert table.column("age") == ["61.5", "", "60"]
    assert table.column("note") == ["3,5", "left, 2", "x"]
    assert table.column("image") == ["a,1.png", "b.png", "c.png"]
    path.write_text('image,grade\na.png,"4,5"\nb.png,"3,0"\n')
    assert read_table(path).column("grade") == ["4,5", "3,0"]


@pytest.mark.parametrize(
    "line",
    [
        "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/,1",
        "train/scan 7.nii.gz;healthy",
        "3 ARDSSevere.png negative actmed",
    ],
)
def test_a_table_without_a_header_is_refused(tmp_path: Path, line: str) -> None:
    """Its first image would be the header, and the other class would be called 1."""
    (tmp_path / "t.csv").write_text(f"{line}\n{line}\n")
    with pytest.raises(TableError, match="has no header") as caught:
        read_table(tmp_path / "t.csv")
    assert "patient11185" not in str(caught.value)


def test_packed_tables_are_read_and_damaged_ones_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress("image,label\nä.png,1\n".encode()))
    assert read_table(path).rows == (("ä.png", "1"),)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TableError, match="cannot be unpacked"):
        read_table(path)


def test_a_first_line_of_numbers_is_no_header(tmp_path: Path) -> None:
    """As MRNet's tables have it: the first patient would be lost."""
    (tmp_path / "t.csv").write_text("0000,1\n0001,0\n")
    with pytest.raises(TableError, match="first line holds numbers alone"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(",0,1\n0,x.png,1\n")
    assert read_table(tmp_path / "t.csv").header == ("unnamed 0", "0", "1")
