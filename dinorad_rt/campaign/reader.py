"""Reads a TOML table strictly: every key known, every value of its type, all problems at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Problems:
    """Collects what is wrong with a file, so that one look mends all of it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """One problem, a sentence without a full stop."""
        self.found.append(text)


class Table:
    """One table of the file.

    Args:
        values: as TOML gave them.
        where: how people find it, such as `[[models]] 2`.
        problems: collects what is wrong.
        defaults: used where the table lacks a key.
    """

    def __init__(
        self,
        values: Any,
        where: str,
        problems: Problems,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(values, Mapping):
            problems.add(f"{where} is no table")
            values = {}
        self._values, self.where, self._problems = values, where, problems
        self._defaults = defaults or {}
        self._asked: dict[str, None] = {}

    def text(self, key: str, default: str | None = None, *, needed: bool = False) -> str | None:
        """A string."""
        value: str | None = self._typed(key, default, "a text", _is_text, needed=needed)
        return value

    def number(self, key: str, within: tuple[int, int]) -> int | None:
        """A whole number of a range, both ends included; None if absent."""
        value: int | None = self._typed(key, None, "a whole number", _is_whole)
        return None if value is None else self._ranged(key, value, within)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty if absent."""
        fits = _list_of(_is_text)
        return tuple(self._typed(key, [], "a list of texts", fits) or ())

    def numbers(self, key: str, default: Sequence[int], within: tuple[int, int]) -> tuple[int, ...]:
        """A list of whole numbers of a range, both ends included; not empty."""
        fits = _list_of(_is_whole)
        found = self._typed(key, list(default), "a list of whole numbers", fits)
        if not found:
            self._problems.add(f"{self.where}: {key} is empty")
        return tuple(self._ranged(key, value, within) for value in found or default)

    def table(self, key: str) -> dict[str, Any]:
        """A table of free keys; empty if absent."""
        return dict(self._typed(key, {}, "a table", lambda v: isinstance(v, Mapping)) or {})

    def tables(self, key: str) -> list[Any]:
        """A list of tables; must be there and not empty."""
        fits = _list_of(lambda v: isinstance(v, Mapping))
        found = self._typed(key, [], "a list of tables", fits) or []
        if not found:
            self._problems.add(f"{self.where} has no [[{key}]]")
        return list(found)

    def refuse_unknown(self) -> None:
        """Every key that nobody asked for is a problem; the closest known ones are named."""
        for key in self._values:
            if key not in self._asked:
                close = difflib.get_close_matches(key, self._asked, n=3, cutoff=0.5)
                near = f"closest: {', '.join(close)}" if close else ""
                allowed = near or f"allowed: {', '.join(self._asked)}"
                self._problems.add(f"{self.where}: unknown key {key!r} ({allowed})")

    def _ranged(self, key: str, value: int, within: tuple[int, int]) -> int:
        low, high = within
        if not low <= value <= high:
            self._problems.add(f"{self.where}: {key} = {value} is not within {low} to {high}")
        return value

    def _typed(
        self,
        key: str,
        default: Any,
        wanted: str,
        fits: Callable[[Any], bool],
        *,
        needed: bool = False,
    ) -> Any:
        self._asked[key] = None
        value = self._values.get(key, self._defaults.get(key))
        if value is None:
            if needed:
                self._problems.add(f"{self.where} lacks {key}")
            return default
        if not fits(value):
            self._problems.add(f"{self.where}: {key} = {value!r} is not {wanted}")
            return default
        return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))
