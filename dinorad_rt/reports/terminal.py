"""Parts of tables for the terminal that fit themselves to its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table

GAP = 3
"""Columns of the terminal between two of a table."""
FOLDED = 6
"""Least width of a column that is folded."""


@dataclass(frozen=True, eq=False)
class RowsTable:
    """A table that keeps short columns whole where the terminal is narrow, and folds the others."""

    title: str
    keys: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = plain_table(self.title)
        whole = self._whole(options.max_width)
        for key in self.keys:
            numbers = _all_numbers([row.get(key) for row in self.rows])
            side: Any = "right" if numbers else "left"
            table.add_column(str(key), overflow="fold", justify=side, no_wrap=key in whole)
        for row in self.rows:
            table.add_row(*(plain_cell(row.get(key, "")) for key in self.keys))
        yield table

    def _whole(self, columns: int) -> set[str]:
        """Columns that are never folded: the first, which people type again, then the shortest."""
        widths = {
            key: max(len(str(key)), *(len(plain_cell(row.get(key, ""))) for row in self.rows))
            for key in self.keys
        }
        first, *others = self.keys
        room, whole = columns - GAP * len(self.keys), set[str]()
        for key in (first, *sorted(others, key=widths.__getitem__)):
            others_need = sum(
                min(width, FOLDED) for name, width in widths.items() if name not in {key, *whole}
            )
            if widths[key] + others_need <= room:
                whole.add(key)
                room -= widths[key]
        return whole


@dataclass(frozen=True)
class ValueCell:
    """A value with its interval on one line; where that is too long the interval stands below."""

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(max(map(len, self.text.split(" "))), len(self.text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        short = len(self.text) > options.max_width
        yield Text(self.text.replace(" [", "\n[", 1) if short else self.text)


def plain_table(title: str, **options: Any) -> Table:
    """An empty table in the style of all of ours."""
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, **options)


def plain_cell(value: Any) -> str:
    """Text of a cell; brackets are brackets."""
    from rich.markup import escape

    return escape("" if value is None else str(value))


def _all_numbers(values: Sequence[Any]) -> bool:
    """True if whatever the cells say is a number; a dash says nothing."""
    known = [text for text in map(plain_cell, values) if text not in ("", "-", "–")]
    return bool(known) and all(_is_number(text) for text in known)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
