"""Rows of a table → records: which file each row means, and what it says of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorad_rt.datasets.beside import endings_of
from dinorad_rt.datasets.checks import MISSING_SHARE
from dinorad_rt.datasets.columns import Columns, Layout, has_labels, layout_of
from dinorad_rt.datasets.headers import index_headers, is_maybe_dicom
from dinorad_rt.datasets.labels import Labels, labels_of_table, plain_integer
from dinorad_rt.datasets.locate import (
    IMAGE_SUFFIXES,
    VOLUME_SUFFIXES,
    Locator,
    suffix_of,
)
from dinorad_rt.datasets.long_tables import widened
from dinorad_rt.datasets.outlines import refuse_outlines
from dinorad_rt.datasets.patients import found_patients
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.run_tables import labels_of_runs, with_runs
from dinorad_rt.datasets.several import rows_joined
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.datasets.table import Table
from dinorad_rt.errors import EmptyDataError, TableError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.read import file_kind
from dinorad_rt.studies.series import visible_files, volume_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of


@dataclass(frozen=True)
class Rows:
    """What a table holds.

    Attributes:
        records: in the table's order.
        labels: None for masks.
        classes: of masks by their columns or rows, background first; None where nothing tells.
        notes: what was found out, in words.
    """

    records: list[Record]
    labels: Labels | None
    classes: tuple[str, ...] | None
    notes: list[str]


def records_of_table(table: Table, columns: Columns, root: Path, *, masks: bool = False) -> Rows:
    """Interpret a table.

    Args:
        table: the table.
        columns: those that the user named.
        root: folder that paths start from.
        masks: read it for its masks, see `is_segmentation`.

    Raises:
        TableError: a column or cell that cannot be understood.
        LabelError: labels that no classification can use.
        MaskError: runs that do not fit their images.
    """
    locator = Locator(root)
    wide: list[str] = []
    if not masks and not columns.named:
        table, wide = widened(table, locator)
    layout, notes = layout_of(table, columns, locator, masks)
    runs = layout.runs
    derived = runs is not None and columns.label is None
    if runs is not None and runs.classes is None:
        derived = derived and not has_labels(table)
    labels = None
    if not (masks or derived):
        labels = labels_of_table(table, columns.label, layout.taken, columns.separator)
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
    classes = None
    rows = [row for row, _ in pairs]
    if masks:
        records, classes, more = _with_masks(records, rows, table, layout, root)
        notes += more
    elif runs is not None and labels is None:
        records, labels = labels_of_runs(records, rows, table, runs)
    return Rows(records, labels, classes, wide + notes + _unlisted(records))


def _with_masks(
    records: list[Record], rows: Sequence[int], table: Table, layout: Layout, root: Path
) -> tuple[list[Record], tuple[str, ...] | None, list[str]]:
    """One record per image with all its masks; the classes that columns or rows tell; notes."""
    if layout.runs is not None:
        return with_runs(records, rows, table, layout.runs, root)
    if layout.mask is not None and layout.mask not in table.header:
        return records, ("background", *layout.mask.split(",")), []
    told = None if layout.mask_class is None else table.column(layout.mask_class)
    return rows_joined(records, None if told is None else [told[row] for row in rows])


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
    pairs = [(i, locator.find(c) or locator.expected(c)) for i, c in enumerate(cells)]
    return pairs, _several_volumes(column, [path for _, path in pairs])


def _several_volumes(column: str, paths: Sequence[Path]) -> list[str]:
    """What to say of rows that name folders of several volume files.

    Raises:
        TableError: most rows do.
    """
    folders = {path for path in set(paths) if suffix_of(path) not in IMAGE_SUFFIXES}
    found = {path: _volumes(path) for path in folders if path.is_dir()}
    wrong = [path for path in paths if len(found.get(path, ())) > 1]
    if not wrong:
        return []
    endings = endings_of(one for path in wrong for one in found[path])
    told = f"{len(wrong)} of {len(paths)} rows name folders that hold several volumes{endings}"
    if len(wrong) > MISSING_SHARE * len(paths):
        raise TableError(
            f"{told} in column {column!r}; one is read{listed(list(map(str, wrong)))}.",
            "Write the file that is meant into a column of the table: --image-column COLUMN.",
        )
    return [f"{told}: they will stand in the failures"]


def _volumes(folder: Path) -> list[Path]:
    """The volume files of a folder that holds no DICOM; looked into only where names tell two."""
    files = list(visible_files(folder))
    if sum(suffix_of(one) in VOLUME_SUFFIXES for one in files) < 2:
        return []
    return [] if any(file_kind(one) == "dicom" for one in files) else volume_files(folder)


def _files_by_uid(table: Table, layout: Layout, locator: Locator) -> tuple[Pairs, list[str]]:
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
    table: Table, layout: Layout, labels: Labels | None, pairs: Pairs, locator: Locator
) -> list[Record]:
    empty = [""] * len(table.rows)
    masks = _masks(table, layout, locator)
    if labels is None and layout.mask is not None and not any(masks):
        _refuse_missing(table, layout.mask, locator)

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


def _refuse_missing(table: Table, mask: str, locator: Locator) -> None:
    """Refuse masks of which not one is there.

    Raises:
        TableError: the cells are no names of files.
        EmptyDataError: the files do not exist.
    """
    columns = [mask] if mask in table.header else mask.split(",")
    for column in columns:
        refuse_outlines(table, column)
        cells = [cell for cell in table.column(column) if cell]
        if cells and not any(map(locator.find, cells)):
            raise EmptyDataError(
                f"None of {count_of(len(cells), 'mask')} of column {column!r} exists below "
                f"{locator.root}{listed(cells)}.",
                "Check the folder of the masks: paths are relative to the table's folder.",
            )


def _masks(table: Table, layout: Layout, locator: Locator) -> list[tuple[Path, ...]]:
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
