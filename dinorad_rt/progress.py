"""How long work tells its caller what it does: in sentences, and as a number done so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Say = Callable[[str], None]
"""Told of each step and decision, one sentence each."""
Progress = Callable[[int, int], None]
"""Called with the number done and the total."""
Stages = Callable[[str, str], AbstractContextManager[Progress]]
"""Opens a part of long work, by what it does and the unit that it counts in."""


def silent(_: str) -> None:
    """A `Say` that says nothing."""


def uncounted(done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


@contextmanager
def unseen(_: str, __: str) -> Iterator[Progress]:
    """`Stages` that show nothing."""
    yield uncounted


def part_of(progress: Progress, before: int, total: int) -> Progress:
    """The progress of one of several parts that are counted together.

    Args:
        progress: of all parts.
        before: done when this part begins.
        total: of all parts.
    """
    return lambda done, _: progress(before + done, total)
