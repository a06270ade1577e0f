"""What the labels of a table mean: classes of one column, lists in one column, or 0/1 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dinorad_rt import identifiers
from dinorad_rt.datasets.findings import NO_SEPARATOR, Lists, lists_of
from dinorad_rt.datasets.spellings import one_spelling
from dinorad_rt.datasets.table import Table, simple_name
from dinorad_rt.errors import LabelError, TableError
from dinorad_rt.types import Task
from dinorad_rt.words import count_of

NEGATIVE_WORDS = frozenset(
    "0 no none normal negative neg healthy benign control controls absent absence false "
    "nofinding nofindings nodisease notumor notumour unaffected background nil cn nc hc ctrl ctl "
    "healthycontrol healthycontrols cognitivelynormal nondemented nonad".split()
)
"""Names of the class that is not the finding: in a binary task it comes first."""

_DENIALS = ("non", "not", "no", "un", "without")

METADATA_WORDS = frozenset(
    "sex gender male female age view viewposition projection frontal lateral fold index id "
    "followup visit dupgroup group source site hospital scanner device year lossy contrast "
    "inverted unnamed0 xmin ymin xmax ymax x y x1 y1 x2 y2 w h width height".split()
)
"""Columns that are never findings, even if they hold only 0 and 1."""

NAME_COLUMNS = ("class", "classname", "labelname", "diagnosisname")
MAX_CLASSES = 1000
MAX_NUMBERED = 30
"""More classes that are numbers may be a measurement."""
MAX_SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """Labels of all rows.

    Attributes:
        rows: per row, as in `Sample.labels`.
        columns: the columns that they came from.
    """

    task: Task
    class_names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def labels_of_table(
    table: Table, wanted: str | None, taken: set[str], separator: str | None = None
) -> Labels:
    """Find the labels of a table.

    Args:
        table: the table.
        wanted: the user's column, or several separated by commas (one per finding); None to look.
        taken: columns that hold something else (image, patient, split, ...).
        separator: what stands between findings of one cell, see `findings`; None to find out.

    Raises:
        TableError: no such column, or cells that are blank or neither 0 nor 1.
        LabelError: labels that no classification can use.
    """
    if wanted is not None and wanted not in table.header and "," in wanted:
        if separator not in (None, NO_SEPARATOR):
            raise TableError(
                "Several label columns hold one finding each; --label-separator is for lists in "
                "one column.",
                "Leave it out, or give one column with --label-column.",
            )
        names = [table.find("label", name.strip()) or "" for name in wanted.split(",")]
        return labels_of_flags(table, names)
    column = table.find("label", wanted)
    if column is not None:
        return labels_of_column(table, column, separator)
    if separator not in (None, NO_SEPARATOR):
        raise table.missing("label", "--label-column")
    names = flag_columns(table, taken)
    if not names:
        raise table.missing("label", "--label-column")
    return labels_of_flags(table, names)


def labels_of_column(table: Table, column: str, separator: str | None = None) -> Labels:
    """One column: integers or names, or lists of findings."""
    cells = table.column(column)
    lists, said = lists_of(cells, column, separator)
    if lists is not None:
        return _labels_of_lists(lists, column, cells.count(""))
    blank = [line for cell, line in zip(cells, table.lines, strict=True) if not cell]
    if blank:
        raise TableError(
            f"{table.source.name}: column {column!r} is blank in {len(blank)} rows "
            f"(lines {_some(blank)}); NaN, NA and null count as blank.",
            "Fill the labels in, or remove the rows.",
        )
    cells, joined = one_spelling([plain_integer(cell) for cell in cells])
    labels = labels_of_names(cells, _sorted_names(cells))
    if len(labels.class_names) > MAX_NUMBERED and all(map(str.isdigit, labels.class_names)):
        said += (
            f"column {column!r} holds {len(labels.class_names)} different numbers, taken for "
            "classes: if they measure something (an age, a score), no protocol here predicts it",
        )
    named, notes = _with_name_column(table, column, cells, labels.class_names)
    said += (*joined, *notes, *_positive(labels.task, named))
    return Labels(labels.task, named, labels.rows, tuple(said), (column,))


def labels_of_names(cells: Sequence[str], names: Sequence[str]) -> Labels:
    """One class per sample, given the classes in order.

    Raises:
        LabelError: fewer than two classes, or nearly as many as samples.
    """
    if len(names) < 2:
        only = repr(names[0]) if names else "nothing"
        raise LabelError(
            f"All {len(cells)} samples have one label: {only}. A classification needs two classes.",
            "Add samples of another class, or choose another --label-column.",
        )
    if len(names) > MAX_CLASSES or (len(names) > 10 and len(names) > 0.9 * len(cells)):
        raise LabelError(
            f"The labels have {len(names)} different values in {len(cells)} samples "
            f"({shown_values(names)}): these are no classes.",
            "Choose the column of the class with --label-column.",
        )
    index = {name: i for i, name in enumerate(names)}
    rows = tuple((index[cell],) for cell in cells)
    return Labels("binary" if len(names) == 2 else "multiclass", tuple(names), rows)


def labels_of_flags(table: Table, names: Sequence[str]) -> Labels:
    """One column of 0 and 1 (or False and True) per finding; a blank counts as 0 and is said.

    Raises:
        TableError: another value, such as -1 for "uncertain".
    """
    blanks, columns = 0, []
    for name in names:
        cells = [_flag(cell) for cell in table.column(name)]
        bad = [
            (line, cell)
            for cell, line in zip(cells, table.lines, strict=True)
            if cell not in ("0", "1", "")
        ]
        if bad:
            raise TableError(
                f"{table.source.name}, line {bad[0][0]}: column {name!r} holds {bad[0][1]!r}; "
                f"findings are 0 or 1 ({len(bad)} such cells).",
                "Decide what uncertain means (0 or 1) and write it into the table.",
            )
        blanks += cells.count("")
        columns.append([int(cell or 0) for cell in cells])
    notes = [f"{blanks} blank labels count as 0"] if blanks else []
    if len(names) == 1:
        return _one_flag(columns[0], names[0], notes)
    notes.append(f"findings are the columns {', '.join(names)}")
    rows = tuple(zip(*columns, strict=True))
    return Labels("multilabel", tuple(names), rows, tuple(notes), tuple(names))


def order_of_classes(names: Sequence[str]) -> list[str]:
    """Sorted names; of two, the one that is called normal, no, negative, ... comes first."""
    ordered = sorted(names, key=_natural)
    if len(ordered) == 2:
        plain = [simple_name(name) for name in ordered]
        negative = [name in NEGATIVE_WORDS for name in plain]
        if negative == [False, True] or (not any(negative) and _denies(plain[1], plain[0])):
            ordered.reverse()
    return ordered


def _denies(name: str, other: str) -> bool:
    """Whether a class is called as the lack of the other: noncovid, not fractured, uninfected."""
    return any(name.replace(word, "", 1) == other for word in _DENIALS if word in name)


def positive_note(names: Sequence[str]) -> str:
    """Say which class of two counts as positive."""
    return f"positive class: {names[1]}; the other is {names[0]}"


def shown_values(values: Sequence[str]) -> str:
    """A few values in words; many different ones may be names, and are only counted."""
    if len(values) <= MAX_SHOWN or identifiers.are_kept():
        return ", ".join(map(repr, values[:MAX_SHOWN])) + (", ..." if len(values) > 5 else "")
    return f"{len(values)} different values"


def looks_like_paths(cells: Sequence[str]) -> bool:
    """True if labels are file names: the data is for segmentation."""
    ends = tuple(".nii .nii.gz .png .tif .tiff .dcm .npy .npz .mha .mhd .nrrd .nhdr".split())
    sample = [cell for cell in cells if cell][:50]
    return bool(sample) and all(cell.lower().endswith(ends) for cell in sample)


def _labels_of_lists(written: Lists, column: str, blank: int) -> Labels:
    lists, joined = _spelled_alike(written.rows)
    names = sorted({name for parts in lists for name in parts}, key=_natural)
    at = {name: i for i, name in enumerate(names)}
    rows = []
    for parts in lists:
        row = [0] * len(names)
        for name in parts:
            row[at[name]] = 1
        rows.append(tuple(row))
    empty = sum(not parts for parts in lists)
    notes = [
        f"column {column!r} holds lists {written.how}: {count_of(len(names), 'finding')} "
        f"(--label-separator {NO_SEPARATOR} takes each cell as one class)",
        *joined,
    ]
    if empty:
        missing = f", {blank} of them with a blank cell" if blank else ""
        notes.append(f"{count_of(empty, 'row')} without any finding{missing}")
    return Labels("multilabel", tuple(names), tuple(rows), tuple(notes), (column,))


def _spelled_alike(lists: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """The lists with one spelling of each finding, and what to say."""
    flat, joined = one_spelling([name for parts in lists for name in parts])
    names = iter(flat)
    return [[next(names) for _ in parts] for parts in lists], joined


def _one_flag(column: list[int], name: str, notes: list[str]) -> Labels:
    labels = labels_of_names([str(value) for value in column], sorted(map(str, set(column))))
    names = (f"no {name}", name)
    return Labels("binary", names, labels.rows, (*notes, positive_note(names)), (name,))


def flag_columns(table: Table, taken: set[str]) -> list[str]:
    """Columns that hold nothing but 0, 1 (or False, True) and blanks, not all of them blank."""
    found = []
    for name in table.header:
        if name in taken or simple_name(name) in METADATA_WORDS:
            continue
        values = {_flag(cell) for cell in table.column(name)}
        if values <= {"0", "1", "", "-1"} and values & {"0", "1"}:
            found.append(name)
    return found


def _with_name_column(
    table: Table, column: str, cells: list[str], values: tuple[str, ...]
) -> tuple[tuple[str, ...], list[str]]:
    """Names of integer labels from a column such as `class`, if the two agree one to one."""
    if not all(value.lstrip("-").isdigit() for value in values):
        return values, []
    for name in table.header:
        if name == column or simple_name(name) not in NAME_COLUMNS:
            continue
        pairs = set(zip(cells, table.column(name), strict=True))
        if len(pairs) == len(values) == len({text for _, text in pairs}):
            known = dict(pairs)
            return tuple(known[value] for value in values), [
                f"class names come from column {name!r}"
            ]
    return values, []


def _positive(task: Task, names: Sequence[str]) -> tuple[str, ...]:
    return (positive_note(names),) if task == "binary" else ()


def _sorted_names(cells: Sequence[str]) -> list[str]:
    names = set(cells)
    if looks_like_paths(cells):
        raise LabelError(
            "The label column holds files: this is a set of segmentation masks, not a "
            "classification set.",
            "For classification give a table with a class per image; for the masks add "
            "--task segmentation.",
        )
    fractions = [name for name in names if _is_fraction(name)]
    if fractions and len(fractions) > 0.5 * len(names):
        raise LabelError(
            f"The labels are real numbers (such as {fractions[0]}), not classes.",
            "Choose the column of the class with --label-column.",
        )
    return order_of_classes(list(names))


def _flag(cell: str) -> str:
    """`True` → `1`, as pandas writes it; `1.0` → `1`."""
    return {"true": "1", "false": "0"}.get(cell.lower()) or plain_integer(cell)


def plain_integer(cell: str) -> str:
    """`1.0` → `1`: spreadsheets write integers so."""
    head, dot, tail = cell.partition(".")
    return head if dot and not tail.strip("0") and head.lstrip("-").isdigit() else cell


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name.lower()


def _some(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
