"""Reading tables: what Excel, R and pandas write."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.datasets.table import read_table
from dinorad_rt.errors import EmptyDataError, TableError


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
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
