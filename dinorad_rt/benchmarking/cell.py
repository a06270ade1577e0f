"""One cell of a benchmark: an engine at one batch and size, measured in a process of its own."""

from __future__ import annotations

import gc
import itertools
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinorad_rt.benchmarking.clocks import read_clocks
from dinorad_rt.benchmarking.energy import measure_energy
from dinorad_rt.benchmarking.latency import measure_latency, rehearse
from dinorad_rt.benchmarking.memory import peak_mb, read_memory
from dinorad_rt.benchmarking.pace import ENGINE_CALLS, THROUGHPUT_CALLS, is_enough
from dinorad_rt.errors import DinoradError

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.runners.base import AbstractRunner

Mode = Literal["latency", "throughput", "end_to_end"]
MODES: tuple[Mode, ...] = ("latency", "throughput", "end_to_end")
_PLACES = ("engine", "data")


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        model: name of the backbone.
        backend, precision: of the engine.
        image_size: side in pixels.
        batch: rows per call.
        mode: latency (one call at a time, one stream), throughput (calls in flight) or end_to_end
            (from files to stored embeddings).
        engine: folder of the built engine.
        data: of end_to_end: folder of images; empty for the embedded phantoms.
    """

    model: str
    backend: str
    precision: str
    image_size: int
    batch: int
    mode: Mode
    engine: str
    data: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the folders of this machine."""
        return {key: value for key, value in asdict(self).items() if key not in _PLACES}


def measure_cell(cell: Cell, seconds: float) -> dict[str, Any]:
    """Load the engine, warm it up, and measure it for about `seconds`.

    Returns:
        Plain values: `images_per_s`, `joules_per_image`, `energy_note`, `clocks` before and after,
        `memory_mb`; for latency and throughput `load_s`, `first_ms`; for latency `latency_ms` (a
        call is one batch, copies in and out included) and `engine_ms` (without them; None where
        the backend cannot tell); for end_to_end `loader_per_s` and `images`.
    """
    from dinorad_rt.engines.manifest import Engine

    engine = Engine.open(Path(cell.engine))
    if cell.mode == "end_to_end":
        return _files_to_store(cell, engine, seconds)
    return _engine_alone(cell, engine, seconds)


def _engine_alone(cell: Cell, engine: Engine, seconds: float) -> dict[str, Any]:
    from dinorad_rt.runners.registry import open_runner

    before = read_memory()
    start = time.perf_counter()
    with open_runner(engine) as runner:
        load_s = time.perf_counter() - start
        loaded = read_memory()
        pixels = _pixels(engine)
        start = time.perf_counter()
        runner.infer(pixels)
        first_ms = (time.perf_counter() - start) * 1e3
        clocks = [read_clocks()]
        measured = _measure(cell, runner, pixels, seconds)
        running = read_memory()
        if cell.mode == "latency":
            measured["engine_ms"] = _engine_only(runner, seconds / 2)
        clocks.append(read_clocks())
    memory = {"before": before, "loaded": loaded, "running": running}
    return {
        "load_s": load_s,
        "first_ms": first_ms,
        **measured,
        "clocks": clocks,
        "memory_mb": memory | {"peak": peak_mb()},
    }


def _files_to_store(cell: Cell, engine: Engine, seconds: float) -> dict[str, Any]:
    from dinorad_rt.benchmarking.end_to_end import measure_end_to_end

    clocks = [read_clocks()]
    measured = measure_end_to_end(engine, Path(cell.data) if cell.data else None, seconds)
    clocks.append(read_clocks())
    return {
        **measured,
        "clocks": clocks,
        "memory_mb": {"running": read_memory(), "peak": peak_mb()},
    }


def _measure(
    cell: Cell, runner: AbstractRunner, pixels: np.ndarray, seconds: float
) -> dict[str, Any]:
    """Speed and energy of the same calls; what warms up counts for neither."""
    gc.disable()
    try:
        if cell.mode != "latency":
            return _throughput(runner, pixels, seconds)

        def call() -> None:
            runner.infer(pixels)

        rehearse(call, seconds=seconds)
        with measure_energy() as energy:
            latency = measure_latency(call, seconds=seconds, warm_up=0)
        total = sum(latency.milliseconds) / 1e3
        images = len(latency.milliseconds) * len(pixels)
        speed = {"latency_ms": latency.as_dict(), "images_per_s": images / total}
        return speed | energy.facts(images)
    finally:
        gc.enable()


def _engine_only(runner: AbstractRunner, seconds: float) -> dict[str, Any] | None:
    call = runner.resident_call()
    if call is None:
        return None
    return measure_latency(call, seconds=seconds, least=ENGINE_CALLS, warm_up=1).as_dict()


def _throughput(runner: AbstractRunner, pixels: np.ndarray, seconds: float) -> dict[str, Any]:
    """Images per second of a full pipeline: the first results, while it fills, do not count."""
    stream = runner.infer_stream(itertools.repeat(pixels))
    fill = runner.look_ahead + 1
    for _ in range(fill):
        next(stream)
    calls, elapsed = 0, 0.0
    with measure_energy() as energy:
        start = time.perf_counter()
        while not is_enough(calls, elapsed, seconds=seconds, least=THROUGHPUT_CALLS):
            next(stream)
            calls += 1
            elapsed = time.perf_counter() - start
    stream.close()  # type: ignore[attr-defined]
    images = calls * len(pixels)
    return {"images_per_s": images / elapsed, "calls": calls} | energy.facts(images)


def _pixels(engine: Engine) -> np.ndarray:
    """A full batch of noise: zeros would draw less power and flatter the clocks."""
    shape = (engine.batch, *engine.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def main(arguments: Mapping[str, Any]) -> None:
    """Measure one cell described by JSON and print JSON: the entry of the worker process."""
    try:
        measured = measure_cell(Cell(**arguments["cell"]), float(arguments["seconds"]))
    except DinoradError as error:
        sys.exit(" ".join(error.problem.splitlines()))
    print(json.dumps(measured))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
