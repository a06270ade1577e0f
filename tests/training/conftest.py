"""A job small enough to train in a blink, with dropout and a batch norm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from dinorad_rt.training.job import AbstractJob, Selection

SAMPLES, CLASSES = 48, 3


class ToyJob(AbstractJob):
    """A perceptron on three Gaussian clouds; `poison` makes the loss of a step NaN."""

    def __init__(self, batch_size: int = 8, *, poison: int | None = None) -> None:
        torch.manual_seed(7)
        self.module = nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, CLASSES)
        )
        generator = torch.Generator().manual_seed(1)
        self.labels = torch.arange(SAMPLES) % CLASSES
        centres = torch.randn(CLASSES, 4, generator=generator)
        self.inputs = centres[self.labels] + 0.7 * torch.randn(SAMPLES, 4, generator=generator)
        self.batch_size, self.poison = batch_size, poison
        self.selection = Selection("accuracy", "max", tie="loss")
        self.seen: list[tuple[int, int]] = []

    def facts(self) -> dict[str, Any]:
        return {"kind": "toy", "data": {"samples": SAMPLES}}

    def num_batches(self) -> int:
        return SAMPLES // self.batch_size

    def train_batches(self, epoch: int, seed: int, start: int = 0) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = torch.randperm(SAMPLES, generator=generator)
        for number in range(start, self.num_batches()):
            self.seen.append((epoch, number))
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield {"inputs": self.inputs[rows], "labels": self.labels[rows]}

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = nn.functional.cross_entropy(self.module(batch["inputs"]), batch["labels"])
        if self.poison is not None and len(self.seen) > self.poison:
            loss = loss * float("nan")
        return loss, {"cross_entropy": loss.detach()}

    def validate(self) -> dict[str, float]:
        logits = self.module(self.inputs)
        accuracy = (logits.argmax(1) == self.labels).float().mean()
        return {
            "accuracy": float(accuracy),
            "loss": float(nn.functional.cross_entropy(logits, self.labels)),
        }


@pytest.fixture
def toy_job() -> type[ToyJob]:
    return ToyJob
