"""Pooling against pandas-free arithmetic done by hand."""

from __future__ import annotations

import numpy as np

from dinorad_rt.embeddings.table import EmbeddingTable
from dinorad_rt.protocols.pooling import pool_slices


def table(names: list[str]) -> EmbeddingTable:
    """A table whose embeddings are their row numbers."""
    rows = np.arange(len(names), dtype=np.float32)
    ids = np.array(names, dtype=object)
    labels = np.array([ord(name[0]) for name in names])
    cls = rows[:, None, None] * np.ones((1, 2, 3), np.float32)
    return EmbeddingTable(ids, ids, ids, labels, cls, rows[:, None], np.arange(len(names)))


def test_slices_become_their_mean_in_order_of_first_appearance() -> None:
    pooled = pool_slices(table(["z", "a", "z", "z", "a"]))
    assert pooled.sample_ids.tolist() == ["z", "a"]
    assert pooled.labels.tolist() == [ord("z"), ord("a")]
    np.testing.assert_allclose(pooled.cls[:, 0, 0], [(0 + 2 + 3) / 3, (1 + 4) / 2])
    assert pooled.patch_mean is not None
    np.testing.assert_allclose(pooled.patch_mean[:, 0], [5 / 3, 2.5])


def test_single_images_stay_as_they_are() -> None:
    single = table(["b", "a"])
    assert pool_slices(single) is single
