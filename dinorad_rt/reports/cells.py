"""Cells of HTML tables: numbers, links, intervals with a bar, shares as a shade. All is escaped."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from dinorad_rt.metrics.specs import spec_of

if TYPE_CHECKING:
    from dinorad_rt.reports.results import MetricValue


LONG_TEXT = 40
"""Letters of a cell from which on it may be broken into lines."""


MANY_INTERVALS = 3
"""Columns of intervals from which on an interval stands below its value."""


@dataclass(frozen=True)
class Link:
    """A table cell that leads to another place of the page.

    Attributes:
        text: what it says.
        anchor: id of the place.
    """

    text: str
    anchor: str


@dataclass(frozen=True)
class Interval:
    """A table cell of a value with its interval, as numbers and as a bar.

    Attributes:
        value, low, high: None if undefined.
        start, end: the bar's axis; no bar without them.
        decimals: of the numbers.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    start: float | None = None
    end: float | None = None
    decimals: int = 3


@dataclass(frozen=True)
class Shaded:
    """A table cell with a background as strong as a share.

    Attributes:
        text: what it says.
        share: from 0 to 1.
        value: what it sorts by.
    """

    text: str
    share: float
    value: float


def interval(value: MetricValue | None, axis: tuple[float, float] | None = None) -> Interval | None:
    """A table cell of a metric; with a bar if an axis is given."""
    if value is None:
        return None
    start, end = axis or (None, None)
    decimals = spec_of(value.name).decimals
    return Interval(value.value, value.ci_low, value.ci_high, start, end, decimals)


def cells_of(row: Mapping[str, Any], keys: Sequence[str], numbers: Collection[str] = ()) -> str:
    """The cells of a row under these columns; the first one names the row.

    Args:
        row: column → value.
        keys: the columns.
        numbers: those of numbers, where what is missing stands at the right as well.
    """
    first, *others = (_cell(row.get(key), at_right=key in numbers) for key in keys)
    head = first.removeprefix("<td").removesuffix("</td>")
    return f'<th scope="row"{head}</th>' + "".join(others)


def is_number_column(values: Iterable[Any]) -> bool:
    """True if every cell that is not empty is a number, shown at the right."""
    known = [value for value in values if value is not None]
    return bool(known) and all(
        isinstance(value, (int, float, Shaded)) and not isinstance(value, bool) for value in known
    )


def has_many_intervals(row: Mapping[str, Any]) -> bool:
    """True if a row like this is too wide for a page with each interval beside its value."""
    return sum(isinstance(value, Interval) for value in row.values()) >= MANY_INTERVALS


def _cell(value: Any, *, at_right: bool = False) -> str:
    if value is None:
        return '<td class="number">–</td>' if at_right else "<td>–</td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float)):
        return f'<td class="number" data-value="{value!r}">{escape(format_number(value))}</td>'
    if isinstance(value, Link):
        return f'<td><a href="#{escape(value.anchor)}">{cell_words(value.text)}</a></td>'
    if isinstance(value, Interval):
        return _interval_cell(value)
    if isinstance(value, Shaded):
        return (
            f'<td class="number shaded" style="--share:{value.share:.3f}" '
            f'data-value="{value.value!r}">{escape(value.text)}</td>'
        )
    return f"<td>{cell_words(str(value))}</td>"


def cell_words(text: str) -> str:
    """Escaped text of a cell; what is long may take several lines, and leaves room for others."""
    shown = break_words(text)
    return f'<span class="long">{shown}</span>' if len(text) > LONG_TEXT else shown


def break_words(text: str) -> str:
    """Escaped text that may break after an underscore: names of models are long."""
    return escape(text).replace("_", "_<wbr>")


def _interval_cell(cell: Interval) -> str:
    if cell.value is None:
        return '<td data-value="">undefined</td>'
    shown = f"z.{cell.decimals}f"
    text = f"{cell.value:{shown}}"
    if cell.low is None or cell.high is None:
        return f'<td class="interval" data-value="{cell.value!r}">{text}</td>'
    ends = f'<span class="soft">[{cell.low:{shown}}, {cell.high:{shown}}]</span>'
    bar = _bar((cell.low, cell.value, cell.high), cell.start, cell.end)
    return f'<td class="interval" data-value="{cell.value!r}">{text} {ends}{bar}</td>'


def _bar(values: Sequence[float], start: float | None, end: float | None) -> str:
    """Low, value and high as a bar on an axis; nothing without one."""
    if start is None or end is None or end <= start:
        return ""
    low, at, high = (100 * min(max((x - start) / (end - start), 0.0), 1.0) for x in values)
    return (
        f'<span class="bar" aria-hidden="true"><i style="left:{low:.1f}%;'
        f'width:{max(high - low, 0.5):.1f}%"></i><b style="left:{at:.1f}%"></b></span>'
    )


def format_number(value: float) -> str:
    """Three significant digits, all of a whole number; no exponents for everyday sizes."""
    if isinstance(value, int):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        whole = math.floor(math.log10(abs(value))) if value else 0
        return f"{value:.{max(2 - whole, 0)}f}"
    return f"{value:.3g}"
