"""Several findings in one cell of a label column: `edema|mass`, `edema;mass`, `['edema', 'mass']`.

A name may hold such a character too (`Pneumonia, viral`), so cells are lists only where the
column itself shows it: their parts stand alone in other rows, or recur in different company. How
much is asked depends on the character: `|` hardly occurs in names, a comma often does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dinorad_rt.datasets.spellings import folded
from dinorad_rt.errors import LabelError
from dinorad_rt.words import count_of

SEPARATORS = ("|", ";", ",")
NO_SEPARATOR = "none"
"""Word of `--label-separator` for cells that are one class each, whatever they hold."""

_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+,\d+")
_Evidence = Literal["each", "some", "company", "none"]


@dataclass(frozen=True)
class Lists:
    """Label cells as lists.

    Attributes:
        rows: findings of each row; empty for a blank cell.
        how: how they were written, in words.
    """

    rows: list[list[str]]
    how: str


def lists_of(
    cells: Sequence[str], column: str, wanted: str | None
) -> tuple[Lists | None, list[str]]:
    """Read the cells of a label column as lists of findings, where they are lists.

    Args:
        cells: of all rows.
        column: its name, for messages.
        wanted: the separator that the user gave, NO_SEPARATOR, or None to find out.

    Returns:
        The lists, or None if each cell is one class; and what to say of the latter.

    Raises:
        LabelError: it cannot be told, or the separator that the user gave occurs nowhere.
    """
    if wanted is not None:
        return _as_told(cells, column, wanted), []
    bracketed = _bracketed(cells)
    if bracketed is not None:
        return Lists(bracketed, "in brackets"), []
    notes: list[str] = []
    for separator in SEPARATORS:
        joined = {cell for cell in cells if separator in cell}
        if not joined:
            continue
        evidence = _evidence(cells, separator)
        unmixed = evidence == "none" and all(separator in cell for cell in cells if cell)
        if evidence == "each" or (separator == "|" and not unmixed):
            return _split(cells, separator), []
        if separator == ";" and evidence == "some":
            raise _ambiguous(column, separator, joined)
        if separator != "," or evidence == "some":
            notes.append(
                f"cells of column {column!r} that hold {separator!r} are one class each "
                f"(--label-separator {_shown(separator)} reads them as several findings)"
            )
    return None, notes


def _as_told(cells: Sequence[str], column: str, wanted: str) -> Lists | None:
    if wanted == NO_SEPARATOR:
        return None
    if not any(wanted in cell for cell in cells):
        raise LabelError(
            f"No cell of column {column!r} holds the separator {wanted!r}.",
            "Give the one that stands between findings, --label-separator "
            f"'{SEPARATORS[1]}', or leave it out.",
        )
    return _split(cells, wanted)


def _split(cells: Sequence[str], separator: str) -> Lists:
    rows = [[part.strip() for part in cell.split(separator) if part.strip()] for cell in cells]
    return Lists(rows, f"separated by {separator}")


def _evidence(cells: Sequence[str], separator: str) -> _Evidence:
    """Whether the parts of joined cells are findings of their own.

    Returns:
        each: half of the parts or more stand alone in other rows, and the rest in two different
        lists (of commas: all stand alone); some: a part stands alone; company: a part stands in
        two different lists; else none.
    """
    joined = [cell for cell in cells if separator in cell]
    if separator == "," and all(_NUMBER.fullmatch(cell) for cell in joined):
        return "none"  # 4,5 is a number in half of the world
    alone = {folded(cell) for cell in cells if cell and separator not in cell}
    lists = {
        frozenset(folded(part) for part in cell.split(separator) if part.strip()) for cell in joined
    }
    company = Counter(part for parts in lists for part in parts)
    known = sum(part in alone for part in company)
    open_ends = [part for part, count in company.items() if part not in alone and count < 2]
    if separator == ",":
        complete = known == len(company)
    else:
        complete = not open_ends and 2 * known >= len(company)
    if company and complete:
        return "each"
    if known:
        return "some"
    return "company" if max(company.values(), default=0) > 1 else "none"


def _bracketed(cells: Sequence[str]) -> list[list[str]] | None:
    """Lists as Python, NumPy and JSON write them; None unless a cell is one.

    Beside quoted lists a plain cell is one finding; names without quotes are lists only where
    every cell is in brackets.
    """
    inside = [cell[1:-1] if cell[:1] == "[" and cell[-1:] == "]" else None for cell in cells]
    quoted = [one is not None and not _QUOTED.sub("", one).strip(" ,\r\n\t") for one in inside]
    written = any(is_list and one for is_list, one in zip(quoted, inside, strict=True))
    every = all(one is not None for one, cell in zip(inside, cells, strict=True) if cell)
    if not written and not (every and any(cells)):
        return None
    rows = []
    for cell, one, is_list in zip(cells, inside, quoted, strict=True):
        if one is not None and is_list:
            parts = [first or second for first, second in _QUOTED.findall(one)]
        elif one is not None and every:
            parts = one.split(",")
        else:
            parts = [cell]
        rows.append([part.strip() for part in parts if part.strip()])
    return rows


def _ambiguous(column: str, separator: str, joined: set[str]) -> LabelError:
    shown = _shown(separator)
    return LabelError(
        f"Column {column!r}: {count_of(len(joined), 'different label')} "
        f"{'holds' if len(joined) == 1 else 'hold'} {separator!r}. Some of their parts are labels "
        "of other rows too, others are not, so they may be several findings or one class each.",
        f"Say which: --label-separator {shown} for several findings in one cell, "
        f"--label-separator {NO_SEPARATOR} for one class per cell.",
    )


def _shown(separator: str) -> str:
    """As a shell takes it."""
    return f"'{separator}'"
