"""Percentiles against NumPy's, and the loop that measures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinorad_rt.benchmarking.latency import PERCENTILES, Latency, measure_latency
from dinorad_rt.benchmarking.pace import (
    ENGINE_CALLS,
    OVERHEAD_SECONDS,
    Remaining,
    expected_seconds,
)


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=200))
def test_percentiles_are_numpys_nearest_rank(values: list[float]) -> None:
    latency = Latency(tuple(values))
    for percent in PERCENTILES:
        wanted = np.percentile(values, percent, method="inverted_cdf")
        assert latency.percentile(percent) == wanted
    found = latency.as_dict()
    assert found["mean"] == pytest.approx(np.mean(values))
    if len(values) > 1:
        assert found["sd"] == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-9)


class Machine:
    """A clock that only a call moves."""

    def __init__(self, call: float) -> None:
        self.call_s, self.now, self.calls = call, 0.0, 0

    def call(self) -> None:
        self.now += self.call_s
        self.calls += 1

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("call_s", "warm_up", "timed"),
    [
        (0.125, 3, 80),  # ten seconds full
        (1.25, 3, 10),  # as many as are wanted
        (4.0, 3, 10),  # the third warm-up call ends the time for it
        (15.0, 1, 7),  # until the patience is over
        (900.0, 1, 3),  # never fewer
    ],
)
def test_slow_calls_are_repeated_less_often(call_s: float, warm_up: int, timed: int) -> None:
    machine = Machine(call_s)
    latency = measure_latency(machine.call, seconds=10.0, clock=machine.clock)
    assert set(latency.milliseconds) == {1e3 * call_s}
    assert (machine.calls - len(latency.milliseconds), len(latency.milliseconds)) == (
        warm_up,
        timed,
    )


@pytest.mark.parametrize("call_s", [0.01, 0.5, 15.0, 900.0])
def test_a_measurement_takes_as_long_as_expected(call_s: float) -> None:
    machine = Machine(call_s)
    machine.call()
    measure_latency(machine.call, seconds=10.0, clock=machine.clock)
    engine = {"seconds": 5.0, "least": ENGINE_CALLS, "warm_up": 1, "clock": machine.clock}
    measure_latency(machine.call, **engine)
    expected = expected_seconds("latency", call_s, 10.0) - OVERHEAD_SECONDS
    assert expected == pytest.approx(machine.now, rel=0.2)


def test_the_time_that_is_left_follows_what_was_measured() -> None:
    left = Remaining([60.0, 60.0, 3600.0, 7200.0])
    assert left.words() == "about 3.0 hours"
    left.done(30.0)  # twice as fast as expected
    assert left.words() == "about 1.5 hours"
    left.done(30.0)
    left.skip()  # the hour of a cell that failed before
    assert left.words() == "about 60 minutes"
    left.done(3600.0)
    assert left.words() == "about 1 s"
