"""Our engines on a GPU against what one would otherwise use, in one run.

    python -m benchmarks.engines_gpu [--only vitl14-224-64 ...] [--minutes 5]

Contenders, all in FP16: our Inductor engine (compiled ahead of time, CUDA graphs), plain and with
Hopper's tensor memory accelerator, through its runner; PyTorch eager with its fused attention;
torch.compile max-autotune. Each lives in a process of its own; all compile at once, taking turns
at timing kernels, then those of a cell take turns in a random order, one call at a time.
`resident` leaves the images on the GPU; `copies` takes them from the host's memory and brings the
results back. What is not compiled after `--minutes` is left out and named. A search for kernels
takes minutes: in the runs so far, on 16 cores, 3.3 minutes (export, search, compilation) were not
enough for vits14 and vitl14 side by side with their contenders; give it 8 or more.

MFU is the share of the FP16 matrix product measured in the same run; `of_peak` that of the
data sheet's dense figure. Bars: ours >= 1.0 x the best of the others (0.97: the noise), MFU of
vitl14 at 224 px and batch >= 64 at least 0.60.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders import CellKey, Contender
from benchmarks.harness import median_of_ratios, save, stored_rows, table

NAME = "engines_gpu"
CELLS = (
    *(("vitl14", 224, 64), ("vits14", 224, 64), ("vitb14", 224, 64), ("vitg14", 224, 64)),
    *(("vitl14", 224, 1), ("vitl14", 518, 64), ("vitl14", 224, 256), ("vits14", 518, 64)),
    *(("vitl14", 224, 8), ("vits14", 224, 1), ("vitb14", 224, 1), ("vitl14", 518, 8)),
    *(("vits14", 224, 256), ("vitb14", 224, 256), ("vitg14", 224, 1), ("vits14", 224, 8)),
    *(("vitb14", 224, 8), ("vitg14", 224, 256), ("vitl14", 518, 1), ("vits14", 518, 8)),
    *(("vitg14", 224, 8), ("vits14", 518, 256), ("vitl14", 518, 256), ("vits14", 518, 1)),
)
"""In the order in which they are compiled."""
OURS = ("ours inductor fp16", "ours inductor fp16 tma")
EAGER, COMPILED = "eager fp16", "torch.compile fp16"
WAYS = ("resident", "copies")
BARS = {"best_of_others": 0.97, "vitl14_224_mfu": 0.60}
PEAK_TFLOPS = {"NVIDIA H100 80GB HBM3": 989.4, "NVIDIA H200": 989.4}
"""Dense FP16 with FP32 accumulation, from NVIDIA's data sheets (half of the sparse figure)."""


