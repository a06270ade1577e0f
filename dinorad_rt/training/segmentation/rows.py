"""What a training step draws from: slices of array stores, or patches of volumes.

Imported late: torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dinorad_rt.training.segmentation.augment import Augment, Pair

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.training.segmentation.arrays import ArrayStore

Item = dict[str, torch.Tensor]
"""`inputs` and `mask` of one slice or patch."""
Planned = tuple[int, int]
"""Number of an item, and the seed of what is random in it."""


class AbstractRows(ABC):
    """Training items by number; an item is a function of its number and a seed alone."""

    @abstractmethod
    def __len__(self) -> int:
        """How many items an epoch has."""

    @abstractmethod
    def item(self, index: int, seed: int) -> Item:
        """One item; the seed decides what is random in it."""


class TokenRows(AbstractRows):
    """Cached patch tokens and masks; a view is drawn where augmented copies are kept.

    Args:
        samples: images or volumes.
        views: (tokens, masks) of each view, the plain one first.
    """

    def __init__(
        self, samples: Sequence[Sample], views: Sequence[tuple[ArrayStore, ArrayStore]]
    ) -> None:
        self._views = views
        self._index = slice_index(samples, views[0][1])

    def __len__(self) -> int:
        return len(self._index)

    def item(self, index: int, seed: int) -> Item:
        """Tokens (blocks, N, dim) and mask (height, width)."""
        ident, at = self._index[index]
        tokens, masks = self._views[seed % len(self._views)]
        return {"inputs": _float(tokens.read(ident)[at]), "mask": _copy(masks.read(ident)[at])}


class SliceRows(AbstractRows):
    """Grey slices in [0, 1] and masks, augmented at each draw.

    Args:
        samples: images or volumes.
        greys, masks: their arrays.
        augment: see `augment`.
    """

    def __init__(
        self, samples: Sequence[Sample], greys: ArrayStore, masks: ArrayStore, augment: Augment
    ) -> None:
        self._greys, self._masks, self._augment = greys, masks, augment
        self._index = slice_index(samples, masks)

    def __len__(self) -> int:
        return len(self._index)

    def item(self, index: int, seed: int) -> Item:
        """Image (channels, height, width) and mask (height, width)."""
        ident, at = self._index[index]
        pair = _float(self._greys.read(ident)[at]), _copy(self._masks.read(ident)[at])
        return _item(self._augment(pair, seed))


class PatchRows(AbstractRows):
    """One random patch of each volume per epoch, or several.

    Args:
        samples: volumes.
        volumes, masks: (slices, height, width) arrays.
        augment: see `augment.patch_augmentation`.
        per_volume: patches of each volume in an epoch.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        volumes: ArrayStore,
        masks: ArrayStore,
        augment: Augment,
        per_volume: int = 1,
    ) -> None:
        self._idents = [sample.sample_id for sample in samples]
        self._volumes, self._masks, self._augment = volumes, masks, augment
        self._per_volume = per_volume

    def __len__(self) -> int:
        return len(self._idents) * self._per_volume

    def item(self, index: int, seed: int) -> Item:
        """Patch (1, slices, height, width) and mask (slices, height, width)."""
        ident = self._idents[index // self._per_volume]
        pair = _float(self._volumes.read(ident))[None], _copy(self._masks.read(ident))
        return _item(self._augment(pair, seed))


def slice_index(samples: Sequence[Sample], masks: ArrayStore) -> list[tuple[str, int]]:
    """(sample id, slice) of every slice, in order."""
    return [
        (sample.sample_id, at)
        for sample in samples
        for at in range(len(masks.read(sample.sample_id)))
    ]


def planned(
    rows: AbstractRows, epoch: int, seed: int, *, size: int, wanted: Iterable[int]
) -> list[list[Planned]]:
    """Batches of an epoch, whose items are in a random order, as (number, seed) of each item.

    Args:
        rows: what to draw from.
        epoch, seed: decide the order and, with an item's number, what is random in it.
        size: items per batch; see `num_batches`.
        wanted: numbers of the batches; no other is planned.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    seeds = np.random.default_rng([seed, epoch, 1]).integers(2**62, size=len(rows))
    return [[(int(i), int(seeds[i])) for i in order[at * size : (at + 1) * size]] for at in wanted]


def batch_of(rows: AbstractRows, plan: Sequence[Planned]) -> Item:
    """The batch of a plan."""
    items = [rows.item(*one) for one in plan]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def num_batches(rows: AbstractRows, size: int) -> int:
    """Whole batches of an epoch, or the one that there is: a last smaller one is left out."""
    return max(1, len(rows) // size)


def _item(pair: Pair) -> Item:
    return {"inputs": pair[0], "mask": pair[1]}


def _float(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))


def _copy(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
