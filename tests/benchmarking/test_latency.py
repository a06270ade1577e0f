"""Percentiles against NumPy's, and the loop that measures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinorad_rt.benchmarking.latency import PERCENTILES, Latency, measure_latency


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


def test_warm_up_is_not_timed_and_time_ends_the_loop() -> None:
    ticks = itertools.count()
    calls: list[int] = []
    latency = measure_latency(
        lambda: calls.append(1), seconds=9.5, least=2, warm_up=3, clock=lambda: float(next(ticks))
    )
    assert len(calls) == 3 + len(latency.milliseconds)
    assert set(latency.milliseconds) == {1000.0}
    assert len(latency.milliseconds) == 4  # a clock that ticks at each look: three looks a call


def test_at_least_so_many_calls_however_slow() -> None:
    ticks = itertools.count(step=100)
    latency = measure_latency(
        lambda: None, seconds=1.0, least=5, warm_up=0, clock=lambda: float(next(ticks))
    )
    assert len(latency.milliseconds) == 5