def main() -> None:
    """Compile, race every cell, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="cells such as vitl14-224-64")
    parser.add_argument("--minutes", type=float, default=30.0, help="for compiling")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 8, help="compilers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    cells = [CellKey(*cell) for cell in CELLS]
    if arguments.only:
        cells = [cell for cell in cells if cell.name in arguments.only]
    if not arguments.again:
        cells = [cell for cell in cells if cell.name not in stored_rows(NAME)]
    field = {cell: _contenders(cell) for cell in cells}
    try:
        reasons = _start(
            [(cell, each) for cell in cells for each in field[cell].values()],
            arguments.at_once,
            60 * arguments.minutes,
        )
        _race_all(field, reasons, arguments.rounds, arguments.seconds)
    finally:
        for contender in (each for group in field.values() for each in group.values()):
            contender.stop()
    table([_short(row) for row in stored_rows(NAME).values()])


def _contenders(cell: CellKey) -> dict[str, Contender]:
    base = {
        "model": cell.model,
        "size": cell.size,
        "batch": cell.batch,
        "lock": str(Path(os.environ.get("TMPDIR", "/tmp")) / "dinorad-rt-benchmark.lock"),
    }
    ours = {"kind": "cuda ours", "backend": "inductor", "precision": "fp16"}
    jobs = {
        OURS[0]: ours,
        OURS[1]: ours | {"options": {"inductor": {"tensor_memory": True}}},
        COMPILED: {"kind": "cuda pytorch", "compile": True},
        EAGER: {"kind": "cuda pytorch", "compile": False},
    }
    few = {"TORCHINDUCTOR_COMPILE_THREADS": "4", "OMP_NUM_THREADS": "4"}
    return {name: Contender(name, base | job, few) for name, job in jobs.items()}


def _start(
    entries: list[tuple[CellKey, Contender]], at_once: int, seconds: float
) -> dict[tuple[CellKey, str], str]:
    """Start all, some at once; why some did not start in time or at all."""
    end = time.monotonic() + seconds
    gate = threading.Semaphore(at_once)
    reasons: dict[tuple[CellKey, str], str] = {}
    begun = time.monotonic()

    def start(cell: CellKey, contender: Contender) -> None:
        with gate:
            if time.monotonic() > end:
                reasons[cell, contender.name] = "not started in time"
                return
            try:
                contender.start()
                print(f"{time.monotonic() - begun:.0f} s {cell.name} {contender.name}", flush=True)
            except (RuntimeError, OSError) as error:
                reasons.setdefault((cell, contender.name), str(error))
                print(f"{cell.name}: {error}", flush=True)

    threads = []
    for cell, contender in entries:
        thread = threading.Thread(target=start, args=(cell, contender), daemon=True)
        thread.start()
        threads.append((thread, cell, contender))
        time.sleep(0.05)  # keeps their order
    for thread, cell, contender in threads:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            reasons[cell, contender.name] = f"not compiled within {seconds:.0f} s"
            contender.stop()
    return reasons


def _race_all(
    field: Mapping[CellKey, Mapping[str, Contender]],
    reasons: Mapping[tuple[CellKey, str], str],
    rounds: int,
    seconds: float,
) -> None:
    from dinorad_rt.benchmarking.ceiling import measure_ceiling
    from dinorad_rt.machine import gpu_facts

    ceiling = measure_ceiling("fp16", "cuda").tflops
    for cell, group in field.items():
        running = [each for each in group.values() if (cell, each.name) not in reasons]
        if not any(each.name in OURS for each in running):
            print(f"{cell.name}: left out, no engine of ours was ready", flush=True)
            continue
        row = _row(cell, _race(running, rounds, seconds), ceiling)
        row["left_out"] = {
            name: reason for (other, name), reason in reasons.items() if other == cell
        }
        rows = [*(stored_rows(NAME) | {cell.name: row}).values()]
        facts = {"weights": "random", "precision": "fp16", "bars": BARS, "gpu": gpu_facts()}
        save(NAME, facts | {"rows": rows})
        table([_short(row)])


def _race(running: list[Contender], rounds: int, seconds: float) -> dict[str, Any]:
    """Per contender and way: rates and joules per image of every round."""
    found: dict[str, Any] = {each.name: {way: [] for way in WAYS} for each in running}
    order = random.Random(0)
    for _ in range(rounds):
        for way in WAYS:
            order.shuffle(running)
            for contender in running:
                found[contender.name][way].append(contender.facts_of(seconds, way))
    return found


def _row(cell: CellKey, found: Mapping[str, Any], ceiling: float) -> dict[str, Any]:
    from dinorad_rt.machine import gpu_facts

    gflop = 2 * _multiply_adds(cell) / 1e9
    rates = {
        way: {name: [each["images_per_s"] for each in ways[way]] for name, ways in found.items()}
        for way in WAYS
    }
    joules = {
        name: statistics.median(sum(each["joules_per_image"].values()) for each in ways["resident"])
        for name, ways in found.items()
    }
    medians = {
        way: {name: statistics.median(values) for name, values in rates[way].items()}
        for way in WAYS
    }
    resident = medians["resident"]
    ours = max((name for name in OURS if name in resident), key=lambda name: resident[name])
    others = {name: rate for name, rate in resident.items() if name not in OURS}
    best = max(others, key=lambda name: others[name], default=None)
    peak = PEAK_TFLOPS.get(gpu_facts().get("name", ""))
    tflops = {name: rate * gflop / 1e3 for name, rate in resident.items()}
    return {
        "cell": cell.name,
        "gflop_per_image": gflop,
        "ours": ours,
        "best_of_others": best,
        "ratios": {
            way: None if best is None else median_of_ratios(rates[way][ours], rates[way][best])
            for way in WAYS
        },
        "images_per_s": medians,
        "joules_per_image": joules,
        "ceiling_tflops": ceiling,
        "mfu": {name: value / ceiling for name, value in tflops.items()},
        "of_peak": {name: value / peak for name, value in tflops.items()} if peak else None,
        "rounds": rates,
    }


def _multiply_adds(cell: CellKey) -> int:
    from dinorad_rt.benchmarking.work import multiply_adds
    from dinorad_rt.pipeline import EngineRequest, graph_for

    request = EngineRequest(
        model=cell.model, weights="random", image_size=cell.size, precision="fp16"
    )
    return multiply_adds(graph_for(request).path)


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    ours = row["ours"]
    return {
        "cell": row["cell"],
        "ours": ours,
        "images/s": row["images_per_s"]["resident"][ours],
        "MFU": row["mfu"][ours],
        "of peak": (row["of_peak"] or {}).get(ours, "-"),
        "best of others": row["best_of_others"] or "-",
        "ratio": row["ratios"]["resident"] or "-",
        "with copies": row["ratios"]["copies"] or "-",
        "J/image": row["joules_per_image"][ours],
    }


if __name__ == "__main__":
    main()
