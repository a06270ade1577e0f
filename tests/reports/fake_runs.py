"""Runs made by the real protocol from invented embeddings, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.protocols.knn import KNNSettings, evaluate_knn
from dinorad_rt.reports.results import Results
from dinorad_rt.types import Task

NAMES = ("normal", "nodule <br>", "mass & more")


def fake_results(
    model: str = "vits14",
    *,
    task: Task = "binary",
    dataset: str = "toy",
    strength: float = 1.0,
    weights: str = "file",
    engine_key: str = "k" * 64,
    test: int = 40,
    ks: tuple[int, ...] = (3, 7),
    class_names: tuple[str, ...] = NAMES,
) -> Results:
    """kNN on points around one centre per class; `strength` is how far apart they are."""
    random = np.random.default_rng(len(model))
    count = 100 + test
    classes = 2 if task == "binary" else 3
    labels = np.arange(count) % classes
    points = random.standard_normal((count, 1, 6))
    points[:, 0, :classes] += strength * np.eye(classes)[labels]
    if task == "multilabel":
        labels = np.stack([labels == c for c in range(classes)], axis=1).astype(np.int64)
        labels[::7, 0] = 1
    names = np.array([f"s{i}" for i in range(count)], dtype=object)
    patients = np.array([f"p{i // 2}" for i in range(count)], dtype=object)
    split = np.array(["train"] * 70 + ["val"] * 30 + ["test"] * test)
    table = EmbeddingTable(names, patients, split, labels, points.astype(np.float32))
    provenance = {
        "engine": {
            "model": model,
            "key": engine_key,
            "weights_kind": weights,
            "weights": {"kind": weights, "sha256": "a" * 64, "source": "model.safetensors"},
            "graph_sha256": "b" * 64,
            "backend": "openvino",
            "backend_version": "2026.1",
            "precision": "fp32",
            "batch": 8,
        },
        "preprocessing": {"preset": "dinorad", "image_size": 224},
        "dataset": {"name": dataset, "fingerprint": f"{dataset}-f", "split_hash": f"{test}-s"},
        "versions": {"dinorad-rt": "0.1.0"},
        "machine": {"cpu": {"model": "invented"}},
        "evaluation": {"seed": 0},
    }
    return evaluate_knn(
        *(table.take(split == name) for name in ("train", "val", "test")),
        DatasetInfo(dataset, task, class_names[:classes]),
        KNNSettings(ks=ks, resamples=50),
        provenance=provenance,
    )


def fake_run(folder: Path, model: str = "vits14", **choices: object) -> Path:
    """The same, written."""
    fake_results(model, **choices).write(folder)  # type: ignore[arg-type]
    return folder


def fake_bench(engine_key: str, *, ms: float = 20.0, joules: float = 0.5) -> dict[str, object]:
    """A bench.json of one engine in both modes."""
    runs = [{"joules_per_image": {"package": joules}}]
    shared = {"model": "vits14", "batch": 8, "engine_key": engine_key, "runs": runs}
    return {
        "schema": 1,
        "kind": "bench",
        "rows": [
            {**shared, "mode": "latency", "latency_ms": {"p50": 8 * ms}, "images_per_s": 1},
            {**shared, "mode": "throughput", "images_per_s": 1000 / ms},
        ],
    }
