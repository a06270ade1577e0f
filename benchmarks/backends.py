"""Every backend on real images: predictions against scikit-learn, AUROC across backends.

    python -m benchmarks.backends --data DIR [DIR ...] --model NAME --weights FILE

For each folder and each backend that runs here, `dinorad-rt eval --protocol knn` is run in FP32.
Then scikit-learn finds brute-force cosine neighbours of the PyTorch backend's class tokens, the
same soft vote is taken in plain NumPy, and predictions and AUROC are compared. Bars: identical
predictions; AUROC within 0.005 between backends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import save, table

Arrays = dict[str, np.ndarray]


def main() -> None:
    """Run and compare; exits with 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--model", default="deit_tiny_patch16_224")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--k", type=int, nargs="+", default=[5, 10, 20])
    arguments = parser.parse_args()
    rows = [row for data in arguments.data for row in _one_dataset(arguments, data)]
    table(rows)
    save("backends", {"model": arguments.model, "precision": "fp32", "rows": rows})
    missed = [r for r in rows if not r["identical"] or r["auroc_spread"] > 0.005]
    if missed:
        raise SystemExit(f"bar missed: {missed}")


def _one_dataset(arguments: argparse.Namespace, data: Path) -> list[dict[str, Any]]:
    from dinorad_rt.runners.registry import list_backends

    backends = [row.backend for row in list_backends() if row.can_run]
    runs = {backend: _eval(arguments, data, backend) for backend in backends}
    features = _features(arguments, data)
    rows = []
    for k in arguments.k:
        truth = _scikit_learn(features, k)
        aurocs = {name: _auroc(run, k) for name, run in runs.items()}
        for name, run in runs.items():
            scores = _scores(run, k)
            rows.append(
                {
                    "data": data.name,
                    "backend": name,
                    "k": k,
                    "n": len(scores),
                    "identical": bool((scores.argmax(1) == truth.argmax(1)).all()),
                    "largest_score_difference": float(np.abs(scores - truth).max()),
                    "auroc": aurocs[name],
                    "auroc_spread": max(aurocs.values()) - min(aurocs.values()),
                }
            )
    return rows


def _eval(arguments: argparse.Namespace, data: Path, backend: str) -> Path:
    out = Path(tempfile.mkdtemp()) / backend
    words = ["eval", "--protocol", "knn", "--model", arguments.model]
    words += ["--weights", arguments.weights, "--data", str(data), "--backend", backend]
    words += ["--precision", "fp32", "--k", ",".join(map(str, arguments.k)), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "dinorad_rt", *words], check=True, capture_output=True)
    return out


def _auroc(run: Path, k: int) -> float:
    from dinorad_rt.reports.results import Results

    return float(Results.open(run).metric("auroc", k=k).value)


def _scores(run: Path, k: int) -> np.ndarray:
    import pyarrow.parquet as pq

    rows = [r for r in pq.read_table(run / "predictions.parquet").to_pylist() if r["k"] == k]
    return np.asarray([row["scores"] for row in sorted(rows, key=lambda r: r["sample_id"])])


def _features(arguments: argparse.Namespace, data: Path) -> Arrays:
    import dinorad_rt as dr

    engine = dr.build_engine(
        arguments.model, weights=arguments.weights, backend="pytorch", precision="fp32"
    )
    store = dr.embed(dr.open_dataset(data), engine)
    reference, queries = store.load("train", "val"), store.load("test")
    order = np.argsort(queries.sample_ids)
    return {
        "reference": reference.cls[:, -1],
        "labels": np.asarray(reference.labels),
        "queries": queries.cls[order, -1],
    }


def _scikit_learn(features: Arrays, k: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute")
    distances, indices = finder.fit(features["reference"]).kneighbors(features["queries"])
    votes = np.exp((1 - distances) / 0.07)
    votes /= votes.sum(axis=1, keepdims=True)
    labels = features["labels"]
    hot = labels if labels.ndim == 2 else np.eye(labels.max() + 1)[labels]
    return np.asarray((votes[:, :, None] * hot[indices]).sum(axis=1))


if __name__ == "__main__":
    main()
