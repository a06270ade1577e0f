"""How long a measurement goes on, and how long a whole benchmark will take.

A call that takes minutes (ViT-L/14 at 518 with 32 images, on a processor) is not repeated as often
as one that takes milliseconds: its spread is small, and a benchmark is to end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

PATIENCE = 10.0
"""Times the asked seconds, after which `FEWEST` calls are enough."""
FEWEST = 3
LATENCY_CALLS, ENGINE_CALLS, THROUGHPUT_CALLS = 10, 5, 6
"""Timed calls at least, where they are fast: with copies, without, of a full pipeline."""
WARM_UP = 3
OVERHEAD_SECONDS = 4.0
"""Starting a process, loading an engine."""
LONG_SECONDS = 2 * 3600.0
"""From here on a benchmark tells how it could be shorter."""
GRAPH_SHARE, BUILD_SHARE = 0.25, 0.5
"""Parts of a limited time after which no graph, and no engine, is made any more: without
measurements they are of no use."""
REACHED = 0.7
"""Part of the matrix product's speed that an engine is expected to reach."""


def is_enough(calls: int, elapsed: float, *, seconds: float, least: int) -> bool:
    """Whether a measurement may end.

    Args:
        calls: timed so far.
        elapsed: seconds since the first of them began.
        seconds: asked for.
        least: calls that are wanted, unless `FEWEST` of them outlast `PATIENCE`.
    """
    if elapsed < seconds:
        return False
    return calls >= least or (calls >= min(FEWEST, least) and elapsed >= PATIENCE * seconds)


def expected_seconds(mode: str, call: float, seconds: float) -> float:
    """Time that one measurement of a cell will take.

    Args:
        mode: latency, throughput or end_to_end.
        call: seconds of one call.
        seconds: asked for.
    """
    timed = {
        "latency": _timed(call, seconds, LATENCY_CALLS) + _timed(call, seconds / 2, ENGINE_CALLS),
        "throughput": _timed(call, seconds, THROUGHPUT_CALLS) + 2 * call,
        "end_to_end": max(2 * seconds, 6 * call),
    }[mode]
    warm_up = call * (1 + min(WARM_UP, math.ceil(seconds / call)))
    return OVERHEAD_SECONDS + warm_up + timed


def _timed(call: float, seconds: float, least: int) -> float:
    patient = max(min(FEWEST, least), math.ceil(PATIENCE * seconds / call))
    return call * max(math.ceil(seconds / call), min(least, patient))


class TimeLimit:
    """The time that a benchmark may take, from now on.

    Args:
        minutes: None for as long as it takes.
    """

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._start = time.monotonic()

    def has_room(self, seconds: float = 0.0, *, share: float = 1.0) -> bool:
        """Whether `seconds` more end within this share of the time."""
        return time.monotonic() - self._start + seconds <= share * self._seconds

    def reason(self) -> str:
        """Why something was left out."""
        return f"no time left of --minutes {self.minutes:g}"


class Remaining:
    """Time that a list of measurements still takes: the estimate, corrected by what is done.

    Args:
        expected: seconds of each, in their order.
    """

    def __init__(self, expected: Sequence[float]) -> None:
        self._expected = list(expected)
        self._finished, self._spent = 0, 0.0

    def done(self, seconds: float) -> None:
        """Tell how long the next measurement took."""
        self._spent += seconds
        self._finished += 1

    def skip(self) -> None:
        """Tell that the next measurement is left out."""
        self._expected[self._finished] = 0.0
        self._finished += 1

    @property
    def seconds(self) -> float:
        """What is left."""
        return self._factor() * sum(self._expected[self._finished :])

    @property
    def next_seconds(self) -> float:
        """What the next measurement will take."""
        return self._factor() * self._expected[self._finished]

    def _factor(self) -> float:
        planned = sum(self._expected[: self._finished])
        return self._spent / planned if planned else 1.0

    def words(self) -> str:
        """`about 12 minutes`."""
        left = self.seconds
        if left < 90:
            return f"about {max(1, round(left))} s"
        if left < 90 * 60:
            return f"about {round(left / 60)} minutes"
        return f"about {left / 3600:.1f} hours"
