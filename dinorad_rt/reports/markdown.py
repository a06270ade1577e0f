"""Tables of rows as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dinorad_rt.reports.cells import Interval, Link, format_number
from dinorad_rt.words import interval_words, markdown_text


def pipe_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A Markdown table; the first row's keys are the columns."""
    if not rows:
        return []
    heads = list(rows[0])
    body = ["| " + " | ".join(_text(row.get(key)) for key in heads) + " |" for row in rows]
    return [
        "| " + " | ".join(map(_text, heads)) + " |",
        "|" + "---|" * len(heads),
        *body,
    ]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Link):
        value = value.text
    if isinstance(value, Interval):
        return interval_words(value.value, value.low, value.high, decimals=value.decimals)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format_number(value)
    return markdown_text(str(value))
