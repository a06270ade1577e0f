"""Latencies as they were measured, and the percentiles that are reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dinorad_rt.benchmarking.pace import LATENCY_CALLS, WARM_UP, is_enough

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Latency:
    """Every measured duration of one call.

    Attributes:
        milliseconds: one value per call, in the order of measurement.
    """

    milliseconds: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """Nearest-rank percentile in milliseconds: a value that really occurred.

        Args:
            percent: above 0, up to 100.
        """
        ordered = sorted(self.milliseconds)
        rank = max(1, math.ceil(percent / 100 * len(ordered)))
        return ordered[rank - 1]

    def as_dict(self) -> dict[str, Any]:
        """p50, p90, p95, p99, mean, standard deviation, minimum, maximum and count."""
        values = self.milliseconds
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        return {
            **{f"p{percent}": self.percentile(percent) for percent in PERCENTILES},
            "mean": mean,
            "sd": math.sqrt(spread),
            "min": min(values),
            "max": max(values),
            "n": len(values),
        }


def measure_latency(
    call: Callable[[], object],
    *,
    seconds: float,
    least: int = LATENCY_CALLS,
    warm_up: int = WARM_UP,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Call again and again for `seconds`, after untimed calls.

    Args:
        call: blocks until its result is there.
        seconds: time budget of the timed calls, and the most that is spent on warming up.
        least: timed calls, unless they are so slow that `is_enough` is content with fewer.
        warm_up: untimed calls at most; one at least, unless 0.
        clock: in seconds, monotonic.
    """
    rehearse(call, seconds=seconds, calls=warm_up, clock=clock)
    values: list[float] = []
    begin = end = clock()
    while not is_enough(len(values), end - begin, seconds=seconds, least=least):
        start = clock()
        call()
        end = clock()
        values.append((end - start) * 1e3)
    return Latency(tuple(values))


def rehearse(
    call: Callable[[], object],
    *,
    seconds: float,
    calls: int = WARM_UP,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Call `calls` times untimed, but not again after `seconds`."""
    start = clock()
    for _ in range(calls):
        call()
        if clock() - start >= seconds:
            break
