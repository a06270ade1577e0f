"""Our engines on the processor against what one would otherwise use, in one run.

    python -m benchmarks.engines_cpu [--prepare] [--only vits14-224-8 ...] [--rounds 5]

The precision is the lowest that the processor has its own arithmetic for: BF16, or FP32 where it
has none; the results of the two lie apart. Contenders: our engines of OpenVINO, Inductor and, in
FP32, ONNX Runtime (and INT8 where its gate passes), through our runners with their copies, of which
`auto` would take the fastest; PyTorch eager;
torch.compile max-autotune; bare ONNX Runtime; bare OpenVINO tuned by hand (static batch, one or two
streams, the precision as its hint). All of a cell live side by side, each in a process of its own,
and take turns in a random order; beside them the matrix product alone. Batch 1 is one call at a
time, batch 8 a full pipeline.

Bars: ours >= 1.0 x the best of the others (0.97: the noise), >= 0.75 of the matrix product at batch
8, BF16 >= 4 x ONNX Runtime FP32, INT8 >= 1.4 x ours. `--prepare` builds what takes long and times
nothing. Finished cells are kept; `--again` measures them anew.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import CellKey, Contender
from benchmarks.harness import median_of_ratios, save, stored_rows, table
from dinorad_rt.machine import cpu_precisions

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

CELLS = (
    *(("vits14", 224, 8), ("vits14", 224, 1), ("vitb14", 224, 8), ("vitb14", 224, 1)),
    *(("vits14", 518, 8), ("vits14", 518, 1), ("vitl14", 224, 8), ("vitl14", 224, 1)),
)
SIDES = (1024, 2048, 4096)
FP32_SIDE = 2048
FP32_PRODUCT = f"product fp32 {FP32_SIDE}"
PRECISION = "bf16" if "bf16" in cpu_precisions() else "fp32"
NAME = f"engines_cpu_{PRECISION}"
OURS = (
    *(f"ours openvino {PRECISION}", f"ours inductor {PRECISION}"),
    *(("ours onnxruntime fp32",) if PRECISION == "fp32" else ()),
)
INT8 = "ours openvino int8"
ORT = "onnxruntime fp32"
_ORT_BAR = {"onnxruntime_fp32": 4.0} if PRECISION == "bf16" else {}
BARS = {"best_of_others": 0.97, "of_ceiling": 0.75, **_ORT_BAR, "int8": 1.4}


def main() -> None:
    """Race every cell and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="cells such as vits14-224-8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--nice", type=int, default=0, help="while measured; below 0 needs root")
    parser.add_argument("--without", nargs="*", default=[], help="contenders to leave out")
    parser.add_argument("--prepare", action="store_true", help="build, time nothing")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    cells = [CellKey(*cell) for cell in CELLS]
    for cell in cells:
        if arguments.only and cell.name not in arguments.only:
            continue
        if cell.name in stored_rows(NAME) and not (arguments.again or arguments.prepare):
            continue
        print(f"{cell.name} ...", flush=True)
        contenders, left_out = _contenders(cell, arguments.without)
        if arguments.prepare:
            _compile_once(contenders)
            continue
        rates, failed = race(contenders, arguments.rounds, arguments.seconds, arguments.nice)
        row = _row(cell, rates, left_out | failed)
        save(
            NAME,
            {
                "weights": "random",
                "precision": PRECISION,
                "bars": BARS,
                "rows": [*(stored_rows(NAME) | {cell.name: row}).values()],
            },
        )
        table([{"contender": k, "images/s": v} for k, v in row["images_per_s"].items()])
    table([_short(row) for row in stored_rows(NAME).values()])


def _compile_once(contenders: list[Contender]) -> None:
    """Let torch.compile fill its cache, as our engines already lie in theirs."""
    for contender in contenders:
        if contender.job.get("compile"):
            start = time.perf_counter()
            race([contender], rounds=0, seconds=0.0)
            print(f"  {contender.name}: {time.perf_counter() - start:.0f} s", flush=True)


