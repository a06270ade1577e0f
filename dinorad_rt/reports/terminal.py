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
SHORT = 24
"""Cells up to this width stay on one line where they can."""
BLANK = "\N{NO-BREAK SPACE}"
"""Between words that stay together."""


@dataclass(frozen=True, eq=False)
class RowsTable:
    """A table that fits the terminal by whole words.

    Where it is narrow, columns that may be left out go first, which is said below; then long cells
    break between words, and within a word only where nothing else is left.

    Attributes:
        title: above the table.
        keys: columns; the first is what people type again.
        rows: key → cell.
        spare: columns that may be left out, the least important first.
    """

    title: str
    keys: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    spare: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.markup import escape
        from rich.text import Text

        widths = self._widths(options.max_width)
        yield Text(self.title, style="table.title")  # a table would break it at its own width
        table = plain_table("")
        for key, width in widths.items():
            numbers = _all_numbers([row.get(key) for row in self.rows])
            side: Any = "right" if numbers else "left"
            head = escape(_broken(key, width))
            table.add_column(head, overflow="fold", justify=side, width=width)
        for row in self.rows:
            table.add_row(*(escape(_broken(_text(row, key), widths[key])) for key in widths))
        yield table
        gone = [key for key in self.keys if key not in widths]
        if gone:
            yield f"Left out, the terminal is narrow: {'; '.join(gone)}. --json has them."

    def _widths(self, columns: int) -> dict[str, int]:
        """Width of each column that is shown, in their order."""
        keys = list(self.keys)
        least = {key: self._least(key, SHORT) for key in keys}
        for key in self.spare:
            if sum(least.values()) + GAP * len(least) > columns:
                least.pop(key, None)
        if sum(least.values()) + GAP * len(least) > columns:  # short cells break, too
            least = {key: self._least(key, 0) for key in least}
        room = columns - GAP * len(least) - sum(least.values())
        while room < 0 and max(least.values()) > 1:  # nothing is left but to break words
            widest = max(least, key=least.__getitem__)
            least[widest], room = least[widest] - 1, room + 1
        for key in sorted(least, key=lambda key: self._full(key) - least[key]):
            more = max(0, min(room, self._full(key) - least[key]))
            least[key], room = least[key] + more, room - more
        return least

    def _full(self, key: str) -> int:
        return max(len(key), *(len(_text(row, key)) for row in self.rows))

    def _least(self, key: str, short: int) -> int:
        cells = [_text(row, key) for row in self.rows]
        full = max(map(len, cells))
        parts = [key, *cells] if full > short else [key]
        words = max(len(word) for part in parts for word in part.split(" "))
        return words if full > short else max(words, full)


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


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _broken(text: str, width: int) -> str:
    """Lines of whole words of at most a width, where no word is longer."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(line.replace(BLANK, " ") for line in lines if line)


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
