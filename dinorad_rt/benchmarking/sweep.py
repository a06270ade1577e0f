"""A benchmark over models × backends × sizes × batches: random order, cool-down, repeats."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.benchmarking.ceiling import Ceiling, measure_ceiling
from dinorad_rt.benchmarking.cell import MODES, Cell
from dinorad_rt.benchmarking.work import multiply_adds
from dinorad_rt.engines.profile import Profile, load_profile
from dinorad_rt.errors import DinoradError, EngineError
from dinorad_rt.files import write_json
from dinorad_rt.machine import has_gpu, machine_facts
from dinorad_rt.pipeline import EngineRequest, Say, graph_for, silent

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

SCHEMA = 1


@dataclass(frozen=True)
class SweepPlan:
    """What to measure and how patiently.

    Attributes:
        models, backends, precisions, image_sizes, batches: the axes. An image size of None is the
            backbone's own.
        weights: hub, random, auto or a path; speed does not depend on it, the report says it.
        repeats: measurements of each cell, spread over the run in random order.
        seconds: time of one measurement.
        cool_down: seconds of rest before each measurement.
        seed: of the order and of random weights.
    """

    models: tuple[str, ...]
    backends: tuple[str, ...]
    precisions: tuple[str, ...] = ("fp32",)
    image_sizes: tuple[int | None, ...] = (None,)
    batches: tuple[int, ...] = (1, 8, 32)
    weights: str = "random"
    repeats: int = 3
    seconds: float = 2.0
    cool_down: float = 0.5
    seed: int = 0


@dataclass
class Sweep:
    """The state of a run: cells with their facts, and every measurement so far."""

    plan: SweepPlan
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The whole run as plain values: what `bench.json` holds."""
        return {
            "schema": SCHEMA,
            "kind": "bench",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "weights": self.plan.weights if self.plan.weights == "random" else "published",
            "plan": asdict(self.plan) | {"weights": Path(self.plan.weights).name},
            "machine": machine_facts(),
            "ceilings": [ceiling.as_dict() for ceiling in self.ceilings],
            "rows": [summarise(row, self.ceilings) for row in self.rows],
            "skipped": self.skipped,
        }


def run_sweep(plan: SweepPlan, out: Path, *, say: Say = silent) -> dict[str, Any]:
    """Build every engine, measure every cell, and write `bench.json` after each measurement.

    Args:
        plan: what to measure.
        out: folder of `bench.json`.
        say: told each step.

    Returns:
        The document of `bench.json`.

    Raises:
        EngineError: not a single cell could be built; the reasons are in the message.
    """
    sweep = Sweep(plan)
    sweep.rows = list(_built_cells(plan, sweep, say))
    if not sweep.rows:
        reasons = "; ".join(sorted({entry["reason"] for entry in sweep.skipped}))
        raise EngineError(f"Nothing could be measured: {reasons}", "See: dinorad-rt doctor")
    sweep.ceilings = _ceilings(sweep, say)
    order = [row for row in sweep.rows for _ in range(plan.repeats)]
    random.Random(plan.seed).shuffle(order)
    for done, row in enumerate(order, start=1):
        time.sleep(plan.cool_down)
        cell: Cell = row["cell"]
        say(f"[{done}/{len(order)}] {describe(cell)}")
        try:
            row["runs"].append(_in_own_process(cell, plan.seconds))
        except EngineError as error:
            say(error.problem)
            sweep.skipped.append({**_words(cell), "reason": error.problem})
        write_json(out / "bench.json", sweep.as_dict())
    return sweep.as_dict()


def describe(cell: Cell) -> str:
    """A cell in one line."""
    return (
        f"{cell.model} {cell.image_size} px, {cell.backend} {cell.precision}, "
        f"batch {cell.batch}, {cell.mode}"
    )


