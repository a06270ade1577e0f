"""Accuracy against latency and energy: runs and benchmarks joined on the same engine key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinorad_rt.reports.bench_rows import joules_per_image
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.results import MetricValue
from dinorad_rt.reports.runs import Run, TestSet


@dataclass(frozen=True)
class Joined:
    """One run and the measurements of the very engine that made its embeddings.

    Attributes:
        run: which one.
        value: its main metric, which has a value.
        batch: images per call.
        latency_ms: median time of a call, or None.
        images_per_s: at full load, or None.
        joules: energy per image, or None if no counter was readable.
        energy_note: why there is none.
    """

    run: Run
    value: MetricValue
    batch: int
    latency_ms: float | None
    images_per_s: float | None
    joules: float | None
    energy_note: str = ""

    @property
    def ms_per_image(self) -> float | None:
        """Time of an image at full load, or None."""
        return 1000 / self.images_per_s if self.images_per_s else None

    @property
    def costs(self) -> tuple[float, ...]:
        """What is lower for a better run; infinite where it was not measured."""
        measured = (self.ms_per_image, self.latency_ms, self.joules)
        assert self.value.value is not None
        return (*(math.inf if cost is None else cost for cost in measured), -self.value.value)


def joined_with_benches(test_set: TestSet, material: Material) -> list[Joined]:
    """Runs of a test set whose engine was measured. The engine key decides, nothing else."""
    rows = [row for document in material.benches for row in document["rows"] if row.get("runs")]
    found = []
    for run in test_set.runs:
        same = [row for row in rows if row.get("engine_key") == run.engine.get("key") is not None]
        value = run.headline()
        if same and value is not None and value.value is not None:
            found.append(_joined(run, value, same))
    return found


def pareto_set(costs: np.ndarray) -> np.ndarray:
    """Which rows no other row beats: none is at most as costly everywhere and cheaper somewhere.

    Args:
        costs: (points, costs), lower is better.

    Returns:
        (points,) bool.
    """
    at_most = (costs[:, None] <= costs[None]).all(axis=2)
    cheaper = (costs[:, None] < costs[None]).any(axis=2)
    return np.asarray(~(at_most & cheaper).any(axis=0))


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, accuracy) points that no other point beats, cheapest first."""
    if not points:
        return []
    costs = np.array([(cost, -accuracy) for cost, accuracy in points])
    kept = [point for point, keep in zip(points, pareto_set(costs), strict=True) if keep]
    return sorted(set(kept))


def _joined(run: Run, value: MetricValue, rows: Sequence[Mapping[str, Any]]) -> Joined:
    calls = [row["latency_ms"]["p50"] for row in rows if row.get("latency_ms")]
    rates = [row["images_per_s"] for row in rows if row.get("mode") == "throughput"]
    joules = [cost for row in rows if (cost := joules_per_image(row)) is not None]
    return Joined(
        run,
        value,
        int(rows[0]["batch"]),
        min(calls) if calls else None,
        max(rates) if rates else None,
        min(joules) if joules else None,
        "; ".join(
            sorted({str(run.get("energy_note", "")) for r in rows for run in r["runs"]} - {""})
        ),
    )
