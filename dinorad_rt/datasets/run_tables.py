"""Tables whose masks are runs: all rows of an image become one sample, of one or more classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinorad_rt.datasets.checks import MISSING_SHARE
from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.grid import grid_of
from dinorad_rt.datasets.labels import Labels, order_of_classes, plain_integer, positive_note
from dinorad_rt.datasets.masks import MAX_CLASSES
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.runs import Drawn, Shape, draw, has_any, hold_runs, kind_of
from dinorad_rt.datasets.table import Table
from dinorad_rt.errors import EmptyDataError, LabelError, MaskError, UnreadableFileError
from dinorad_rt.identifiers import listed
from dinorad_rt.words import count_of, verb_of

_SIDES = ("height", "width")
_DERIVED = ("no mask", "mask")


@dataclass(frozen=True)
class RunColumns:
    """Where the runs of a table stand.

    Attributes:
        masks: columns of runs; several are one class each.
        classes: column that tells the class of each row's runs, or None.
        kind: what the user said of them, see `runs.KINDS`.
    """

    masks: tuple[str, ...]
    classes: str | None = None
    kind: str | None = None


def columns_of_runs(table: Table, mask: str | None) -> tuple[str, ...]:
    """The columns of masks, if they hold runs; else none."""
    if mask is None:
        return ()
    names = (mask,) if mask in table.header else tuple(mask.split(","))
    return names if all(hold_runs(table.column(name)) for name in names) else ()


def tells_masks_apart(table: Table, label: str | None, images: Sequence[object]) -> bool:
    """Whether a label column is of the masks: some image has rows of several labels."""
    if label is None:
        return False
    held: dict[object, set[str]] = defaultdict(set)
    for image, cell in zip(images, table.column(label), strict=True):
        held[image].add(cell)
    return any(len(labels) > 1 for labels in held.values())


def with_runs(
    records: Sequence[Record], rows: Sequence[int], table: Table, columns: RunColumns, root: Path
) -> tuple[list[Record], tuple[str, ...], list[str]]:
    """Draw the masks, and give each image all of its rows.

    Args:
        records: one for each file that a row names.
        rows: row of the table of each.
        table: the table.
        columns: where the runs stand.
        root: folder of the images.

    Returns:
        Records with masks, one per image; the classes, background first; what to say.

    Raises:
        EmptyDataError: too many images are missing or cannot be read.
        TableError, MaskError: see `runs.kind_of`; volumes, and images of another size than told.
    """
    shapes, notes = _shapes(records, FileFacts(root))
    there = [(one, row) for one, row in zip(records, rows, strict=True) if one.path in shapes]
    _check_sides(there, table, shapes)
    names, held = _by_row(table, columns, rows)
    cells: dict[Path, list[tuple[int, str]]] = defaultdict(list)
    for record, row in there:
        cells[record.path] += held[row]
    flat = [(cell, shapes[path]) for path, held in cells.items() for _, cell in held]
    kind = kind_of(columns.masks[0], columns.kind, flat, table.source.name)
    drawn = draw(cells, kind, shapes)
    notes += _said(columns, kind, names, list(drawn.values()))
    merged = [replace(one, mask=drawn[one.path].path) for one, _ in there]
    return _one_per_image(merged), names, notes


def labels_of_runs(
    records: Sequence[Record], rows: Sequence[int], table: Table, columns: RunColumns
) -> tuple[list[Record], Labels]:
    """Classes of images by whether they have runs: one finding, or one for each class of runs.

    Raises:
        LabelError: all images have runs, or none.
    """
    names, by_row = _by_row(table, columns, rows)
    held: dict[Path, set[int]] = defaultdict(set)
    for record, row in zip(records, rows, strict=True):
        held[record.path] |= {number for number, cell in by_row[row] if has_any(cell)}
    note = (
        f"labels are derived: an image has a finding where column {columns.masks[0]} has runs "
        "(--task segmentation, or a segmentation protocol, reads the masks)"
    )
    kept = _one_per_image(records)
    if len(names) > 2:
        flags = tuple(tuple(int(n in held[one.path]) for n in range(1, len(names))) for one in kept)
        labels = Labels("multilabel", names[1:], flags, (note,), columns.masks)
    else:
        flags = tuple((int(bool(held[one.path])),) for one in kept)
        if len(set(flags)) < 2:
            which = "all" if flags[0][0] else "none"
            raise LabelError(
                f"Of {count_of(len(kept), 'image')} {which} have runs: no classes can be derived.",
                "Give a column of classes: --label-column.",
            )
        said = (note, positive_note(_DERIVED))
        labels = Labels("binary", _DERIVED, flags, said, columns.masks)
    return [replace(one, labels=row) for one, row in zip(kept, labels.rows, strict=True)], labels


def _by_row(
    table: Table, columns: RunColumns, rows: Sequence[int]
) -> tuple[tuple[str, ...], dict[int, list[tuple[int, str]]]]:
    """The classes, background first; and class number and runs of each row."""
    cells = [table.column(name) for name in columns.masks]
    if len(cells) > 1:
        names = columns.masks
        found = {row: [(at, one[row]) for at, one in enumerate(cells, start=1)] for row in rows}
    elif columns.classes is None:
        names = ("foreground",)
        found = {row: [(1, cells[0][row])] for row in rows}
    else:
        labels = [plain_integer(cell) for cell in table.column(columns.classes)]
        names = tuple(order_of_classes(sorted({labels[row] for row in rows} - {""})))
        if len(names) > MAX_CLASSES:
            raise LabelError(
                f"Column {columns.classes!r} gives the masks {len(names)} classes.",
                "Choose the column of their class with --label-column.",
            )
        number = {name: at for at, name in enumerate(names, start=1)}
        found = {row: [(number[labels[row]], cells[0][row])] if labels[row] else [] for row in rows}
    return ("background", *names), found


def _said(
    columns: RunColumns, kind: str, names: Sequence[str], drawn: Sequence[Drawn]
) -> list[str]:
    starts = "relative" if "relative" in kind else "absolute"
    order = "along the rows" if kind.endswith("rows") else "down the columns"
    shown = ", ".join(columns.masks)
    notes = [f"masks are the runs of column {shown}: {starts} starts, counted {order}"]
    empty = sum(not one.present for one in drawn)
    if empty:
        has = verb_of(empty, "has", "have")
        notes.append(f"{count_of(empty, 'image')} {has} no runs: background alone")
    shared = sum(one.shared > 0 for one in drawn)
    if shared:
        notes.append(
            f"classes overlap in {count_of(shared, 'mask')}: of {', '.join(names[1:])} "
            "the later lies over the earlier"
        )
    return notes


def _shapes(records: Sequence[Record], facts: FileFacts) -> tuple[dict[Path, Shape], list[str]]:
    """Rows and columns of each image that can be read, and what to say of the others."""
    paths = list(dict.fromkeys(one.path for one in records))
    found = dict(zip(paths, facts.of("shapes of images", paths, _shape), strict=True))
    volumes = sum(len(shape) > 0 and shape[0] != 1 for shape in found.values())
    if volumes or any(one.frame is not None for one in records):
        count = volumes or len(paths)
        raise MaskError(
            f"{count_of(count, 'image')} with runs {verb_of(count, 'has', 'have')} several slices; "
            "runs tell the mask of one.",
            "Give one file per slice, or masks as files.",
        )
    gone = [str(path) for path, shape in found.items() if not shape]
    if len(gone) > MISSING_SHARE * len(paths):
        raise EmptyDataError(
            f"{len(gone)} of {len(paths)} listed images are missing or cannot be read"
            f"{listed(gone)}.",
            "Check the folder of the images: names are looked for below the table's folder.",
        )
    here = {path: (shape[1], shape[2]) for path, shape in found.items() if shape}
    are = verb_of(len(gone), "is", "are")
    return here, [
        f"{count_of(len(gone), 'listed image')} {are} missing or cannot be read: left out"
        f"{listed(gone)}"
    ] if gone else []


def _shape(path: Path) -> list[int]:
    """Slices, rows and columns; empty if the file is missing or cannot be read."""
    try:
        return list(grid_of(path).shape)
    except UnreadableFileError:
        return []


def _check_sides(
    there: Sequence[tuple[Record, int]], table: Table, shapes: Mapping[Path, Shape]
) -> None:
    """Hold the sizes that a table tells against the images.

    Raises:
        MaskError: they differ, so the runs were drawn on other images.
    """
    simple = {name.lower(): name for name in table.header}
    if not all(side in simple for side in _SIDES):
        return
    told = zip(*(table.column(simple[side]) for side in _SIDES), strict=True)
    sides = [tuple(map(plain_integer, pair)) for pair in told]
    wrong = {
        record.path
        for record, row in there
        if all(sides[row]) and sides[row] != tuple(map(str, shapes[record.path]))
    }
    if wrong:
        raise MaskError(
            f"{count_of(len(wrong), 'image')} {verb_of(len(wrong), 'has', 'have')} another size "
            f"than the table tells in {' and '.join(simple[side] for side in _SIDES)}; runs count "
            "the pixels of that size.",
            "Give the images in the size that the runs were drawn on.",
        )


def _one_per_image(records: Sequence[Record]) -> list[Record]:
    """The first record of each image; what differs in patient or split stays, to be refused."""
    first: dict[tuple[str, str | None, str | None], Record] = {}
    for one in records:
        first.setdefault((one.key, one.patient, one.split), one)
    return list(first.values())