def summarise(row: dict[str, Any], ceilings: list[Ceiling]) -> dict[str, Any]:
    """A row of the report: medians over the repeats, and every repeat's own values."""
    cell: Cell = row["cell"]
    runs = row["runs"]
    facts = cell.as_dict() | {
        key: row[key] for key in ("engine_key", "macs", "build_s", "engine_mb", "weights")
    }
    if not runs:
        return facts | {"runs": []}
    rate = statistics.median(run["images_per_s"] for run in runs)
    tflops = 2 * row["macs"] * rate / 1e12
    ceiling = next((c for c in ceilings if c.precision == _low(cell.precision)), None)
    facts |= {
        "images_per_s": rate,
        "tflops": tflops,
        "mfu": tflops / ceiling.tflops if ceiling else None,
        "load_s": statistics.median(run["load_s"] for run in runs),
        "first_ms": statistics.median(run["first_ms"] for run in runs),
        "peak_mb": max(run["memory_mb"]["peak"] for run in runs),
        "runs": runs,
    }
    if cell.mode == "latency":
        keys = ("p50", "p90", "p95", "p99")
        facts["latency_ms"] = {
            key: statistics.median(run["latency_ms"][key] for run in runs) for key in keys
        }
    return facts


def _low(precision: str) -> str:
    return "fp16" if precision == "mixed" else precision


def _built_cells(plan: SweepPlan, sweep: Sweep, say: Say) -> Iterator[dict[str, Any]]:
    for model in plan.models:
        for size in plan.image_sizes:
            for precision in plan.precisions:
                request = EngineRequest(
                    model=model,
                    weights=plan.weights,
                    image_size=size,
                    precision=precision,  # type: ignore[arg-type]
                    seed=plan.seed,
                )
                graph = graph_for(request, say=say)
                yield from _cells_of_graph(plan, graph, sweep, say)


def _cells_of_graph(
    plan: SweepPlan, graph: Graph, sweep: Sweep, say: Say
) -> Iterator[dict[str, Any]]:
    from dinorad_rt.engines.build import get_or_build

    macs = multiply_adds(graph.path)
    for backend in plan.backends:
        for batch in plan.batches:
            for mode in MODES:
                cell = Cell(
                    model=graph.model,
                    backend=backend,
                    precision=graph.precision,
                    image_size=int(graph.input_shape[-1]),
                    batch=batch,
                    mode=mode,
                    engine="",
                )
                profile = profile_of(cell)
                try:
                    engine = get_or_build(graph, backend=backend, profile=profile, progress=say)
                except DinoradError as error:
                    say(f"left out: {describe(cell)}: {error.problem}")
                    sweep.skipped.append({**_words(cell), "reason": error.problem})
                    continue
                yield {
                    "cell": replace(cell, engine=str(engine.folder)),
                    "engine_key": engine.key,
                    "macs": macs,
                    "build_s": engine.manifest["build_seconds"],
                    "engine_mb": engine.bytes_on_disk / 1e6,
                    "weights": engine.weights_kind,
                    "runs": [],
                }


def profile_of(cell: Cell) -> Profile:
    """The profile that a cell is built with: one stream for latency, the backend's choice else."""
    base = load_profile("latency" if cell.mode == "latency" else "throughput")
    streams = 1 if cell.mode == "latency" else base.streams
    return Profile(
        name=f"bench-{cell.mode}",
        batch=cell.batch,
        streams=streams,
        threads=base.threads,
        options=base.options,
    )


def _words(cell: Cell) -> dict[str, str]:
    return {key: str(value) for key, value in cell.as_dict().items()}


def _ceilings(sweep: Sweep, say: Say) -> list[Ceiling]:
    device = "cuda" if has_gpu() else "cpu"
    found = []
    for precision in sorted({_low(row["cell"].precision) for row in sweep.rows}):
        say(f"measuring the {precision} matrix product of this machine")
        try:
            found.append(measure_ceiling(precision, device))
        except EngineError as error:
            sweep.skipped.append({"ceiling": precision, "reason": error.problem})
    return found


def _in_own_process(cell: Cell, seconds: float) -> dict[str, Any]:
    arguments = json.dumps({"cell": asdict(cell), "seconds": seconds})
    words = [sys.executable, "-m", "dinorad_rt.benchmarking.cell", arguments]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise EngineError(
            f"Measuring {describe(cell)} failed: {last[0]}",
            "Try a smaller --batch, or leave this backend out with --backend.",
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))
