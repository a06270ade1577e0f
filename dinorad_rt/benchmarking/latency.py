"""Latencies as they were measured, and the percentiles that are reported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    least: int = 10,
    warm_up: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Call again and again for `seconds`, at least `least` times, after `warm_up` untimed calls.

    Args:
        call: blocks until its result is there.
        seconds: time budget of the timed calls.
        clock: in seconds, monotonic.
    """
    for _ in range(warm_up):
        call()
    values: list[float] = []
    end = clock() + seconds
    while len(values) < least or clock() < end:
        start = clock()
        call()
        values.append((clock() - start) * 1e3)
    return Latency(tuple(values))
