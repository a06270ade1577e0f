"""Signals of schedulers, containers and closed terminals: they stop a verb as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Those that this system has."""


def untouched_signals() -> list[int]:
    """Signals of `STOPPING` that nobody handles yet: what nohup ignores stays ignored."""
    return [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]


@contextmanager
def stopped_by_signals(received: list[int]) -> Iterator[None]:
    """Turn the signals of `STOPPING` into an interruption, so that what is written is cleared up.

    Args:
        received: takes the number of the signal.
    """

    def stop(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:  # clearing up is not to be interrupted by a second one
            raise KeyboardInterrupt

    taken = untouched_signals()
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
