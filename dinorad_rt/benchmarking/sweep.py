"""A benchmark over models × backends × sizes × batches: rounds in random order, with cool-down."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dinorad_rt.benchmarking.ceiling import Ceiling, measure_ceiling
from dinorad_rt.benchmarking.cell import Cell
from dinorad_rt.benchmarking.pace import (
    LONG_SECONDS,
    REACHED,
    Remaining,
    TimeLimit,
    expected_seconds,
)
from dinorad_rt.benchmarking.planned import (
    PlannedCell,
    built_rows,
    describe,
    planned_cells,
    told_engines,
    words_of,
)
from dinorad_rt.benchmarking.resume import stored_run
from dinorad_rt.benchmarking.summary import low_precision, summarise
from dinorad_rt.errors import EngineError
from dinorad_rt.files import read_json, write_json
from dinorad_rt.machine import machine_facts
from dinorad_rt.progress import Say, silent
from dinorad_rt.words import count_of, ending_words

SCHEMA = 2
BENCH_FILE = "bench.json"


@dataclass(frozen=True)
class SweepPlan:
    """What to measure and how patiently.

    Attributes:
        models, backends, precisions, image_sizes, batches: the axes. An image size of None is the
            backbone's own.
        weights: hub, random, auto or a path; speed does not depend on it, the report says it.
        repeats: measurements of each cell: rounds over all cells, each in a random order.
        seconds: time of one measurement.
        cool_down: seconds of rest before each measurement.
        minutes: nothing is begun that would end later; None for no limit.
        seed: of the order and of random weights.
        end_to_end: also measure from files to stored embeddings, with the largest batch.
        data: folder or CSV of images for that; None for the embedded phantoms.
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
    minutes: float | None = None
    seed: int = 0
    end_to_end: bool = True
    data: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the folders of this machine."""
        return asdict(self) | {
            "weights": Path(self.weights).name,
            "data": "the embedded phantoms" if self.data is None else "the user's own",
        }


@dataclass
class Sweep:
    """The state of a run: cells with their facts, and every measurement so far.

    `kept` are cells of an earlier run into the same folder that this one does not ask for.
    """

    plan: SweepPlan
    limit: TimeLimit
    rows: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The whole run as plain values: what `bench.json` holds."""
        rows = [*self.rows, *self.kept]
        kinds = {row["weights"] for row in rows}
        return {
            "schema": SCHEMA,
            "kind": "bench",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "weights": "random" if "random" in kinds else "trained",
            "plan": self.plan.as_dict(),
            "machine": machine_facts(),
            "ceilings": [ceiling.as_dict() for ceiling in self.ceilings],
            "rows": [summarise(row, self.ceilings) for row in rows],
            "skipped": self.skipped,
        }


def run_sweep(plan: SweepPlan, out: Path, *, say: Say = silent) -> dict[str, Any]:
    """Build every engine, measure every cell, and write `bench.json` after each measurement.

    A run that was interrupted goes on: what `out` holds of the same cells is not measured again,
    and what it holds of others stays.

    Args:
        plan: what to measure.
        out: folder of `bench.json`.
        say: told each step.

    Returns:
        The document of `bench.json`.

    Raises:
        EngineError: not a single cell could be built; the reasons are in the message.
        OutputExistsError: `out` holds a run of another machine, other versions or other settings.
    """
    stored = stored_run(out / BENCH_FILE, plan.as_dict(), machine_facts())
    sweep = Sweep(plan, TimeLimit(plan.minutes))
    planned = planned_cells(plan, sweep.limit, sweep.skipped, say)
    kinds = {(item.device, low_precision(item.cell.precision)) for item in planned}
    sweep.ceilings = _best([*stored.ceilings, *_ceilings(kinds, sweep, say)])
    if planned:
        _tell_plan(planned, sweep, say)
    sweep.rows = list(built_rows(planned, sweep.limit, sweep.skipped, say))
    if not sweep.rows:
        raise _nothing("Nothing could be measured", sweep)
    for row in sweep.rows:
        row["runs"] = stored.runs_of(row)
    sweep.kept = stored.others(sweep.rows)
    if sweep.kept:
        say(f"{count_of(len(sweep.kept), 'cell')} of an earlier run in {out} stay beside these")
    _measure_all(sweep, out, say)
    if plan.minutes is not None and not any(row["runs"] for row in sweep.rows):
        raise _nothing("Nothing was measured", sweep)
    sweep.ceilings = _best([*sweep.ceilings, *_ceilings(kinds, sweep, say)])
    write_json(out / BENCH_FILE, sweep.as_dict())
    return read_json(out / BENCH_FILE)


