"""Second implementations that the protocols are compared with, and data for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.embeddings.table import EmbeddingTable

LITERAL = Path(__file__).with_name("literal_mlknn.py")


@pytest.fixture(scope="session")
def literal_mlknn() -> Callable[..., np.ndarray]:
    """ML-kNN in plain loops."""
    spec = importlib.util.spec_from_file_location("literal_mlknn", LITERAL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.literal_mlknn


@pytest.fixture(scope="session")
def make_table() -> Callable[..., EmbeddingTable]:
    """Embeddings around one centre per class (or label), four blocks and a patch mean."""

    def make(
        labels: np.ndarray,
        split: str,
        *,
        per_patient: int = 2,
        dim: int = 12,
        blocks: int = 4,
        patch_mean: bool = True,
        slices: int = 1,
        seed: int = 0,
        strength: float = 1.0,
    ) -> EmbeddingTable:
        random = np.random.default_rng([seed, len(labels)])
        hot = labels if labels.ndim == 2 else labels[:, None] == np.arange(labels.max() + 1)
        centres = np.random.default_rng(7).standard_normal((hot.shape[1], dim))
        rows = np.repeat(np.arange(len(labels)), slices)
        points = strength * (hot @ centres)[rows]
        cls = np.stack(
            [points * b + random.standard_normal((len(rows), dim)) for b in range(1, blocks + 1)],
            axis=1,
        )
        names = np.array([f"{split}{i}" for i in range(len(labels))], dtype=object)
        patients = np.array([f"{split}-p{i // per_patient}" for i in range(len(labels))], object)
        mean = (points + random.standard_normal((len(rows), dim))).astype(np.float32)
        return EmbeddingTable(
            names[rows],
            patients[rows],
            np.full(len(rows), split),
            labels[rows].astype(np.int64),
            cls.astype(np.float32),
            mean if patch_mean else None,
            np.tile(np.arange(slices), len(labels)) if slices > 1 else None,
        )

    return make
