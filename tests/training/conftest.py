"""Jobs, backbones and images small enough to train in a blink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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

    def train_batches(self, epoch: int, seed: int, start: int = 0, step: int = 1) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = torch.randperm(SAMPLES, generator=generator)
        for number in range(start, self.num_batches(), step):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            place = (epoch, number)
            yield {"inputs": self.inputs[rows], "labels": self.labels[rows], "place": place}

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if torch.is_grad_enabled():
            self.seen.append(batch["place"])
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


def tiny_backbone(name: str = "test_vit", size: int = 32) -> Any:
    """A timm model of a few thousand parameters with random weights, said to come from nowhere."""
    from dinorad_rt.backbones.load import load_backbone

    return load_backbone(name, weights="random", image_size=size)


@pytest.fixture
def backbone_of() -> Any:
    return tiny_backbone


def write_images(root: Path, classes: int = 2, count: int = 30, *, volumes: bool = False) -> Path:
    """PNGs (or .npy volumes) of noise whose brightness is the class; labels.csv with splits."""
    import cv2

    rng = np.random.default_rng(3)
    root.mkdir(parents=True, exist_ok=True)
    lines = ["image,class,patient,split"]
    for index in range(count):
        label = index % classes
        split = ("train", "train", "train", "val", "test")[index // classes % 5]
        shape = (3 + index % 3, 40, 36) if volumes else (40, 36)
        pixels = rng.integers(0, 90, shape) + 60 * label
        pixels[..., :8, :8], pixels[..., 8:16, :8] = 0, 255  # so that percentiles stay put
        name = f"{index:03d}." + ("npy" if volumes else "png")
        if volumes:
            np.save(root / name, pixels.astype(np.int16))
        else:
            cv2.imwrite(str(root / name), pixels.astype(np.uint8))
        lines.append(f"{name},c{label},p{index},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def images() -> Any:
    return write_images
