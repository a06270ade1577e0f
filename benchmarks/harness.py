"""What every benchmark shares: side-by-side timing, the machine's ceiling, JSON with the machine.

Only ratios measured in one run count. `interleave` therefore times the candidates in turns, in a
new random order each round, so that other load on the machine hits all of them alike.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def interleave(
    candidates: Mapping[str, Callable[[], Any]],
    rounds: int = 5,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each candidate per round; one untimed warm-up each, then random order.

    `clock` is `time.process_time` for single-threaded work on a machine with other load: waiting
    for a core does not count then.
    """
    for run in candidates.values():
        run()
    order = random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        names = list(candidates)
        order.shuffle(names)
        for name in names:
            start = clock()
            candidates[name]()
            seconds[name].append(clock() - start)
    return seconds


def median_of_ratios(numerator: list[float], denominator: list[float]) -> float:
    """Median over rounds of numerator / denominator."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def matmul_ceiling(dtype: str = "float32", size: int = 2048, rounds: int = 5) -> float:
    """TFLOP/s of the machine's best square matrix product in this process, PyTorch on the CPU."""
    import torch

    a = torch.randn(size, size).to(getattr(torch, dtype))
    best = min(interleave({"product": lambda: a @ a}, rounds=rounds)["product"])
    return 2 * size**3 / best / 1e12


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    import resource

    scale = 1e3 if sys.platform != "darwin" else 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def run_python(code: str, **environment: str) -> dict[str, Any]:
    """Run code in a fresh interpreter; its last line of output is JSON."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def last_words(error: Exception) -> str:
    """The message at the end of a traceback, without the paths of this machine above it."""
    text = str(error).strip()
    start = text.rfind("dinorad_rt.errors.")
    return text[start:] if start >= 0 else text.splitlines()[-1]


def save(name: str, document: dict[str, Any]) -> Path:
    """Store a result beside the others, with date and machine."""
    from dinorad_rt.files import write_json
    from dinorad_rt.machine import machine_facts

    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    facts = {"date": datetime.now(UTC).date().isoformat(), "machine": machine_facts()}
    write_json(target, facts | document)
    print(f"\nwritten: benchmarks/results/{target.name}")
    return target


def load(name: str) -> dict[str, Any]:
    """A stored result, to go on from; empty if there is none."""
    from dinorad_rt.files import read_json

    source = RESULTS / f"{name}.json"
    return read_json(source) if source.exists() else {}


def stored_rows(name: str) -> dict[str, dict[str, Any]]:
    """Rows of a stored result by their cell, to go on from; empty if there is none."""
    return {str(row["cell"]): row for row in load(name).get("rows", ())}


def table(rows: list[dict[str, Any]]) -> None:
    """Print rows as an aligned table; what a row lacks is left blank."""
    if not rows:
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    texts = [{key: _text(row.get(key, "")) for key in keys} for row in rows]
    widths = {key: max(len(key), *(len(row[key]) for row in texts)) for key in keys}
    print("  ".join(key.ljust(width) for key, width in widths.items()))
    for row in texts:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
