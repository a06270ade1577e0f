"""Tables of labels: read a CSV or TSV, and find the columns by what they are usually called."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from dinorad_rt.datasets.locate import IMAGE_SUFFIXES, suffix_of
from dinorad_rt.errors import EmptyDataError, TableError, UnreadableFileError

ALIASES: dict[str, list[str]] = {
    "image": (
        "image imagepath imagefile imagefilename imagename path filepath file filename img imgpath "
        "imgname imageindex imageid imgid dicom dicompath dcm dcmpath volume volumepath scan "
        "scanpath picture xray slicepath"
    ).split(),
    "label": (
        "label labels class classlabel classname target diagnosis dx finding findings "
        "findinglabels category pathology y groundtruth truth labelname outcome"
    ).split(),
    "patient": (
        "patient patientid patientkey subject subjectid participant participantid pid case caseid "
        "person personid mrn"
    ).split(),
    "split": "split set subset partition fold phase datasplit dataset usage".split(),
    "mask": (
        "mask maskpath segmentation segmentationpath seg segpath maskfile encodedpixels rle "
        "rlemask maskrle encodedmask"
    ).split(),
    "frame": "frame frameindex slice sliceindex sliceid".split(),
    "study": "study studyid studyinstanceuid studykey examination accession".split(),
    "series": "series seriesid seriesinstanceuid serieskey".split(),
    "sop": "sopinstanceuid sop sopuid instanceuid objectuid".split(),
}
"""Kind of column → its usual names, lower-case without blanks, `_`, `-` and `.`; best first."""

DELIMITERS = (",", ";", "\t", "|")

MISSING_WORDS = frozenset("nan na n/a #n/a <na> null nat".split())
"""What pandas, R and spreadsheets write for a cell without a value, in lower case."""

_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
_MAX_FIELD = 1 << 24
_MAX_UNPACKED = 1 << 30
_PROBED_ROWS = 200
_NUMBER = re.compile(r"[+-]?\d+(,\d+)?")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        source: the file.
        header: names of columns, in order.
        rows: cells, blanks around them removed, MISSING_WORDS as blank; as long as the header.
        lines: line of the file that each row began at.
    """

    source: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """All cells of a column."""
        at = self.header.index(name)
        return [row[at] for row in self.rows]

    def find(self, kind: str, wanted: str | None, option: str = "") -> str | None:
        """Name of the column of a kind: the one that the user wants, else by its aliases.

        Raises:
            TableError: the wanted column does not exist.
        """
        if wanted is not None:
            return self._named(wanted, option or f"--{kind}-column")
        simple = {simple_name(name): name for name in reversed(self.header)}
        if kind == "label" and "x" in simple:
            simple.pop("y", None)  # a coordinate
        return next((simple[alias] for alias in ALIASES[kind] if alias in simple), None)

    def missing(self, kind: str, option: str) -> TableError:
        """The error for a column that is needed and cannot be found."""
        return TableError(
            f"{self.source.name} has no column for the {kind}. Columns found: {self.listed()}.",
            f"Name it: {option} COLUMN. Understood without: {', '.join(ALIASES[kind][:6])}, ...",
        )

    def listed(self) -> str:
        """The header in words."""
        shown = ", ".join(self.header[:30])
        return shown + (", ..." if len(self.header) > 30 else "")

    def _named(self, wanted: str, option: str) -> str:
        if wanted in self.header:
            return wanted
        simple = {simple_name(name): name for name in self.header}
        if simple_name(wanted) in simple:
            return simple[simple_name(wanted)]
        raise TableError(
            f"{self.source.name} has no column {wanted!r}. Columns found: {self.listed()}.",
            f"Give one of them with {option}.",
        )


def read_table(path: Path) -> Table:
    """Read a table with a header line: delimited by comma, semicolon, tab or `|`, as it shows.

    UTF-8, UTF-16 or Windows text, also packed (`.csv.gz`). Columns of numbers with decimal commas
    get decimal points, unless the comma is the delimiter.

    Raises:
        EmptyDataError: no rows.
        TableError: no header, unequal rows, doubled column names, or no text.
    """
    text = _decoded(path)
    delimiter, first = _delimiter(text)
    csv.field_size_limit(_MAX_FIELD)
    body = text.split("\n", first - 1)[-1]
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter)
    rows, lines = [], []
    start = first
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(tuple(cell.strip() for cell in row))
                lines.append(start)
            start = reader.line_num + first
    except csv.Error as error:
        raise TableError(f"{path} is no CSV: {error}.", "Save it as UTF-8 CSV.") from error
    if rows and (any(map(_names_file, rows[0])) or all(map(_is_number, rows[0]))):
        what = "names a file" if any(map(_names_file, rows[0])) else "holds numbers alone"
        raise TableError(
            f"{path.name} has no header: its first line {what}, no columns.",
            "Write the names of the columns above it, a comma between them: image,label",
        )
    if len(rows) < 2:
        raise EmptyDataError(f"{path} holds no rows below a header.", "Add one row per image.")
    table = _checked(path, rows, lines)
    return table if delimiter == "," else _with_decimal_points(table)


