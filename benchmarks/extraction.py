"""End-to-end extraction from image files against the bare engine, in one run.

    python -m benchmarks.extraction --data DIR [--models vits14 vitb14] [--repeat 4]

bare engine   the runner fed with batches that are already in memory
loader only   reading, decoding and preprocessing without an engine
end to end    `embed` into a fresh store: reading, decoding, preprocessing, engine, Parquet

The three are timed in turns. Bar: end to end at least 0.9 of the bare engine.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import matmul_ceiling, peak_rss_mb, save, table


def main() -> None:
    """Measure each model in three rounds and report the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["vits14", "vitb14"])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--repeat", type=int, default=4, help="times each image is embedded")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = [_one_model(arguments, model) for model in arguments.models]
    table(rows)
    save("extraction", {"bar": 0.9, "weights": "random", "rows": rows})


def _one_model(arguments: argparse.Namespace, model: str) -> dict[str, Any]:
    import dinorad_rt as dr

    engine = dr.build_engine(
        model,
        weights="random",
        backend=arguments.backend,
        precision=arguments.precision,
        profile=arguments.profile,
        say=print,
    )
    dataset = _repeated(dr.open_dataset(arguments.data), arguments.repeat)
    total = len(dataset.samples)
    with dr.open_runner(engine) as runner:
        batch = np.zeros((runner.batch, *engine.input_shape), np.float32)
        list(runner.infer_stream(itertools.repeat(batch, 4)))
        bare, whole, loader = [], [], []
        for _ in range(arguments.rounds):
            bare.append(_rate(total, lambda: _drain(runner, batch, total)))
            loader.append(_rate(total, lambda: _load_only(dataset, engine)))
            with tempfile.TemporaryDirectory() as store:
                whole.append(
                    _rate(total, lambda: dr.embed(dataset, engine, out=Path(store) / "store"))
                )
    return {
        "model": model,
        "backend": engine.backend,
        "precision": engine.precision,
        "images": total,
        "bare_per_s": float(np.median(bare)),
        "loader_per_s": float(np.median(loader)),
        "end_to_end_per_s": float(np.median(whole)),
        "ratio": float(np.median(np.divide(whole, bare))),
        "matmul_tflops_fp32": matmul_ceiling("float32"),
        "peak_rss_mb": peak_rss_mb(),
    }


def _rate(images: int, run: Any) -> float:
    start = time.perf_counter()
    run()
    return images / (time.perf_counter() - start)


def _drain(runner: Any, batch: np.ndarray, total: int) -> None:
    for _ in runner.infer_stream(itertools.repeat(batch, -(-total // len(batch)))):
        pass


def _load_only(dataset: Any, engine: Any) -> None:
    from dinorad_rt.embeddings.loader import load_batches
    from dinorad_rt.pipeline import preprocessing_for

    for _ in load_batches(dataset.samples, preprocessing_for(engine), batch=engine.batch):
        pass


def _repeated(dataset: Any, times: int) -> Any:
    samples = tuple(
        replace(sample, sample_id=f"{sample.sample_id}-{index}")
        for index in range(times)
        for sample in dataset.samples
    )
    return replace(dataset, samples=samples, fingerprint=f"{dataset.fingerprint}-x{times}")


if __name__ == "__main__":
    main()
