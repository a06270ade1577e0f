"""Rows of a table → records: which column is which, and which file each row means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorad_rt.datasets.headers import index_headers, is_maybe_dicom
from dinorad_rt.datasets.labels import (
    Labels,
    flag_columns,
    labels_of_table,
    looks_like_paths,
    plain_integer,
    shown_values,
)
from dinorad_rt.datasets.locate import IMAGE_SUFFIXES, Locator, suffix_of
from dinorad_rt.datasets.patients import found_patients
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.datasets.table import ALIASES, Table
from dinorad_rt.errors import TableError
from dinorad_rt.identifiers import listed
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of

_PROBED_ROWS = 50


@dataclass(frozen=True)
class Columns:
    """What the user said of a table's columns; None for what is to be found out.

    Attributes:
        image, label, patient, split, mask: names of columns.
        separator: what stands between several findings in one label.
    """

    image: str | None = None
    label: str | None = None
    patient: str | None = None
    split: str | None = None
    mask: str | None = None
    separator: str | None = None

    @property
    def named(self) -> list[str]:
        """The columns that were named."""
        names = (self.image, self.label, self.patient, self.split, self.mask)
        return [name for name in names if name is not None]


@dataclass(frozen=True)
class _Layout:
    """Column of each kind, None where the table has none."""

    image: str | None
    patient: str | None
    split: str | None
    mask: str | None
    frame: str | None
    study: str | None
    series: str | None
    sop: str | None

    @property
    def taken(self) -> set[str]:
        return {name for name in vars(self).values() if name is not None}


def is_segmentation(table: Table, columns: Columns, task: str) -> bool:
    """Whether a table is read for its masks: if asked for, or if it holds no class per image."""
    if task != "auto" or columns.mask is not None:
        return task != "classification"
    if columns.label is not None:
        return False
    return has_masks(table) and not has_labels(table)


def has_masks(table: Table) -> bool:
    """Whether a table has a column of masks, by its name or by files under labels."""
    label = table.find("label", None)
    named = table.find("mask", None) is not None
    return named or (label is not None and looks_like_paths(table.column(label)))


def has_labels(table: Table) -> bool:
    """Whether a table has a column of classes, or of 0 and 1 for findings."""
    label = table.find("label", None)
    if label is not None:
        return not looks_like_paths(table.column(label))
    taken = {name for kind in ALIASES if (name := table.find(kind, None)) is not None}
    return bool(flag_columns(table, taken))


def records_of_table(
    table: Table, columns: Columns, root: Path, *, masks: bool = False
) -> tuple[list[Record], Labels | None, list[str]]:
    """Interpret a table.

    Args:
        table: the table.
        columns: those that the user named.
        root: folder that paths start from.
        masks: read it for its masks, see `is_segmentation`.

    Returns:
        Records in the table's order, their labels (None for masks), and notes.

    Raises:
        TableError: a column or cell that cannot be understood.
        LabelError: labels that no classification can use.
    """
    locator = Locator(root)
    split, notes = _split_column(table, columns.split)
    layout = _Layout(
        image=_image_column(table, columns.image, locator),
        patient=table.find("patient", columns.patient),
        split=split,
        mask=_mask_column(table, columns) if masks else table.find("mask", None),
        **{kind: table.find(kind, None) for kind in ("frame", "study", "series", "sop")},
    )
    labels = (
        None if masks else labels_of_table(table, columns.label, layout.taken, columns.separator)
    )
    if layout.image is None:
        pairs, more = _files_by_uid(table, layout, locator)
    else:
        pairs, more = _files_by_name(table, layout.image, locator)
    notes += more
    records = _records(table, layout, labels, pairs, locator)
    if layout.patient is None:
        records, more = found_patients(records)
        notes += more
    if any(r.patient is None for r in records) and any(r.patient is not None for r in records):
        notes.append("images without a patient count as patients of their own")
    return records, labels, notes + _unlisted(records)


def _image_column(table: Table, wanted: str | None, locator: Locator) -> str | None:
    """The wanted column; else one of the usual names, else any, whose cells name files."""
    if wanted is not None:
        return table.find("image", wanted)
    simple = {_simple(name): name for name in reversed(table.header)}
    usual = [simple[alias] for alias in ALIASES["image"] if alias in simple]
    aside = {table.find(kind, None) for kind in ("mask", "label", "split")}
    others = [name for name in table.header if name not in usual and name not in aside]
    for name in (*usual, *others):
        cells = table.column(name)[:_PROBED_ROWS]
        if any(_is_file_name(cell) and locator.find(cell) is not None for cell in cells):
            return name
    uids = any(table.find(kind, None) for kind in ("sop", "series", "study", "patient"))
    if not usual and not uids:
        raise table.missing("image", "--image-column")
    return usual[0] if usual else None


def _mask_column(table: Table, columns: Columns) -> str:
    """The column of masks, several separated by commas for one file per class.

    Raises:
        TableError: there is none.
    """
    if columns.mask is not None and columns.mask not in table.header and "," in columns.mask:
        parts = [table.find("mask", part.strip()) or "" for part in columns.mask.split(",")]
        return ",".join(parts)
    found = table.find("mask", columns.mask)
    if found is not None:
        return found
    label = table.find("label", columns.label)
    if label is not None and looks_like_paths(table.column(label)):
        return label
    raise table.missing("mask", "--mask-column")


def _is_file_name(cell: str) -> bool:
    """False for what is no name of a file, such as the small numbers of a label column."""
    return bool(cell) and not (cell.isdigit() and len(cell) < 3)


def _split_column(table: Table, wanted: str | None) -> tuple[str | None, list[str]]:
    """The split column, if its cells can be understood; guesses that cannot are left alone."""
    name = table.find("split", wanted)
    if name is None:
        return None, []
    cells = table.column(name)
    unknown = sorted({cell for cell in cells if parse_split(cell) is None})
    if not unknown:
        return name, []
    if wanted is None and _simple(name) != "split":
        return None, [f"column {name!r} holds no train, val, test: not used as split"]
    raise TableError(
        f"{table.source.name}: split column {name!r} holds {shown_values(unknown)} in "
        f"{sum(cell in unknown for cell in cells)} rows.",
        "Allowed: train, val, test (also training, valid, validation, dev, testing).",
    )


Pairs = list[tuple[int, Path]]
"""Row of the table, and a file that it means."""


def _files_by_name(table: Table, column: str, locator: Locator) -> tuple[Pairs, list[str]]:
    cells = table.column(column)
    blank = [line for cell, line in zip(cells, table.lines, strict=True) if not cell]
    if blank:
        raise TableError(
            f"{table.source.name}: column {column!r} is blank in {len(blank)} rows (first: line "
            f"{blank[0]}).",
            "Fill in the files, or remove the rows.",
        )
    return [(i, locator.find(c) or locator.expected(c)) for i, c in enumerate(cells)], []


def _files_by_uid(table: Table, layout: _Layout, locator: Locator) -> tuple[Pairs, list[str]]:
    """Rows that name SOP instance, series, study or patient: join them to DICOM headers."""
    headers = index_headers(path for path in locator.files if is_maybe_dicom(path))
    for level in ("sop", "series", "study", "patient"):
        column = getattr(layout, level)
        if column is None:
            continue
        by_id = headers.by_level(level)
        cells = table.column(column)
        pairs = [(row, path) for row, cell in enumerate(cells) for path in by_id.get(cell, ())]
        if pairs:
            notes = [
                f"labels are joined to DICOM files by {level}: {count_of(len(pairs), 'image')}"
            ]
            without = [cell for cell in cells if cell not in by_id]
            if without:
                more = listed(without)
                count, verb = len(without), verb_of(len(without), "names", "name")
                notes.append(
                    f"{count_of(count, 'row')} {verb} a {level} of which no file is here{more}"
                )
            joined = {path for _, path in pairs}
            rest = [str(one.path) for one in headers.headers if one.path not in joined]
            if rest:
                more = listed(rest)
                notes.append(f"{len(rest)} DICOM images have a {level} that no row names{more}")
            return pairs, notes
    raise table.missing("image", "--image-column")


def _records(
    table: Table, layout: _Layout, labels: Labels | None, pairs: Pairs, locator: Locator
) -> list[Record]:
    empty = [""] * len(table.rows)
    masks = _masks(table, layout, locator)

    def cells(column: str | None) -> Sequence[str]:
        return empty if column is None else table.column(column)

    patients, splits = cells(layout.patient), cells(layout.split)
    studies, series, frames = cells(layout.study), cells(layout.series), cells(layout.frame)
    numbered = all(cell.isdigit() for cell in frames)
    return [
        Record(
            name=_name(path, locator.root),
            path=path,
            labels=() if labels is None else labels.rows[row],
            patient=_patient(patients[row]),
            split=_parsed(splits[row]),
            mask=masks[row][0] if masks[row] else None,
            frame=int(frames[row]) if numbered else None,
            study=studies[row] or None,
            series=series[row] or None,
            mask_parts=masks[row] if len(masks[row]) > 1 else (),
        )
        for row, path in pairs
    ]


def _masks(table: Table, layout: _Layout, locator: Locator) -> list[tuple[Path, ...]]:
    """Mask files of each row: none if blank or if one of several does not exist."""
    if layout.mask is None:
        return [()] * len(table.rows)
    columns = [layout.mask] if layout.mask in table.header else layout.mask.split(",")
    found = []
    for cells in zip(*(table.column(name) for name in columns), strict=True):
        paths = [locator.find(cell) for cell in cells]
        found.append(tuple(p for p in paths if p is not None) if all(paths) else ())
    return found


def _patient(cell: str) -> str | None:
    """The patient that a cell names; `7.0`, as pandas writes a column with gaps, is `7`."""
    return None if cell.lower() in ("", "none") else plain_integer(cell)


def _parsed(cell: str) -> Split | None:
    return parse_split(cell) if cell else None


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _unlisted(records: Sequence[Record]) -> list[str]:
    """Images that lie beside the listed ones, but in no row."""
    known = {record.path for record in records}
    folders = {path.parent for path in known if path.exists()}
    known |= {path for one in records for path in (one.mask, *one.mask_parts) if path is not None}
    found = []
    for folder in sorted(folders):
        with os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                image = suffix_of(path) in IMAGE_SUFFIXES and not entry.name.startswith(".")
                if image and path not in known and entry.is_file():
                    found.append(str(path))
    if not found:
        return []
    stand = verb_of(len(found), "stands", "stand")
    beside = f"{count_of(len(found), 'image')} beside the listed ones {stand} in no row"
    return [beside + listed(sorted(found))]


def _simple(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
