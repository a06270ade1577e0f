"""What a store gives to protocols: embeddings with their truth as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import numpy as np

from dinorad_rt.types import Task


@dataclass(frozen=True)
class DatasetInfo:
    """What metrics must know of the dataset behind a store.

    Attributes:
        name: short name for tables; never a path.
        task: binary, multiclass or multilabel.
        class_names: index → name.
        fingerprint: of content, labels, patients and splits.
        split_hash: equal hashes, equal splits.
        notes: what was decided when the dataset was opened.
        facts: other facts of it.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    fingerprint: str = ""
    split_hash: str = ""
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetInfo:
        """The dataset's part of a provenance; keys that are not ours are left out."""
        own = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        for name in ("class_names", "notes"):
            own[name] = tuple(own.get(name, ()))
        return cls(**own)


@dataclass(frozen=True)
class EmbeddingTable:
    """Rows of a store. One row is one image, or one slice of a volume.

    Attributes:
        sample_ids: (rows,) keys of the samples; the slices of a volume share theirs.
        patients: (rows,) pseudonymous keys; intervals resample these.
        splits: (rows,) train, val or test.
        labels: (rows,) class indices, or (rows, classes) 0/1 for multi-label; int64.
        cls: (rows, blocks, dim) float32 class tokens of the last blocks, last block last.
        patch_mean: (rows, dim) float32, or None for backbones without patches.
        slices: (rows,) slice of a volume or frame of a file, counted from 0; -1 for single images.
    """

    sample_ids: np.ndarray
    patients: np.ndarray
    splits: np.ndarray
    labels: np.ndarray
    cls: np.ndarray
    patch_mean: np.ndarray | None = None
    slices: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, rows: np.ndarray | slice) -> EmbeddingTable:
        """The chosen rows, by index, mask or slice."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{k: v[rows] for k, v in parts.items() if v is not None})

    def narrowed(self, blocks: int | None, *, patch_mean: bool) -> EmbeddingTable:
        """The rows with fewer columns, in memory of their own.

        Args:
            blocks: how many last blocks' class tokens are kept; None for all.
            patch_mean: keep the mean of the patch tokens, where there is one.
        """
        mean = self.patch_mean if patch_mean else None
        cls = self.cls if blocks is None else self.cls[:, -blocks:].copy()
        return replace(self, cls=cls, patch_mean=mean)


@dataclass(frozen=True)
class Failure:
    """One file, or one slice of it, that could not be embedded.

    Attributes:
        sample_id: key of the sample.
        path: relative to the dataset's root; empty unless identifiers are kept.
        slice: of a volume of which only this slice failed; None for the whole file.
        reason: why, free of paths.
    """

    sample_id: str
    path: str
    reason: str
    slice: int | None = None


def joined(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """Tables of one store under each other; at least one must be given."""
    if len(tables) == 1:
        return tables[0]
    parts: dict[str, np.ndarray | None] = {}
    for item in fields(EmbeddingTable):
        columns = [getattr(table, item.name) for table in tables]
        parts[item.name] = None if columns[0] is None else np.concatenate(columns)
    return EmbeddingTable(**cast("dict[str, Any]", parts))
