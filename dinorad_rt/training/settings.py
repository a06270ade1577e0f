"""`TrainSettings`: every choice of the loop, saved with each run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from dinorad_rt.errors import TrainingError, unknown_name

TrainPrecision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainSettings:
    """How a job is trained; what is trained is the job's own.

    Attributes:
        epochs: passes over the training images.
        steps: end after this many optimiser steps; None for all of the epochs.
        batch_size: images (or volumes) of one forward pass, per process.
        accumulate: forward passes per optimiser step.
        optimizer: adamw, or sgd with momentum.
        lr: learning rate of a group with scale 1.
        momentum: of SGD.
        weight_decay: of groups that do not say their own.
        precision: of the forward pass; fp16 scales the loss, weights stay FP32.
        gradient_checkpointing: compute activations again in the backward pass; less memory.
        clip_norm: greatest L2 norm of the gradient; None for no bound.
        warmup: share of all steps over which the learning rate rises from 0.
        schedule: cosine to `final_lr` × lr, or constant, after the warm-up.
        final_lr: share of the learning rate that is left at the end of the cosine.
        ema: decay per step of the averaged weights that are validated and kept; None for none.
        patience: stop after this many epochs without a better validation; None for never.
        save_minutes: a state for resuming is also kept this often within an epoch.
        seed: of order, augmentation, dropout and new layers.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    epochs: int = 10
    steps: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.05
    precision: TrainPrecision = "fp32"
    gradient_checkpointing: bool = False
    clip_norm: float | None = 1.0
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr: float = 0.0
    ema: float | None = None
    patience: int | None = None
    save_minutes: float = 5.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            TrainingError: naming the value and what is allowed.
        """
        _at_least("epochs", self.epochs, 1)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("accumulate", self.accumulate, 1)
        _at_least("steps", self.steps, 1)
        _at_least("patience", self.patience, 1)
        _above("lr", self.lr)
        _above("clip_norm", self.clip_norm)
        _share("warmup", self.warmup)
        _share("ema", self.ema)
        _share("final_lr", self.final_lr)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for train.json."""
        return asdict(self)

    def question(self) -> dict[str, Any]:
        """The values that decide the numbers: what may not change between begin and resume."""
        return {k: v for k, v in asdict(self).items() if k not in ("save_minutes", "device")}


def refuse_unknown(choices: Iterable[str], *parts: Any) -> None:
    """Refuse names that are fields of none of these dataclasses.

    Raises:
        UnknownNameError: the first such name, with the closest that exist.
    """
    known = {item.name for part in parts for item in fields(part)}
    for name in choices:
        if name not in known:
            raise unknown_name("choice of training", name, sorted(known), "dinorad-rt train --help")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise TrainingError(f"{name} is {value}; allowed: {least} or more.", f"Set {_option(name)}")


def _above(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise TrainingError(f"{name} is {value}; allowed: above 0.", f"Set {_option(name)}")


def _share(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value < 1:
        raise TrainingError(f"{name} is {value}; allowed: 0 to below 1.", f"Set {_option(name)}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
