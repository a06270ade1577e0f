"""How long work tells its caller what it does: in sentences, and as a number done so far."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Told of each step and decision, one sentence each."""
Progress = Callable[[int, int], None]
"""Called with the number done and the total."""


def silent(_: str) -> None:
    """A `Say` that says nothing."""


def uncounted(done: int, total: int) -> None:
    """A `Progress` that shows nothing."""
