"""What the cache saves: build, load from the cache, and refit of the same engine, side by side.

    .venv/bin/python benchmarks/engine_cache.py

Asked: a cached engine loads in 10 % of its build time or in 0.5 s; refit against a new build with
its gate. `compile_s` is the backend's part of a build, `build_s` all of it: proof of precision and
parity gate too, which no engine is without. Random weights: they cost what real ones cost.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import save, table
from dinorad_rt.engines.build import get_or_build, open_runner
from dinorad_rt.engines.profile import load_profile
from dinorad_rt.engines.refit import UNSUPPORTED, refit_engine
from dinorad_rt.errors import DinoradError
from dinorad_rt.machine import cpu_precisions

MODELS = ("vits14", "vitb14")
BACKENDS = {"openvino": 3, "onnxruntime": 3, "pytorch": 3, "inductor": 1}
"""Rounds of each: Inductor compiles for minutes."""


def main() -> None:
    """Measure, print and store."""
    rows: list[dict[str, Any]] = []
    for model in MODELS:
        for backend in BACKENDS:
            rows.append(measure(model, backend))
            save("engine_cache", {"rows": rows, "weights": "random", "rounds": BACKENDS})
    table(rows)


def measure(model: str, backend: str) -> dict[str, Any]:
    """Median seconds over rounds, each in a cache of its own."""
    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.export.onnx_export import export_onnx

    precision = "bf16" if backend != "onnxruntime" and "bf16" in cpu_precisions() else "fp32"
    seconds: dict[str, list[float]] = {}
    reason = UNSUPPORTED.get(backend, "")
    with tempfile.TemporaryDirectory() as root:
        os.environ["DINORAD_RT_CACHE"] = str(Path(root) / "graphs")
        graphs = [
            export_onnx(
                load_backbone(model, weights="random", seed=seed),
                precision=precision,  # type: ignore[arg-type]
                out=Path(root) / f"graph{seed}",
            )
            for seed in (0, 1)
        ]
        for turn in range(BACKENDS[backend]):
            os.environ["DINORAD_RT_CACHE"] = str(Path(root) / f"cache{turn}")
            profile = load_profile()
            engine = timed(
                seconds,
                "build_s",
                lambda b=backend, p=profile: get_or_build(graphs[0], backend=b, profile=p),
            )
            note(seconds, "compile_s", lambda e=engine: e.manifest["build_seconds"])
            with ExitStack() as opened:  # closing is no part of loading
                timed(seconds, "cached_load_s", lambda e=engine, o=opened: load(e, o))
            if not reason:
                try:
                    other = refit_engine(graphs[1], backend=backend, profile=profile)
                except DinoradError as error:
                    reason = error.problem
                else:
                    note(seconds, "refit_s", lambda e=other: e.manifest["refit"]["seconds"])
    medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    share = medians["cached_load_s"] / medians["build_s"]
    return {
        "model": model,
        "backend": backend,
        "precision": precision,
        **medians,
        "load_share": round(share, 3),
        "kept": share <= 0.1 or medians["cached_load_s"] <= 0.5,
        "refit": reason or "possible",
    }


def load(engine: Any, opened: ExitStack) -> None:
    """From the cache to ready: hashes compared, engine loaded."""
    opened.enter_context(open_runner(engine))


def timed(seconds: dict[str, list[float]], name: str, run: Callable[[], Any]) -> Any:
    """Add the seconds that `run` takes; gives what it gives."""
    start = time.perf_counter()
    found = run()
    seconds.setdefault(name, []).append(time.perf_counter() - start)
    return found


def note(seconds: dict[str, list[float]], name: str, value: Callable[[], float]) -> None:
    """Add seconds that were measured inside."""
    seconds.setdefault(name, []).append(float(value()))


if __name__ == "__main__":
    main()
