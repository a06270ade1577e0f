"""`open_dataset`: the user's folder or table becomes a checked `Dataset`, without configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dinorad_rt.datasets.checks import build_dataset
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.folders import records_of_folders
from dinorad_rt.datasets.headers import patients_from_headers
from dinorad_rt.datasets.rows import Columns, records_of_table
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.datasets.table import Table, read_table
from dinorad_rt.errors import EmptyDataError, TableError
from dinorad_rt.types import Split

TABLE_NAME = "labels.csv"
_TABLE_SUFFIXES = (".csv", ".tsv")


def open_dataset(
    data: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    patient_column: str | None = None,
    split_column: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Open labelled images.

    Args:
        data: class folders (DIR/class/..., DIR/train/class/...), a CSV or TSV, or a folder with
            labels.csv or one other table. Paths in a table are relative to its folder.
        image_column, label_column, patient_column, split_column: columns of the table; without
            them the usual names are understood. Several label columns of 0/1 are given as `a,b,c`.
        seed: of the split by patient that is made where none is given.

    Returns:
        A dataset whose patients each stand in one split.

    Raises:
        EmptyDataError: nothing there, or most listed files are missing.
        TableError: a column is missing, or a cell cannot be read.
        LabelError: one class only, or no classes (masks, real numbers).
        LeakageError: a patient in two splits.
    """
    path = Path(data).expanduser()
    columns = Columns(image_column, label_column, patient_column, split_column)
    table = _table_of(path)
    if table is not None:
        root = table.source.parent
        records, labels, notes = records_of_table(table, columns, root)
        named_by_folder = path.is_dir() or table.source.name.lower() == TABLE_NAME
        name = root.resolve().name if named_by_folder else table.source.stem
        labels = replace(labels, notes=(*labels.notes, *notes))
        return build_dataset(name, root, records, labels, seed=seed)
    if columns.named:
        raise TableError(
            f"{path} has no table, so there is no column {columns.named[0]!r}.",
            "Give the CSV itself with --data.",
        )
    records, labels, notes = records_of_folders(path)
    if all(record.patient is None for record in records):
        records, more = patients_from_headers(records)
        notes += more
    labels = replace(labels, notes=tuple(notes))
    return build_dataset(path.resolve().name, path, records, labels, seed=seed)


def _table_of(path: Path) -> Table | None:
    """The table that a path means; None for class folders."""
    if not path.exists():
        raise EmptyDataError(f"{path} does not exist.", "Check the spelling of --data.")
    if path.is_file():
        if path.suffix.lower() not in (*_TABLE_SUFFIXES, ".txt"):
            raise EmptyDataError(
                f"{path} is one file, no set of images.",
                "Give a CSV (image, label, patient, split), or a folder.",
            )
        return read_table(path)
    tables = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in _TABLE_SUFFIXES and not entry.name.startswith(".")
    )
    named = [entry for entry in tables if entry.name.lower() == TABLE_NAME]
    if named or len(tables) == 1:
        return read_table((named or tables)[0])
    by_split = {split: entry for entry in tables if (split := parse_split(entry.stem)) is not None}
    if len(by_split) > 1 and len(by_split) == len(tables):
        return _joined({split: read_table(entry) for split, entry in by_split.items()})
    if tables:
        listed = ", ".join(entry.name for entry in tables[:6])
        raise TableError(
            f"{path} holds several tables and none is called {TABLE_NAME}: {listed}.",
            "Give the one that is meant with --data.",
        )
    return None


def _joined(tables: dict[Split, Table]) -> Table:
    """train.csv, val.csv, test.csv → one table with a split column."""
    first = next(iter(tables.values()))
    for table in tables.values():
        if table.header != first.header:
            raise TableError(
                f"{table.source.name} and {first.source.name} have different columns.",
                "Give them the same header, or one table with a split column.",
            )
    keep = [i for i, name in enumerate(first.header) if name != "split"]
    rows = tuple(
        (*(row[i] for i in keep), split) for split, table in tables.items() for row in table.rows
    )
    lines = tuple(line for table in tables.values() for line in table.lines)
    return Table(first.source, (*(first.header[i] for i in keep), "split"), rows, lines)
