"""Little datasets in every layout that users have."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImages = Callable[..., None]
WriteTable = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(cache: Path) -> Path:
    """Every test has its own key of pseudonyms."""
    return cache


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """Write small PNG images at the given relative paths, each with content of its own."""

    def write(*names: str, root: Path = tmp_path) -> None:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = list(name.encode())
            pixels = np.random.default_rng(seed).integers(0, 256, (4, 4), np.uint8)
            Image.fromarray(pixels).save(path, format="PNG")

    return write


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Write a CSV of a header line and rows."""

    def write(header: str, rows: Sequence[Sequence[object]], name: str = "labels.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            writer.writerows(rows)
        return path

    return write
