"""The summary of `study_real.toml`: one row per run, from the results of the study.

python -m benchmarks.study_real runs/study_real
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.harness import save, table
from dinorad_rt.files import read_json
from dinorad_rt.reports.material import read_material
from dinorad_rt.reports.runs import Run

METRICS = ("auroc", "average_precision", "balanced_accuracy", "brier", "calibration_error")


def row_of(run: Run, dataset: str) -> dict[str, Any]:
    """The setting that counts of one run, with the values that people compare."""
    row: dict[str, Any] = {
        "dataset": dataset,
        "run": run.label,
        "protocol": run.results.protocol,
        "preset": run.results.preset,
        "preprocessing": (run.results.provenance.get("preprocessing") or {}).get("preset"),
        "setting": run.setting,
        "weights": run.results.weights_kind,
        "weights_sha256": str((run.engine.get("weights") or {}).get("sha256"))[:12],
        "engine_key": str(run.engine.get("key"))[:12],
    }
    for name in METRICS:
        value = run.headline(name)
        if value is not None:
            ends = (value.value, value.ci_low, value.ci_high)
            row[name] = [None if end is None else round(end, 5) for end in ends]
    first = run.headline() or run.results.metrics[0]
    return row | {"images": first.n, "patients": first.n_patients, "seeds": len(first.values)}


def main() -> None:
    """Read the study's folder and write `results/study_real.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="folder that eval --study wrote")
    folder = parser.parse_args().study
    material = read_material([folder])
    rows = [row_of(run, group.name) for group in material.test_sets for run in group.runs]
    state = read_json(folder / "study.json")
    failed = {cell["cell"]: cell["why"] for cell in state["cells"] if cell["state"] != "done"}
    save("study_real", {"study": "benchmarks/study_real.toml", "failed": failed, "rows": rows})
    table([{k: r[k] for k in ("dataset", "run", "protocol", "preset", "auroc")} for r in rows])
    print(f"{len(rows)} runs, {len(failed)} not done")


if __name__ == "__main__":
    main()
