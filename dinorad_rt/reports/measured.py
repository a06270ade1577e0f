"""Times the very engines of the runs, found in the cache by their keys.

`bench` builds engines shaped for what it measures; a run's own engine has another profile, and so
another key. What this measures is the engine whose accuracy is reported, and nothing else.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from dinorad_rt.benchmarking.cell import Cell, Mode
from dinorad_rt.engines.cache import find_engine
from dinorad_rt.machine import machine_facts
from dinorad_rt.progress import Say, silent
from dinorad_rt.reports.runs import Run

SECONDS = 2.0
REPEATS = 3
WORKER = (sys.executable, "-m", "dinorad_rt.benchmarking.cell")


def measure_engines(
    runs: tuple[Run, ...], *, seconds: float = SECONDS, repeats: int = REPEATS, say: Say = silent
) -> dict[str, Any]:
    """Latency, throughput and energy of each engine of the runs.

    Args:
        runs: whose engines are measured, each engine once.
        seconds: of one measurement, in a process of its own.
        repeats: measurements of each; medians count.
        say: told each step, and which engines are not in this machine's cache.

    Returns:
        A document as in bench.json, with the rows of the engines that are here.
    """
    rows = []
    for run in {str(run.engine.get("key")): run for run in runs}.values():
        engine = find_engine(str(run.engine.get("key")))
        if engine is None:
            say(f"not timed: the engine of {run.label} is not in the cache of this machine")
            continue
        for mode in ("latency", "throughput"):
            cell = Cell(
                model=run.model,
                backend=str(run.engine.get("backend")),
                precision=str(run.engine.get("precision")),
                image_size=int(engine.input_shape[-1]),
                batch=engine.batch,
                mode=mode,
                engine=str(engine.folder),
            )
            say(f"timing {run.model} {cell.backend} {cell.precision}, {mode}")
            found = list(_measurements(cell, seconds, repeats, say))
            if found:
                rows.append(_row(cell, str(engine.key), found))
    return {
        "kind": "bench",
        "machine": machine_facts(),
        "plan": {"seconds": seconds, "repeats": repeats},
        "rows": rows,
    }


def _measurements(cell: Cell, seconds: float, repeats: int, say: Say) -> Iterator[dict[str, Any]]:
    request = json.dumps({"cell": asdict(cell), "seconds": seconds})
    for _ in range(repeats):
        done = subprocess.run([*WORKER, request], capture_output=True, text=True)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            say(f"not timed: {cell.model} {cell.mode}: {last[0]}")
            return
        yield dict(json.loads(done.stdout.splitlines()[-1]))


def _row(cell: Cell, key: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    mode: Mode = cell.mode
    row = cell.as_dict() | {
        "engine_key": key,
        "images_per_s": statistics.median(one["images_per_s"] for one in found),
        "runs": found,
    }
    if mode == "latency":
        row["latency_ms"] = {"p50": statistics.median(one["latency_ms"]["p50"] for one in found)}
    return row
