"""Slices of a volume become one embedding; samples of a patient, if patients are judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.embeddings.table import EmbeddingTable
from dinorad_rt.errors import ProtocolError

if TYPE_CHECKING:
    from dinorad_rt.protocols.settings import AbstractSettings

Reduction = Literal["mean", "max"]


def pool(table: EmbeddingTable, settings: AbstractSettings) -> EmbeddingTable:
    """The rows that a protocol judges: one per sample, or one per patient.

    With attention pooling, which is trained, the slices stay rows of their own.

    Raises:
        ProtocolError: a patient to be judged as one has samples with different labels.
    """
    if settings.unit == "patient":
        table = as_patients(table)
    if settings.pooling == "attention":
        return table
    return pool_slices(table, settings.pooling)


def as_patients(table: EmbeddingTable) -> EmbeddingTable:
    """All rows of a patient become slices of one sample, known by the patient's key.

    A patient of a multi-label task shows whatever one of the samples shows.

    Raises:
        ProtocolError: samples of one patient have different classes.
    """
    if not len(table):
        return table
    groups = by_appearance(table.patients.astype(str))
    names, index = groups.keys, groups.index
    labels = table.labels
    if labels.ndim == 2:
        merged = np.zeros((len(names), labels.shape[1]), labels.dtype)
        np.maximum.at(merged, index, labels)
        labels = merged[index]
    else:
        low, high = np.full(len(names), labels.max()), np.full(len(names), labels.min())
        np.minimum.at(low, index, labels)
        np.maximum.at(high, index, labels)
        mixed = np.flatnonzero(low != high)
        if len(mixed):
            raise ProtocolError(
                f"{len(mixed)} of {len(names)} patients have images of different classes, such as "
                f"{names[mixed[0]]}: a patient cannot be judged as one.",
                "Judge images: --set unit=sample",
            )
    return replace(table, sample_ids=table.patients, labels=labels)


def pool_slices(table: EmbeddingTable, reduction: Reduction = "mean") -> EmbeddingTable:
    """One row per sample: the mean of its slices' embeddings, as the study does for volumes.

    A table without volumes is given back as it is. The order is that of first appearance.

    Args:
        table: rows of a store; the slices of a volume share their sample id.
        reduction: mean or max, value by value.
    """
    groups = by_appearance(table.sample_ids)
    if len(groups) == len(table):
        return table
    mean = None
    if table.patch_mean is not None:
        mean = _reduced(table.patch_mean, groups.index, len(groups), reduction)
    cls = _reduced(table.cls, groups.index, len(groups), reduction)
    return replace(table.take(groups.first), cls=cls, patch_mean=mean, slices=None)


def _reduced(
    values: np.ndarray, index: np.ndarray, groups: int, reduction: Reduction
) -> np.ndarray:
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(groups))
    if (np.diff(order) != 1).any():  # most often the rows of a group lie together
        values = values[order]
    if reduction == "max":
        return np.asarray(np.maximum.reduceat(values, starts, axis=0))
    sums = np.add.reduceat(values, starts, axis=0, dtype=np.float64)
    counts = np.bincount(index, minlength=groups).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((sums / counts).astype(values.dtype))
