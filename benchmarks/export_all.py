"""Export every registered backbone with random weights: parity, time, peak memory.

    python -m benchmarks.export_all                 every backbone up to ViT-L
    python -m benchmarks.export_all --only vitg14   one or several by name
    python -m benchmarks.export_all --huge          the ones above ViT-L as well

Each export runs in a fresh process, so that the peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

from benchmarks.harness import RESULTS, run_python, save, table

WORKER = """
import json, resource, sys, time
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
    "million": sum(p.numel() for p in backbone.module.parameters()) / 1e6,
    "image_size": backbone.image_size,
    "load_s": loaded - start,
    "export_s": done - loaded,
    "onnx_mb": size / 1e6,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    "parity": graph.manifest["parity"],
}}))
"""


def main() -> None:
    """Run the exports one after another and print a table."""
    from dinorad_rt.backbones.registry import list_specs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names; default: all up to ViT-L")
    parser.add_argument("--huge", action="store_true", help="also those above ViT-L")
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args()
    huge = {spec.name for spec in list_specs() if spec.dim > 1024 and spec.patch is not None}
    names = arguments.only or [
        spec.name for spec in list_specs() if arguments.huge or spec.name not in huge
    ]
    rows = [_export(name, arguments.precision) for name in names]
    table([_short(row) for row in rows])
    suffix = "" if arguments.only is None else "_" + "_".join(names)
    save(
        f"export_all{suffix}", {"weights": "random", "precision": arguments.precision, "rows": rows}
    )
    failed = [row["model"] for row in rows if "error" in row]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _export(name: str, precision: str) -> dict[str, Any]:
    print(f"{name} ...", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        try:
            row = run_python(WORKER.format(name=name, precision=precision), DINORAD_RT_CACHE=cache)
        except RuntimeError as error:
            return {"model": name, "error": str(error)[-600:]}
    print(f"  {row['export_s']:.0f} s, peak {row['peak_mb']:.0f} MB", flush=True)
    return row


def _short(row: dict[str, Any]) -> dict[str, Any]:
    keys = ("model", "million", "image_size", "load_s", "export_s", "onnx_mb", "peak_mb")
    short = {key: row.get(key, "-") for key in keys}
    return short | {"parity": "failed" if "error" in row else json.dumps(row["parity"])[:60]}


if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    main()
