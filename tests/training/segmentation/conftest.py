"""Small volumes with masks on awkward axes, and jobs that train in a blink."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.training.settings import TrainSettings

SPLITS = ("train", "train", "train", "train", "val", "val", "test", "test")
CLASSES = ("background", "front", "back")
AFFINE = np.asarray([[0, 0, 2.0, -5], [-0.8, 0, 0, 7], [0, 0.9, 0, 3], [0, 0, 0, 1]])
"""Axes run to posterior, superior and right: nothing is where RAS has it."""


def blobs(seed: int, shape: tuple[int, int, int] = (34, 7, 28)) -> tuple[np.ndarray, np.ndarray]:
    """Two bright balls on noise, and their mask."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = np.zeros(shape, np.uint8)
    for label, middle in ((1, -0.45), (2, 0.45)):
        centre = np.asarray([middle, 0, 0]) + random.uniform(-0.1, 0.1, 3)
        away = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        mask[away < 0.16] = label
    image = 40 * random.random(shape) + np.asarray([0, 160, 90])[mask]
    return image.astype(np.float32), mask


def write_volumes(folder: Path, splits: tuple[str, ...] = SPLITS) -> Path:
    """images/, masks/ and labels.csv."""
    import nibabel as nib

    rows = ["image,mask,split"]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index, split in enumerate(splits):
        image, mask = blobs(index, (34 + index % 2, 7, 28))
        name = f"v{index}.nii.gz"
        nib.save(nib.Nifti1Image(image, AFFINE), folder / "images" / name)
        nib.save(nib.Nifti1Image(mask, AFFINE), folder / "masks" / name)
        rows.append(f"images/{name},masks/{name},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests here: the dense engine is built once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def cache(engine_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared cache, in place of one for each test."""
    monkeypatch.setenv("DINORAD_RT_CACHE", str(engine_cache))
    return engine_cache


@pytest.fixture
def volumes(tmp_path: Path, cache: Path) -> Dataset:
    """Eight volumes in three splits."""
    folder = write_volumes(tmp_path / "data")
    return open_dataset(folder, task="segmentation", class_names=CLASSES)


@pytest.fixture
def loop() -> Callable[..., TrainSettings]:
    """Settings of a short run."""

    def make(**changes: object) -> TrainSettings:
        values: dict[str, object] = {"epochs": 2, "batch_size": 8, "lr": 3e-3, "device": "cpu"}
        return TrainSettings(**(values | changes))  # type: ignore[arg-type]

    return make
