"""From files to stored embeddings: the loader alone, and the whole of `embed`."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.benchmarking.energy import measure_energy
from dinorad_rt.errors import EngineError

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.engines.manifest import Engine

MOST = 20_000
"""Files of one measurement at most; each file is read again and again to get there."""


def measure_end_to_end(engine: Engine, data: Path | None, seconds: float) -> dict[str, Any]:
    """Measure the loader without an engine, then `embed` into a store that is thrown away.

    Args:
        engine: in the cache.
        data: folder or CSV of images; None for the embedded phantoms.
        seconds: about as long each of the two runs.

    Returns:
        `loader_per_s`: images decoded and preprocessed per second. `images_per_s`: of the whole,
        without loading the engine. `images`: measured. `files`: what they are, such as "DICOM".
        `joules_per_image`, `energy_note`: of the whole, loading the engine included.

    Raises:
        DinoradError: the data or the engine cannot be used.
    """
    from dinorad_rt.pipeline import dataset_for

    dataset = dataset_for(data)
    least = 2 * engine.batch
    rehearsal = _embed(_repeated(dataset, least), engine)
    count = min(MOST, max(least, round(rehearsal[0] / rehearsal[1] * seconds)))
    work = _repeated(dataset, count)
    loader_images, loader_s = _load_only(work, engine)
    with measure_energy() as energy:
        images, embed_s = _embed(work, engine)
    return {
        "loader_per_s": loader_images / loader_s,
        "images_per_s": images / embed_s,
        "images": images,
        "files": _kind(dataset),
        **energy.facts(images),
    }


def _embed(dataset: Dataset, engine: Engine) -> tuple[int, float]:
    from dinorad_rt.pipeline import embed

    with tempfile.TemporaryDirectory(prefix="dinorad-rt-bench-") as folder:
        store = embed(dataset, engine, out=Path(folder) / "store")
        if store.throughput is None:
            raise EngineError("Nothing was embedded.", "Check --data.")
        return sum(len(store.load(s).cls) for s in _splits(dataset)), store.throughput.seconds


def _splits(dataset: Dataset) -> list[Any]:
    return sorted({sample.split for sample in dataset.samples})


def _load_only(dataset: Dataset, engine: Engine) -> tuple[int, float]:
    from dinorad_rt.embeddings.loader import load_batches
    from dinorad_rt.pipeline import preprocessing_for

    start = time.perf_counter()
    batches = load_batches(dataset.samples, preprocessing_for(engine), batch=engine.batch)
    images = sum(len(batch.pixels) for batch in batches)
    return images, time.perf_counter() - start


def _repeated(dataset: Dataset, count: int) -> Dataset:
    """The first `count` samples, over and over if there are fewer, each with a name of its own."""
    samples = tuple(
        replace(dataset.samples[i % len(dataset.samples)], sample_id=f"bench-{i:06d}")
        for i in range(count)
    )
    return replace(dataset, samples=samples, fingerprint=f"{dataset.fingerprint}-bench-{count}")


def _kind(dataset: Dataset) -> str:
    suffix = dataset.samples[0].path.suffix.lower().removeprefix(".") or "files"
    return {"dcm": "DICOM", "gz": "NIfTI", "nii": "NIfTI"}.get(suffix, suffix.upper())
