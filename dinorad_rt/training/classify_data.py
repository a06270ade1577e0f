"""Batches of a classification task: order, augmentation and slices by (seed, epoch, number).

Imported late: it needs torch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dinorad_rt.training.augment import Augment
from dinorad_rt.training.images import ImageBank
from dinorad_rt.training.seeds import seed_of

Rows = dict[str, torch.Tensor]


class Planned(NamedTuple):
    """One batch of an epoch: with a sample's index, seed and epoch decide all that is random."""

    seed: int
    epoch: int
    rows: list[int]


class TrainingImages:
    """Samples as a training step takes them: slices chosen, augmented.

    Args:
        bank: decoded images.
        augment: of one image in [0, 1], or None.
        slices: of a volume, or None for all.
    """

    def __init__(self, bank: ImageBank, augment: Augment | None, slices: int | None) -> None:
        self._bank, self._augment, self._slices = bank, augment, slices

    def batch(self, planned: Planned) -> Rows:
        """A batch; who makes it changes no number."""
        return collate([self.sample(index, planned.seed, planned.epoch) for index in planned.rows])

    def sample(self, index: int, seed: int, epoch: int) -> Rows:
        """`pixels` (slices, channels, size, size) in [0, 1], and `labels`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, epoch, index))
            rows = spread(self._bank.rows_of(index), self._slices)
            images = [self._bank.row(row) for row in rows]
            if self._augment is not None:
                images = [self._augment(image) for image in images]
        return {"pixels": torch.stack(images), "labels": self._bank.labels[index]}

    def nbytes(self, planned: Planned) -> int:
        """Bytes of a batch's pixels."""
        counts = self._bank.count[planned.rows]
        if self._slices is not None:
            counts = counts.clip(max=self._slices)
        return int(counts.sum()) * self._bank.row(0).nbytes


def epoch_order(samples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of every batch of an epoch: all samples, in batches of equal size (to one)."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch, -1))
    order = torch.randperm(samples, generator=generator).numpy()
    parts = np.array_split(order, num_batches(samples, batch_size))
    return [part.tolist() for part in parts]


def num_batches(samples: int, batch_size: int) -> int:
    """Batches of an epoch: as few as hold all samples."""
    return -(-samples // batch_size)


def collate(rows: list[Rows]) -> Rows:
    """Samples → one batch: rows of all, which sample each belongs to, labels."""
    counts = torch.tensor([len(row["pixels"]) for row in rows])
    return {
        "pixels": torch.cat([row["pixels"] for row in rows]),
        "sample": torch.repeat_interleave(torch.arange(len(rows)), counts),
        "labels": torch.stack([row["labels"] for row in rows]),
    }


def spread(rows: range, wanted: int | None) -> list[int]:
    """Evenly spread rows of a volume with a random start; all if there are no more."""
    if wanted is None or len(rows) <= wanted:
        return list(rows)
    step = len(rows) / wanted
    start = float(torch.rand(1)) * step
    return [rows[int(at)] for at in start + step * np.arange(wanted)]
