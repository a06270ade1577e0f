"""Whether names of files and patients may be said. By default they may not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_KEPT: ContextVar[bool] = ContextVar("identifiers_kept", default=False)
MAX_LISTED = 10


def are_kept() -> bool:
    """True where the user asked for names, with `--keep-identifiers`."""
    return _KEPT.get()


def keep(wanted: bool = True) -> None:
    """Decide for all further messages of this program whether they name files and patients."""
    _KEPT.set(wanted)


@contextmanager
def kept(wanted: bool = True) -> Iterator[None]:
    """Let messages inside the block name files and patients."""
    token = _KEPT.set(wanted)
    try:
        yield
    finally:
        _KEPT.reset(token)


def listed(names: Sequence[str]) -> str:
    """The first names, one a line, to follow a count; how to see them where they are not kept."""
    if not names:
        return ""
    if not are_kept():
        return " (--keep-identifiers names them)"
    shown = "".join(f"\n  {name}" for name in names[:MAX_LISTED])
    more = len(names) - MAX_LISTED
    return f":{shown}" + (f"\n  ... and {more} more" if more > 0 else "")
