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
from dinorad_rt.benchmarking.latency import measure_latency

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.runners.base import AbstractRunner

Mode = Literal["latency", "throughput"]
MODES: tuple[Mode, ...] = ("latency", "throughput")


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        model: name of the backbone.
        backend, precision: of the engine.
        image_size: side in pixels.
        batch: rows per call.
        mode: latency (one call at a time, one stream) or throughput (calls in flight).
        engine: folder of the built engine.
    """

    model: str
    backend: str
    precision: str
    image_size: int
    batch: int
    mode: Mode
    engine: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the folder of this machine."""
        return {key: value for key, value in asdict(self).items() if key != "engine"}


def measure_cell(cell: Cell, seconds: float) -> dict[str, Any]:
    """Load the engine, warm it up, and measure it for about `seconds`.

    Returns:
        Plain values: load_s, first_ms, latency_ms (percentiles; a call is one batch, copies
        included), images_per_s, energy, clocks before and after, memory in MB (before loading,
        loaded, peak).
    """
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.runners.registry import open_runner

    engine = Engine.open(Path(cell.engine))
    before = _rss_mb()
    start = time.perf_counter()
    with open_runner(engine) as runner:
        loaded_s = time.perf_counter() - start
        loaded = _rss_mb()
        pixels = _pixels(engine)
        start = time.perf_counter()
        runner.infer(pixels)
        first_ms = (time.perf_counter() - start) * 1e3
        clocks = [read_clocks()]
        with measure_energy() as energy:
            measured, images = _measure(cell, runner, pixels, seconds)
        clocks.append(read_clocks())
    return {
        "load_s": loaded_s,
        "first_ms": first_ms,
        **measured,
        "joules_per_image": energy.per_image(images),
        "energy_note": energy.reason,
        "clocks": clocks,
        "memory_mb": {"before": before, "loaded": loaded, "peak": _peak_mb()},
    }


def _measure(
    cell: Cell, runner: AbstractRunner, pixels: np.ndarray, seconds: float
) -> tuple[dict[str, Any], int]:
    gc.disable()
    try:
        if cell.mode == "latency":
            latency = measure_latency(lambda: runner.infer(pixels), seconds=seconds)
            total = sum(latency.milliseconds) / 1e3
            images = len(latency.milliseconds) * len(pixels)
            return {"latency_ms": latency.as_dict(), "images_per_s": images / total}, images
        return _throughput(runner, pixels, seconds)
    finally:
        gc.enable()


def _throughput(
    runner: AbstractRunner, pixels: np.ndarray, seconds: float, least: int = 6
) -> tuple[dict[str, Any], int]:
    """Images per second of a full pipeline: the first results, while it fills, do not count."""
    stream = runner.infer_stream(itertools.repeat(pixels))
    fill = runner.look_ahead + 1
    for _ in range(fill):
        next(stream)
    calls = 0
    start = time.perf_counter()
    while calls < least or time.perf_counter() - start < seconds:
        next(stream)
        calls += 1
    elapsed = time.perf_counter() - start
    stream.close()  # type: ignore[attr-defined]
    images = calls * len(pixels)
    return {"images_per_s": images / elapsed, "calls": calls}, images


def _pixels(engine: Engine) -> np.ndarray:
    """A full batch of noise: zeros would draw less power and flatter the clocks."""
    shape = (engine.batch, *engine.input_shape)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _rss_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return _peak_mb()
    import resource

    return pages * resource.getpagesize() / 1e6


def _peak_mb() -> float:
    import resource

    scale = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def main(arguments: Mapping[str, Any]) -> None:
    """Measure one cell described by JSON and print JSON: the entry of the worker process."""
    print(json.dumps(measure_cell(Cell(**arguments["cell"]), float(arguments["seconds"]))))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
