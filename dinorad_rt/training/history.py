"""`History`: what a run went through, epoch by epoch and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Stopped = Literal["", "finished", "patience"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: counted from 1.
        step: optimiser steps so far.
        loss: mean training loss over its steps.
        parts: means of the loss's parts.
        lr: learning rate of its last step, for a scale of 1.
        metrics: on the validation split.
        best: True if no epoch before was as good.
        seconds: training and validation.
    """

    epoch: int
    step: int
    loss: float
    parts: dict[str, float]
    lr: float
    metrics: dict[str, float]
    best: bool
    seconds: float


@dataclass
class History:
    """A run so far.

    Attributes:
        epochs: finished epochs.
        losses: one per optimiser step.
        stopped: why it ended; empty while it runs.
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    stopped: Stopped = ""

    @property
    def best(self) -> EpochRecord | None:
        """The epoch whose weights are in best.safetensors."""
        return next((record for record in reversed(self.epochs) if record.best), None)

    def epochs_since_best(self) -> int:
        """Epochs that brought nothing better."""
        return 0 if self.best is None else self.epochs[-1].epoch - self.best.epoch

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for train.json."""
        best = self.best
        return {
            "stopped": self.stopped,
            "best_epoch": None if best is None else best.epoch,
            "epochs": [asdict(record) for record in self.epochs],
            "losses": self.losses,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> History:
        """The history in a train.json or a state."""
        return cls(
            epochs=[EpochRecord(**record) for record in values["epochs"]],
            losses=[float("nan") if loss is None else float(loss) for loss in values["losses"]],
            stopped=values["stopped"],
        )
