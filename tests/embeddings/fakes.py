"""A stand-in for engine and runner, shared by the tests and by the process that they kill."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.files import sha256_json
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.runners.base import AbstractRunner, Rows, pad_rows

SIZE, BLOCKS, DIM = 16, 2, 4
SPEC = PreprocessSpec(image_size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def fake_engine(key: str = "engine-a", *, batch: int = 4, patches: bool = True) -> Engine:
    outputs: dict[str, list[int]] = {"cls": [BLOCKS, DIM]}
    if patches:
        outputs["patch_mean"] = [DIM]
    manifest: dict[str, Any] = {
        "key": key,
        "model": "tiny",
        "weights": {"sha256": "0" * 64},
        "weights_kind": "random",
        "precision": "fp32",
        "backend": "fake",
        "backend_version": "1",
        "batch": batch,
        "input_shape": [3, SIZE, SIZE],
        "graph_sha256": "1" * 64,
        "outputs": outputs,
        "settings": {},
    }
    return Engine(Path("."), manifest)


def embedding_of(pixels: np.ndarray) -> Rows:
    """(rows, 3, size, size) → outputs that depend on the row alone, in float32 bit for bit."""
    flat = pixels.astype(np.float64).reshape(len(pixels), -1)
    ramp = np.linspace(0.0, 1.0, flat.shape[1])
    moments = np.stack([flat @ ramp**power for power in range(BLOCKS * DIM)], axis=1)
    cls = moments.reshape(-1, BLOCKS, DIM).astype(np.float32)
    return {"cls": cls, "patch_mean": flat.reshape(len(flat), DIM, -1).mean(2).astype(np.float32)}


class FakeRunner(AbstractRunner):
    """Pads like a static engine; counts rows; `poison` makes the embedding of bright images NaN."""

    backend = "fake"

    def __init__(self, engine: Engine, *, pause: float = 0.0, poison: bool = False) -> None:
        super().__init__(engine, look_ahead=3)
        self.pause, self.poison = pause, poison
        self.rows = self.calls = 0

    def _activate(self) -> None:
        pass

    def _release(self) -> None:
        pass

    def _submit(self, chunk: np.ndarray) -> np.ndarray:
        self.rows += len(chunk)
        self.calls += 1
        time.sleep(self.pause)
        return np.array(pad_rows(chunk, self.batch))

    def _collect(self, ticket: np.ndarray) -> Rows:
        found = {
            name: value for name, value in embedding_of(ticket).items() if name in self.outputs
        }
        if self.poison:
            found["cls"][ticket.mean(axis=(1, 2, 3)) > 1.9] = np.nan
        return found


def dataset_of(root: Path, samples: list[Sample], task: Any = "binary") -> Dataset:
    rows = [[s.path.name, s.frame, list(s.labels), s.patient, s.split] for s in samples]
    names = ("normal", "tumour") if task == "binary" else ("a", "b", "c")
    return Dataset(
        name="tiny",
        task=task,
        class_names=names,
        samples=tuple(samples),
        fingerprint=sha256_json(rows),
        split_hash=sha256_json([[row[0], row[4]] for row in rows]),
        notes=("made up",),
        root=root,
    )


def png_dataset(root: Path, count: int = 22, bad: tuple[int, ...] = ()) -> Dataset:
    """Grey PNGs of noise, each with another brightness; `bad` ones are no images."""
    import cv2

    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    samples = []
    for index in range(count):
        path = root / f"Doe^John-{index:03d}.png"
        pixels = rng.integers(0, 200, (24, 20)).astype(np.uint8) + np.uint8(2 * index % 56)
        if index in bad:
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no image" * index)
        else:
            cv2.imwrite(str(path), pixels)
        split: Any = ("train", "val", "test")[index % 3]
        ident = sha256_json(["sample", index])[:32]
        samples.append(Sample(ident, path, f"p{index // 2}", split, (index % 2,)))
    return dataset_of(root, samples)
