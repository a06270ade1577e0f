"""Words of messages and tables: one image, two images; a value with its interval."""

from __future__ import annotations

import re
from typing import Any


def count_of(count: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `2 images`; `plural` for nouns that take more than an s.

    A noun of several words takes it at the end: `count_of(2, "test image")`.
    """
    if count == 1:
        return f"1 {noun}"
    if plural is None:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
        if noun.endswith(("s", "x", "ch", "sh")):
            plural = f"{noun}es"
    return f"{count} {plural}"


def verb_of(count: int, singular: str, plural: str) -> str:
    """The verb after a count: `is` after 1 image, `are` after 2."""
    return singular if count == 1 else plural


def interval_words(
    value: float | None, low: float | None, high: float | None, *, decimals: int = 3
) -> str:
    """`0.912 [0.874, 0.941]`; without the interval where it is not known."""
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{value:z.{decimals}f}"
    shown = f"z.{decimals}f"
    return f"{value:{shown}} [{low:{shown}}, {high:{shown}}]"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def error_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def ending_words(code: int) -> str:
    """How a process ended, by its exit code; negative codes are signals."""
    if code == -9:
        return "was killed, most often because memory was full"
    return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"


def valid_text(text: str) -> str:
    """Text that every file takes: names of files that are no UTF-8 lose the letters in question.

    Under an odd locale Python reads UTF-8 names as if they were none; these become whole again.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no tag, link, emphasis or column of a table.

    An underscore inside a word means nothing in Markdown and stays as it is.
    """
    text = " ".join(text.split())
    text = re.sub(r"[\\`*\[\]|<>&~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    return re.sub(r"^(?:(\d+)([.)])|([#+-]))(?=\s|$|[#+-])", r"\1\\\2\3", text)


def spreadsheet_cell(value: Any) -> Any:
    """A cell for a CSV that spreadsheets show: `'=1+1` for `=1+1`, which they would compute.

    Names of classes and files come from strangers. Numbers, and all else, stay as they are.
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
