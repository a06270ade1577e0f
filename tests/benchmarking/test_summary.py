"""Medians over repeats, and the share of the right ceiling."""

from __future__ import annotations

from typing import Any

import pytest

from dinorad_rt.benchmarking.ceiling import Ceiling
from dinorad_rt.benchmarking.cell import Cell
from dinorad_rt.benchmarking.summary import summarise

CEILINGS = (
    Ceiling("cpu", "bf16", 1.0, 2048),
    Ceiling("cuda", "bf16", 800.0, 8192),
    Ceiling("cuda", "fp16", 700.0, 8192),
)


def _row(precision: str = "bf16", device: str = "cpu", **facts: Any) -> dict[str, Any]:
    def run(rate: float, p50: float) -> dict[str, Any]:
        times = {"p50": p50, "p90": 2 * p50, "p95": 3 * p50, "p99": 4 * p50}
        memory = {"loaded": {"resident": 100.0}, "running": {"resident": 130.0 + rate}}
        return {
            "images_per_s": rate,
            "load_s": rate / 10,
            "first_ms": 5.0,
            "latency_ms": times,
            "engine_ms": None,
            "memory_mb": memory | {"peak": 200.0 + rate},
        }

    return {
        "cell": Cell("m", "openvino", precision, 224, 8, "latency", ""),
        "device": device,
        "engine_key": "k",
        "graph_sha256": "g",
        "macs": 5_000_000_000,
        "build_s": 1.0,
        "engine_mb": 10.0,
        "activation_bytes": None,
        "weights": "random",
        "runs": [run(10.0, 8.0), run(50.0, 2.0), run(20.0, 4.0)],
    } | facts


def test_medians_not_means() -> None:
    found = summarise(_row(), CEILINGS)
    assert found["images_per_s"] == 20.0
    assert found["latency_ms"] == {"p50": 4.0, "p90": 8.0, "p95": 12.0, "p99": 16.0}
    assert found["engine_ms"] is None and found["loader_per_s"] is None
    assert (found["load_s"], found["peak_mb"], found["activations_mb"]) == (2.0, 250.0, 50.0)
    assert found["tflops"] == pytest.approx(2 * 5e9 * 20 / 1e12)


@pytest.mark.parametrize(
    ("precision", "device", "ceiling"),
    [
        ("bf16", "cpu", 1.0),
        ("bf16", "cuda", 800.0),
        ("mixed", "cuda", 700.0),
        ("fp32", "cpu", None),
    ],
)
def test_the_ceiling_is_that_of_device_and_precision(
    precision: str, device: str, ceiling: float | None
) -> None:
    found = summarise(_row(precision, device), CEILINGS)
    wanted = None if ceiling is None else pytest.approx(found["tflops"] / ceiling)
    assert found["mfu"] == wanted


def test_what_the_engine_says_of_its_activations_counts() -> None:
    assert summarise(_row(activation_bytes=64_000_000), CEILINGS)["activations_mb"] == 64.0
    assert summarise(_row(runs=[]), CEILINGS)["runs"] == []
