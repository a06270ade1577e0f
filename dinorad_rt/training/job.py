"""`AbstractJob`: what the loop needs to know of a thing that is trained. Imported late: torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Batch = Any
"""Tensors in mappings, lists or tuples; the loop moves them to the device."""


@dataclass(frozen=True)
class Selection:
    """Which validation metric chooses the best epoch.

    Attributes:
        metric: key of what `validate` gives.
        best: whether more or less of it is better.
        tie: second key, less is better, for epochs with equal metric; None for the earlier epoch.
    """

    metric: str
    best: Literal["max", "min"] = "max"
    tie: str | None = None

    def better(self, now: Mapping[str, float], before: Mapping[str, float] | None) -> bool:
        """True if `now` beats `before`; a metric without a value never does."""
        return before is None or self._rank(now) > self._rank(before)

    def _rank(self, values: Mapping[str, float]) -> tuple[float, float]:
        sign = 1.0 if self.best == "max" else -1.0
        first, second = sign * values[self.metric], -values[self.tie] if self.tie else 0.0
        return tuple(v if v == v else float("-inf") for v in (first, second))  # type: ignore[return-value]


class AbstractJob(ABC):
    """A module with its data and its loss.

    Attributes:
        module: everything that is deployed, such as backbone + head; parameters that do not
            require gradients are left alone and not saved.
        selection: which validation metric chooses the best epoch.
    """

    module: nn.Module
    selection: Selection

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What train.json says of the job, in plain values free of paths and identifiers.

        `kind` (classifier, segmenter), `backbone`, `head`, `data` and so on; everything that
        decides the numbers must be in it, since it tells whether a run may be resumed.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser; `lr_scale` multiplies the learning rate of a group.

        The gradient is clipped as a whole, that of a group which says `alone` by itself.
        """
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @abstractmethod
    def num_batches(self) -> int:
        """Batches that `train_batches` gives per epoch."""

    @abstractmethod
    def train_batches(
        self, epoch: int, seed: int, start: int = 0, step: int = 1
    ) -> Iterator[Batch]:
        """Every `step`-th batch of an epoch from number `start` on; no other is made.

        A batch is a function of (seed, epoch, its number) alone: so a resumed run sees what an
        uninterrupted one sees.
        """

    def end_batches(self) -> None:
        """No more batches are wanted: what was started to make them ends."""
        return None

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of a batch (a scalar, meaned over it), and its parts for the record, detached."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Metrics on the validation split. The loop puts the module into eval mode before."""

    def train_mode(self) -> None:
        """Put the module into training mode; frozen parts with statistics must stay in eval."""
        self.module.train()

    def shrink(self, batch: Batch, rows: int) -> Batch:
        """The first rows of a batch, to find by trial what fits into memory."""
        if isinstance(batch, torch.Tensor):
            return batch[:rows]
        if isinstance(batch, Mapping):
            return {key: self.shrink(value, rows) for key, value in batch.items()}
        if isinstance(batch, (list, tuple)):
            return type(batch)(self.shrink(value, rows) for value in batch)
        return batch


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: move(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(move(value, device) for value in batch)
    return batch