def _nothing(what: str, sweep: Sweep) -> EngineError:
    reasons = "; ".join(sorted({entry["reason"] for entry in sweep.skipped}))
    fix = "See: dinorad-rt doctor"
    if sweep.plan.minutes is not None:
        fix = f"Give more --minutes; engines that are built stay in the cache. {fix}"
    return EngineError(f"{what}: {reasons}", fix)


def _tell_plan(planned: list[PlannedCell], sweep: Sweep, say: Say) -> None:
    """How much there is to do, before the first engine is built."""
    repeats = sweep.plan.repeats
    expected = [_expected(item.cell, item.macs, item.device, sweep) for item in planned]
    left = Remaining(expected * repeats)
    say(f"{told_engines(planned)}; then {repeats * len(planned)} measurements, {left.words()}")
    if left.seconds > LONG_SECONDS:
        say(
            "shorter: --minutes 60, or fewer --repeats, --batch, --image-size or --model; what is "
            "measured later with the same --out adds to the run"
        )


def _measure_all(sweep: Sweep, out: Path, say: Say) -> None:
    plan = sweep.plan
    order = _rounds(sweep.rows, plan)
    left = Remaining([_expected(r["cell"], r["macs"], r["device"], sweep) for r in order])
    say(f"{len(order)} measurements in random order, {left.words()}")
    given_up: set[str] = set()
    for number, row in enumerate(order, start=1):
        cell: Cell = row["cell"]
        name = describe(cell)
        if name in given_up:
            left.skip()
            continue
        if not sweep.limit.has_room(left.next_seconds):
            given_up.add(name)
            left.skip()
            if not row["runs"]:
                sweep.skipped.append({**words_of(cell), "reason": sweep.limit.reason()})
            continue
        say(f"[{number}/{len(order)}] {name}; {left.words()} left")
        start = time.monotonic()
        time.sleep(plan.cool_down)
        try:
            row["runs"].append(_in_own_process(cell, plan.seconds))
        except EngineError as error:
            given_up.add(name)
            say(error.problem)
            sweep.skipped.append({**words_of(cell), "reason": error.problem})
        write_json(out / BENCH_FILE, sweep.as_dict())
        left.done(time.monotonic() - start)
    missing = sum(plan.repeats - len(row["runs"]) for row in sweep.rows)
    if plan.minutes is not None and missing:
        say(f"{missing} measurements are left; the same command goes on with them")


def _rounds(rows: list[dict[str, Any]], plan: SweepPlan) -> list[dict[str, Any]]:
    """Every cell once, in random order, before any comes again: a run that is cut has them all."""
    chance = random.Random(plan.seed)
    order = []
    for turn in range(plan.repeats):
        due = [row for row in rows if len(row["runs"]) <= turn]
        order += chance.sample(due, len(due))
    return order


def _expected(cell: Cell, macs: int, device: str, sweep: Sweep) -> float:
    """Seconds of one measurement: from the arithmetic of a call and the machine's ceiling."""
    kind = device, low_precision(cell.precision)
    speeds = [c.tflops for c in sweep.ceilings if (c.device, c.precision) == kind and c.tflops > 0]
    flop = 2.0 * macs * cell.batch
    call = flop / (REACHED * speeds[0] * 1e12) if speeds and flop else sweep.plan.seconds
    return sweep.plan.cool_down + expected_seconds(cell.mode, call, sweep.plan.seconds)


def _best(ceilings: list[Ceiling]) -> list[Ceiling]:
    """The highest of each kind: other load on the machine only ever takes away."""
    best: dict[tuple[str, str], Ceiling] = {}
    for ceiling in sorted(ceilings, key=lambda item: item.tflops):
        best[ceiling.device, ceiling.precision] = ceiling
    return [best[kind] for kind in sorted(best)]


def _ceilings(kinds: set[tuple[str, str]], sweep: Sweep, say: Say) -> list[Ceiling]:
    found = []
    for device, precision in sorted(kinds):
        say(f"measuring the {precision} matrix product of this machine ({device})")
        try:
            found.append(measure_ceiling(precision, device))
        except EngineError as error:
            sweep.skipped.append({"precision": precision, "reason": error.problem})
    return found


def _in_own_process(cell: Cell, seconds: float) -> dict[str, Any]:
    arguments = json.dumps({"cell": asdict(cell), "seconds": seconds})
    words = [sys.executable, "-m", "dinorad_rt.benchmarking.cell", arguments]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        ending = f"its process {ending_words(done.returncode)}"
        last = done.stderr.strip().splitlines()[-1:] if done.returncode > 0 else []
        raise EngineError(
            f"Measuring {describe(cell)} failed: {(last or [ending])[0]}",
            "Try a smaller --batch, or leave this backend out with --backend.",
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))
