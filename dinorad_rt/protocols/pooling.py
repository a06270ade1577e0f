"""Slices of a volume become one embedding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dinorad_rt.embeddings.table import EmbeddingTable


def pool_slices(table: EmbeddingTable) -> EmbeddingTable:
    """One row per sample: the mean of its slices' embeddings, as the study does for volumes.

    A table without volumes is given back as it is. The order is that of first appearance.

    Args:
        table: rows of a store; the slices of a volume share their sample id.
    """
    _, first, index = np.unique(table.sample_ids, return_index=True, return_inverse=True)
    if len(first) == len(table):
        return table
    order = np.argsort(first)
    pooled = table.take(first[order])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    index = place[index]
    mean = None
    if table.patch_mean is not None:
        mean = _means(table.patch_mean, index, len(first))
    cls = _means(table.cls, index, len(first))
    return replace(pooled, cls=cls, patch_mean=mean, slices=None)


def _means(values: np.ndarray, index: np.ndarray, groups: int) -> np.ndarray:
    sums = np.zeros((groups, *values.shape[1:]), np.float64)
    np.add.at(sums, index, values)
    counts = np.bincount(index, minlength=groups).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((sums / counts).astype(values.dtype))
