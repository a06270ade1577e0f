"""Rows of a report: medians over the repeats of a cell, beside every repeat's own values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from dinorad_rt.benchmarking.ceiling import Ceiling
from dinorad_rt.benchmarking.cell import Cell
from dinorad_rt.benchmarking.latency import PERCENTILES

FACTS = (
    *(
        "device",
        "engine_key",
        "graph_sha256",
        "macs",
        "build_s",
        "engine_mb",
        "activation_bytes",
        "weights",
    ),
)


def low_precision(precision: str) -> str:
    """The precision whose matrix product bounds a graph of this one."""
    return "fp16" if precision == "mixed" else precision


def summarise(row: dict[str, Any], ceilings: Sequence[Ceiling]) -> dict[str, Any]:
    """A row of the report.

    Args:
        row: `cell`, its facts (`FACTS`) and the measurements so far, `runs`.
        ceilings: of this run; that of the row's device and precision gives its share (`mfu`).
    """
    cell: Cell = row["cell"]
    runs = row["runs"]
    facts = cell.as_dict() | {key: row[key] for key in FACTS}
    if not runs:
        return facts | {"runs": []}
    rate = statistics.median(run["images_per_s"] for run in runs)
    tflops = 2 * row["macs"] * rate / 1e12
    wanted = row["device"], low_precision(cell.precision)
    ceiling = next((c for c in ceilings if (c.device, c.precision) == wanted), None)
    facts |= {
        "images_per_s": rate,
        "tflops": tflops,
        "mfu": tflops / ceiling.tflops if ceiling else None,
        "peak_mb": max(run["memory_mb"]["peak"] for run in runs),
        "activations_mb": _activations_mb(row),
        "runs": runs,
    }
    for key in ("load_s", "first_ms", "loader_per_s"):
        facts[key] = _median(run.get(key) for run in runs)
    for key in ("latency_ms", "engine_ms"):
        facts[key] = _percentiles([run.get(key) for run in runs])
    return facts


def _activations_mb(row: dict[str, Any]) -> float | None:
    """What the engine itself says, or how much the process grew from loaded to running."""
    if row["activation_bytes"]:
        return float(row["activation_bytes"]) / 1e6
    grown = [
        run["memory_mb"]["running"]["resident"] - run["memory_mb"]["loaded"]["resident"]
        for run in row["runs"]
        if "loaded" in run["memory_mb"]
    ]
    return max(0.0, statistics.median(grown)) if grown else None


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _percentiles(runs: list[dict[str, Any] | None]) -> dict[str, float] | None:
    known = [run for run in runs if run is not None]
    if not known:
        return None
    keys = [f"p{percent}" for percent in PERCENTILES]
    return {key: statistics.median(run[key] for run in known) for key in keys}
