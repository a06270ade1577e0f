"""Every registered backbone × precision × GPU generation through TensorRT-RTX, without a GPU.

    python -m benchmarks.rtx_matrix [--minutes 25] [--only NAME ...] [--precision fp16 ...]

Random weights, batch 8. Each graph is written and linted (its parity is `benchmarks.export_all`'s
affair), then compiled for each target alone: seconds, bytes, and the proof of precision from the
types of the parsed network. Rows are stored as they come; a second start goes on. Backbones that
differ in weights only share one graph and one row. SM75 takes FP16 matrix products only: there the
refusal before the build is what is recorded.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import last_words, load, run_python, save, table

if TYPE_CHECKING:
    from dinorad_rt.backbones.spec import BackboneSpec
    from dinorad_rt.export.manifest import Graph

NAME = "rtx_matrix"
PRECISIONS = ("fp16", "bf16", "fp32")
BATCH = 8
WORKER = """
import json
from benchmarks.rtx_matrix import compile_all
print(json.dumps(compile_all({name!r}, {precision!r})))
"""


def main() -> None:
    """Compile what is not stored yet, smallest first, until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--only", nargs="+", help="names; default: all")
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    left = []
    for names in graphs(arguments.only):
        for precision in arguments.precision:
            rows = _stored()
            if "targets" in rows.get((names[0], precision), {}):
                continue
            if time.monotonic() > end:
                left.append(f"{names[0]} {precision}")
                continue
            row = _one(names, precision)
            rows[names[0], precision] = row
            save(NAME, {"weights": "random", "batch": BATCH, "rows": list(rows.values())})
    table([_short(row) for row in _stored().values()])
    if left:
        print(f"not run, the time is over: {', '.join(left)}")


def graphs(only: list[str] | None) -> list[list[str]]:
    """Names of backbones that share a graph, those with the least arithmetic first."""
    from dinorad_rt.backbones.registry import get_spec, list_specs

    specs = [get_spec(name) for name in only] if only else list(list_specs())
    groups: dict[tuple[object, ...], list[BackboneSpec]] = {}
    for spec in specs:
        key = (spec.architecture, spec.create, spec.image_size, spec.family)
        groups.setdefault(key, []).append(spec)

    def work(group: list[BackboneSpec]) -> float:
        spec = group[0]
        side = spec.image_size / (spec.patch or 32)
        return float(spec.dim**2 * side**2 * (0.1 if spec.patch is None else 1.0))

    return [[spec.name for spec in group] for group in sorted(groups.values(), key=work)]


def compile_all(name: str, precision: str) -> dict[str, Any]:
    """Write one graph and compile it for every target: runs in a process of its own."""
    import resource

    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.errors import DinoradError
    from dinorad_rt.runners.tensorrt import TensorRTBackend
    from dinorad_rt.runners.tensorrt_flavour import RTX

    backend = TensorRTBackend(RTX)
    targets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        graph = _graph(name, precision, Path(folder) / "graph")
        graph_s = time.perf_counter() - start
        for target in RTX.targets:
            out = Path(folder) / target
            out.mkdir()
            start = time.perf_counter()
            try:
                plan = backend.plan_for(
                    graph, Profile("matrix", batch=BATCH), target, {"cross_built": True}
                )
                proof = backend.build(graph, plan, out)
            except DinoradError as error:
                targets[target] = {"refused": error.problem}
                continue
            targets[target] = {
                "seconds": time.perf_counter() - start,
                "bytes": sum(file.stat().st_size for file in out.iterdir()),
                "proof": proof,
            }
            for file in out.iterdir():
                file.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"graph_s": graph_s, "peak_mb": peak, "targets": targets}


def _graph(name: str, precision: str, folder: Path) -> Graph:
    """A graph folder without its parity check: traced, typed, linted, written."""
    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.export.manifest import MODEL, write_manifest
    from dinorad_rt.export.onnx_export import write_onnx
    from dinorad_rt.export.program import export_program
    from dinorad_rt.export.recipe import load_recipe

    backbone = load_backbone(name, weights="random")
    recipe = load_recipe(backbone.spec.family)
    program = export_program(backbone, precision=precision)  # type: ignore[arg-type]
    folder.mkdir()
    names = recipe.output_names(dense=False)
    write_onnx(program, folder / MODEL, recipe, recipe.typing(precision, ()), names)  # type: ignore[arg-type]
    facts = {
        "model": name,
        "precision": precision,
        "input_shape": [3, backbone.image_size, backbone.image_size],
        "weights_kind": "random",
    }
    return write_manifest(folder, facts)


def _one(names: list[str], precision: str) -> dict[str, Any]:
    print(f"{names[0]} {precision} ...", flush=True)
    row = {"model": names[0], "same_graph": names[1:], "precision": precision}
    load_before = os.getloadavg()[0]
    try:
        found = run_python(WORKER.format(name=names[0], precision=precision))
    except RuntimeError as error:
        return row | {"error": last_words(error)}
    row |= found | {"load_average_before": load_before}
    print("  " + "  ".join(f"{k} {v}" for k, v in _cells(row).items()), flush=True)
    return row


def _stored() -> dict[tuple[str, str], dict[str, Any]]:
    rows = load(NAME).get("rows", ())
    return {(str(row["model"]), str(row["precision"])): row for row in rows}


def _cells(row: dict[str, Any]) -> dict[str, str]:
    def text(cell: dict[str, Any]) -> str:
        if "refused" in cell:
            return "refused"
        return f"{cell['seconds']:.1f} s, {cell['bytes'] / 2**20:.0f} MiB"

    return {target: text(cell) for target, cell in row.get("targets", {}).items()}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    from dinorad_rt.runners.tensorrt_flavour import RTX

    built = [cell for cell in row.get("targets", {}).values() if "proof" in cell]
    products = built[0]["proof"]["matrix_products"] if built else row.get("error", "-")[-60:]
    cells = dict.fromkeys(RTX.targets, "-") | _cells(row)
    return {
        "model": row["model"] + ("" if not row["same_graph"] else f" +{len(row['same_graph'])}"),
        "precision": row["precision"],
        "graph s": row.get("graph_s", "-"),
        **cells,
        "matrix products": str(products),
    }


if __name__ == "__main__":
    main()
