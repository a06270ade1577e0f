"""Which column of a table is which: those that the user named, and those that are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dinorad_rt.datasets.labels import flag_columns, looks_like_paths, shown_values
from dinorad_rt.datasets.locate import Locator
from dinorad_rt.datasets.outlines import refuse_outlines
from dinorad_rt.datasets.run_tables import RunColumns, columns_of_runs, tells_masks_apart
from dinorad_rt.datasets.runs import has_any, without_kind
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.datasets.table import ALIASES, Table, simple_name
from dinorad_rt.errors import TableError

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
class Layout:
    """Column of each kind, None where the table has none.

    Attributes:
        runs: where masks are runs in the table; `mask` is then None.
        mask_class: of the class of each row's mask, where rows of one image have several.
    """

    image: str | None
    patient: str | None
    split: str | None
    mask: str | None
    frame: str | None
    study: str | None
    series: str | None
    sop: str | None
    runs: RunColumns | None = None
    mask_class: str | None = None

    @property
    def taken(self) -> set[str]:
        """The columns that are used."""
        of_runs = () if self.runs is None else self.runs.masks
        return {name for name in vars(self).values() if isinstance(name, str)} | {*of_runs}


def is_segmentation(table: Table, columns: Columns, task: str) -> bool:
    """Whether a table is read for its masks: if asked for, or if it holds no class per image.

    Of masks that are runs, it is a class whether an image has any.
    """
    if task != "auto" or columns.mask is not None:
        return task != "classification"
    if columns.label is not None:
        return False
    runs = columns_of_runs(table, table.find("mask", None))
    if not runs:
        return has_masks(table) and not has_labels(table)
    told = {has_any(cell) for name in runs for cell in table.column(name)}
    return len(told) < 2 and (not has_labels(table) or _has_runs_of_classes(table))


def _has_runs_of_classes(table: Table) -> bool:
    """Whether a label column is of masks that are runs, several of an image, and of no image."""
    image, label = table.find("image", None), table.find("label", None)
    return image is not None and tells_masks_apart(table, label, table.column(image))


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


def layout_of(
    table: Table, columns: Columns, locator: Locator, masks: bool
) -> tuple[Layout, list[str]]:
    """Find the columns.

    Args:
        table: the table.
        columns: those that the user named.
        locator: of the files that cells name.
        masks: read it for its masks, see `is_segmentation`.

    Returns:
        The columns, and what to say.

    Raises:
        TableError: one that is needed and cannot be found, or does not hold what it should.
    """
    wanted, kind = without_kind(columns.mask, table.header)
    columns = replace(columns, mask=wanted)
    split, notes = _split_column(table, columns.split)
    layout = Layout(
        image=_image_column(table, columns.image, locator),
        patient=table.find("patient", columns.patient),
        split=split,
        mask=_mask_column(table, columns) if masks else table.find("mask", None),
        frame=table.find("frame", None),
        study=table.find("study", None),
        series=table.find("series", None),
        sop=table.find("sop", None),
    )
    runs = columns_of_runs(table, layout.mask)
    of_masks = _class_of_masks(table, columns, layout, runs)
    if runs:
        return replace(layout, mask=None, runs=RunColumns(runs, of_masks, kind)), notes
    if kind is not None:
        raise TableError(
            f"Column {wanted!r} of {table.source.name} holds no runs (RLE).",
            f"Leave :{kind} out; a cell of runs is `start length start length ...`.",
        )
    return replace(layout, mask_class=of_masks if masks else None), notes


def _class_of_masks(
    table: Table, columns: Columns, layout: Layout, runs: Sequence[str]
) -> str | None:
    """The column that tells the class of each row's mask: a single one that the user named, or
    one that tells masks of one image apart."""
    named = columns.label
    if layout.mask is None or (named is not None and named not in table.header and "," in named):
        return None
    label = table.find("label", named)
    image = layout.image or layout.sop
    if label in (None, layout.mask, *runs):
        return None
    if named is None and (
        image is None or not tells_masks_apart(table, label, table.column(image))
    ):
        return None
    return label


def _image_column(table: Table, wanted: str | None, locator: Locator) -> str | None:
    """The wanted column; else one of the usual names, else any, whose cells name files."""
    if wanted is not None:
        return table.find("image", wanted)
    simple = {simple_name(name): name for name in reversed(table.header)}
    usual = [simple[alias] for alias in ALIASES["image"] if alias in simple]
    kinds = ("mask", "label", "split", *_coarser(table))
    aside = {table.find(kind, None) for kind in kinds}
    others = [name for name in table.header if name not in usual and name not in aside]
    for name in (*usual, *others):
        cells = table.column(name)[:_PROBED_ROWS]
        if any(_is_file_name(cell) and locator.find(cell) is not None for cell in cells):
            return name
    uids = any(table.find(kind, None) for kind in ("sop", "series", "study", "patient"))
    if not usual and not uids:
        raise table.missing("image", "--image-column")
    return usual[0] if usual else None


def _coarser(table: Table) -> tuple[str, ...]:
    """Kinds of identifiers that name several images where a finer one is there: their folders
    may lie there by these names."""
    levels = ("sop", "series", "study", "patient")
    finest = next((at for at, kind in enumerate(levels) if table.find(kind, None)), len(levels))
    return levels[finest + 1 :]


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
    refuse_outlines(table, None)
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
    if wanted is None and simple_name(name) != "split":
        return None, [f"column {name!r} holds no train, val, test: not used as split"]
    raise TableError(
        f"{table.source.name}: split column {name!r} holds {shown_values(unknown)} in "
        f"{sum(cell in unknown for cell in cells)} rows.",
        "Allowed: train, val, test (also training, valid, validation, dev, testing).",
    )
