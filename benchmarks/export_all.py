"""Export every registered backbone with random weights: parity, time, peak memory.

    python -m benchmarks.export_all                 every backbone up to ViT-L
    python -m benchmarks.export_all --only vitg14   one or several by name
    python -m benchmarks.export_all --huge          the ones above ViT-L, and ViT-L at 1024 px

Each export runs in a fresh process, so that the peak memory is its own, in a cache of its own that
is deleted afterwards. Every finished row is stored at once; a second start goes on where the first
one ended. `--again` measures anew.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import TYPE_CHECKING, Any

from benchmarks.harness import last_words, load, run_python, save, table

if TYPE_CHECKING:
    from dinorad_rt.backbones.spec import BackboneSpec

NAME = "export_all"
WORKER = """
import json, resource, time
start = time.perf_counter()
from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.export.onnx_export import export_onnx
backbone = load_backbone({name!r}, weights="random")
loaded = time.perf_counter()
graph = export_onnx(backbone, precision={precision!r})
done = time.perf_counter()
size = sum(f.stat().st_size for f in graph.folder.glob("model.onnx*"))
print(json.dumps({{
    "model": {name!r},
    "precision": {precision!r},
    "million_parameters": sum(p.numel() for p in backbone.module.parameters()) / 1e6,
    "image_size": backbone.image_size,
    "load_s": loaded - start,
    "export_s": done - loaded,
    "onnx_mb": size / 1e6,
    "external_data": any(graph.folder.glob("model.onnx.data")),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    "parity": graph.manifest["parity"],
}}))
"""


def main() -> None:
    """Run the exports one after another and print a table."""
    from dinorad_rt.backbones.registry import get_spec, list_specs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="names; default: all up to ViT-L")
    parser.add_argument("--huge", action="store_true", help="those above ViT-L instead")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--again", action="store_true", help="measure what is stored already")
    arguments = parser.parse_args()
    chosen = (
        [get_spec(name) for name in arguments.only]
        if arguments.only
        else [spec for spec in list_specs() if is_huge(spec) == arguments.huge]
    )
    for spec in sorted(chosen, key=lambda spec: (spec.dim, spec.image_size, spec.name)):
        rows = {_key(row): row for row in load(NAME).get("rows", ())}
        stored = rows.get((spec.name, arguments.precision), {"error": "not run"})
        if arguments.again or "error" in stored:
            row = _export(spec.name, arguments.precision)
            save(NAME, {"weights": "random", "rows": list((rows | {_key(row): row}).values())})
    rows = {_key(row): row for row in load(NAME).get("rows", ())}
    shown = [rows[spec.name, arguments.precision] for spec in chosen]
    table([_short(row) for row in shown])
    failed = [row["model"] for row in shown if "error" in row]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def is_huge(spec: BackboneSpec) -> bool:
    """Whether a backbone is above ViT-L at its usual sizes: such ones are run once."""
    large = (spec.dim, spec.image_size) >= (1024, 512)
    return spec.patch is not None and large


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return str(row["model"]), str(row["precision"])


def _export(name: str, precision: str) -> dict[str, Any]:
    print(f"{name} ...", flush=True)
    code = WORKER.format(name=name, precision=precision)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as cache:
        try:
            row = run_python(code, DINORAD_RT_CACHE=cache)
        except RuntimeError as error:
            return {"model": name, "precision": precision, "error": last_words(error)}
    print(f"  {row['export_s']:.0f} s, peak {row['peak_mb']:.0f} MB", flush=True)
    return row | {
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load_average_before": load_before,
    }


def _short(row: dict[str, Any]) -> dict[str, Any]:
    keys = ("model", "million_parameters", "image_size", "load_s", "export_s", "onnx_mb", "peak_mb")
    short = {key: row.get(key, "-") for key in keys}
    if "error" in row:
        return short | {"worst cosine": "failed", "relative L2": "failed"}
    outputs = row["parity"]["graph"].values()
    return short | {
        "worst cosine": f"{min(each['cosine_min'] for each in outputs):.7f}",
        "relative L2": f"{max(each['relative_l2_max'] for each in outputs):.1e}",
    }


if __name__ == "__main__":
    main()