def race(
    contenders: list[Contender], rounds: int, seconds: float, nice: int = 0
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Rates of each contender per round, in turns; and why some did not start."""
    running, failed = [], {}
    for contender in contenders:
        try:
            contender.start()
            running.append(contender)
        except RuntimeError as error:
            failed[contender.name] = str(error)
    rates: dict[str, list[float]] = {contender.name: [] for contender in running}
    order = random.Random(0)
    try:
        for _ in range(rounds):
            order.shuffle(running)
            for contender in running:
                time.sleep(0.2)
                rates[contender.name].append(contender.measure(seconds, nice))
    finally:
        for contender in running:
            contender.stop()
    return rates, failed


def _contenders(cell: CellKey, without: list[str]) -> tuple[list[Contender], dict[str, str]]:
    from dinorad_rt.machine import usable_cores

    base = {
        "model": cell.model,
        "size": cell.size,
        "batch": cell.batch,
        "latency": cell.latency,
        "threads": usable_cores(),
        "precision": PRECISION,
    }
    least = {} if cell.latency else {"least": 4}  # fewer calls would not fill two streams
    fp32 = _graph(cell, "fp32")
    onnx = {"onnx": str(fp32.path)}
    found = [
        Contender(f"pytorch {PRECISION} eager", base | {"kind": "pytorch", "compile": False}),
        Contender(f"torch.compile {PRECISION}", base | {"kind": "pytorch", "compile": True}),
        Contender(ORT, base | {"kind": "onnxruntime"} | onnx),
        *(
            Contender(
                f"bare openvino {n} streams",
                base | {"kind": "openvino", "streams": n} | onnx | least,
            )
            for n in (1, 2)
        ),
        *(Contender(f"product {n}", _product(n, PRECISION)) for n in SIDES),
        Contender(FP32_PRODUCT, _product(FP32_SIDE, "fp32")),
    ]
    left_out: dict[str, str] = {}
    for name in (*OURS, INT8):
        if name in without:
            left_out[name] = "not asked for"
            continue
        try:
            job = base | {"kind": "ours", "engine": str(_engine(cell, name))} | least
        except Exception as error:  # its reason is part of the result
            left_out[name] = str(error)[:400]
            print(f"  {name}: {left_out[name]}", flush=True)
            continue
        found.append(Contender(name, job))
    return [item for item in found if item.name not in without], left_out


def _product(side: int, precision: str) -> dict[str, Any]:
    from dinorad_rt.machine import usable_cores

    return {
        "kind": "product",
        "side": side,
        "precision": precision,
        "batch": 1,
        "threads": usable_cores(),
    }


def _graph(cell: CellKey, precision: str) -> Graph:
    from dinorad_rt.pipeline import EngineRequest, dataset_for, graph_for

    request = EngineRequest(
        model=cell.model,
        weights="random",
        image_size=cell.size,
        precision=precision,  # type: ignore[arg-type]
    )
    images = dataset_for(None) if precision == "int8" else None
    return graph_for(request, calibration=images)


def _engine(cell: CellKey, name: str) -> Path:
    from dinorad_rt.benchmarking.cell import Cell
    from dinorad_rt.benchmarking.sweep import profile_of
    from dinorad_rt.engines.build import get_or_build

    _, backend, precision = name.split()
    mode = "latency" if cell.latency else "throughput"
    profile = profile_of(
        Cell(cell.model, backend, precision, cell.size, cell.batch, mode, "")  # type: ignore[arg-type]
    )
    start = time.perf_counter()
    engine = get_or_build(_graph(cell, precision), backend=backend, profile=profile)
    print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
    return engine.folder


def _row(
    cell: CellKey, rates: Mapping[str, list[float]], left_out: dict[str, str]
) -> dict[str, Any]:
    from dinorad_rt.benchmarking.work import multiply_adds

    gflop = 2 * multiply_adds(_graph(cell, "fp32").path) / 1e9
    medians = {name: statistics.median(values) for name, values in rates.items()}
    products = {f"product {side}": 2 * side**3 / 1e12 for side in SIDES}
    tflops = {name: medians[name] * work for name, work in products.items() if name in medians}
    fp32 = medians.pop(FP32_PRODUCT, 0.0) * 2 * FP32_SIDE**3 / 1e12
    engines = {name: rate for name, rate in medians.items() if name not in products}
    ours = max((name for name in OURS if name in engines), key=lambda name: engines[name])
    others = [name for name in engines if name not in (*OURS, INT8)]
    best = max(others, key=lambda name: engines[name])
    ceiling = max(tflops.values())
    ratios = {
        "best_of_others": median_of_ratios(rates[ours], rates[best]),
        "of_ceiling": engines[ours] * gflop / 1e3 / ceiling,
        "onnxruntime_fp32": median_of_ratios(rates[ours], rates[ORT]) if ORT in rates else None,
        "int8": median_of_ratios(rates[INT8], rates[ours]) if INT8 in rates else None,
    }
    return {
        "cell": cell.name,
        "mode": "latency" if cell.latency else "throughput",
        "gflop_per_image": gflop,
        "ours": ours,
        "best_of_others": best,
        "ratios": ratios,
        "ceiling_tflops": ceiling,
        "fp32_ceiling_tflops": fp32,
        "images_per_s": dict(sorted(engines.items(), key=lambda item: -item[1])),
        "rounds": {name: [round(value, 3) for value in values] for name, values in rates.items()},
        "left_out": left_out,
        "load_average": os.getloadavg()[0],
    }


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    ratios = row["ratios"]
    return {
        "cell": row["cell"],
        "ours": row["ours"],
        "images/s": row["images_per_s"][row["ours"]],
        "best of others": row["best_of_others"],
        "ratio": ratios["best_of_others"],
        "of ceiling": ratios["of_ceiling"],
        "x ORT FP32": ratios["onnxruntime_fp32"] or "-",
        "product / FP32's": row["ceiling_tflops"] / (row.get("fp32_ceiling_tflops") or 1e9),
        "INT8 x": ratios["int8"] or "-",
    }


if __name__ == "__main__":
    main()