def _checked(path: Path, rows: list[tuple[str, ...]], lines: list[int]) -> Table:
    header = tuple(name or f"unnamed {i}" for i, name in enumerate(rows[0]))
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise TableError(
            f"{path.name} has columns of one name twice: {', '.join(doubled)}.", "Rename them."
        )
    body = []
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) > len(header) and not any(row[len(header) :]):
            row = row[: len(header)]
        if len(row) != len(header):
            raise TableError(
                f"{path.name}, line {line}: {len(row)} cells, but the header has {len(header)}.",
                "Mend the line; quote cells that hold the delimiter.",
            )
        body.append(tuple("" if cell.lower() in MISSING_WORDS else cell for cell in row))
    return Table(path, header, tuple(body), tuple(lines[1:]))


def stem_of_table(path: Path) -> str:
    """Name without `.csv`, `.tsv.gz`, ..."""
    return Path(path.name.removesuffix(".gz")).stem


def _names_file(cell: str) -> bool:
    """True for what no column is called: a file of an image, or a path of a folder."""
    is_folder = cell.endswith("/") and cell.count("/") > 1
    return is_folder or any(suffix_of(Path(word)) in IMAGE_SUFFIXES for word in cell.split())


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d+([.,]\d+)?", cell) is not None


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = _unpacked(raw, path)
    except OSError as error:
        raise UnreadableFileError(
            f"Cannot open {path}: {error.strerror}.", "Check that you may read it."
        ) from error
    if b"\x00" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TableError(f"{path} is no text file.", "Give a CSV, or the folder of the images.")
    encodings: Iterable[str] = _ENCODINGS
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ("utf-16",)
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise TableError(f"{path} is no text in UTF-8.", "Save it as UTF-8 CSV.")


def _unpacked(raw: bytes, path: Path) -> bytes:
    try:
        with gzip.open(io.BytesIO(raw)) as file:
            plain = file.read(_MAX_UNPACKED + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(f"{path} cannot be unpacked: {error}.", "Fetch it again.") from error
    if len(plain) > _MAX_UNPACKED:
        raise TableError(f"{path} unpacks to more than 1 GiB.", "Cut the table into parts.")
    return plain


def _delimiter(text: str) -> tuple[str, int]:
    """The delimiter, and the line of the header; spreadsheets may write `sep=;` above it.

    Of the candidates in the header it is the one that cuts most rows into as many cells as the
    header; of equal ones, that which makes more cells.
    """
    said = re.match(r"sep=([,;\t|])\r?\n", text)
    if said:
        return said[1], 2
    found = {one: score for one in DELIMITERS if (score := _regularity(text, one)) is not None}
    return max(found, key=lambda one: found[one], default=DELIMITERS[0]), 1


def _regularity(text: str, delimiter: str) -> tuple[float, int] | None:
    """Share of the first rows that are as long as the header, and its length; None if 1 cell."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = (row for row in reader if any(cell.strip() for cell in row))
    try:
        header, *others = islice(rows, _PROBED_ROWS)
    except (csv.Error, ValueError):
        return None
    if len(header) < 2:
        return None
    alike = sum(len(row) == len(header) for row in others)
    return alike / max(1, len(others)), len(header)


def _with_decimal_points(table: Table) -> Table:
    """`0,5` → `0.5` in columns that hold nothing but numbers."""
    numbers = {
        at
        for at in range(len(table.header))
        if all(_NUMBER.fullmatch(row[at]) for row in table.rows if row[at])
    }
    rows = (
        tuple(cell.replace(",", ".") if at in numbers else cell for at, cell in enumerate(row))
        for row in table.rows
    )
    return replace(table, rows=tuple(rows))


def simple_name(name: str) -> str:
    """Lower case, letters and digits alone: `Image ID` → `imageid`."""
    return "".join(character for character in name.lower() if character.isalnum())
