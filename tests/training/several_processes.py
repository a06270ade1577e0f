"""Started in two processes by test_parallel.py: trains a model and writes what it became."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dinorad_rt.training.job import AbstractJob, Selection
from dinorad_rt.training.loop import fit
from dinorad_rt.training.settings import TrainSettings


class Job(AbstractJob):
    """Linear regression of 32 points in batches of 4."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 1)
        self.inputs = torch.randn(32, 3)
        self.targets = self.inputs @ torch.tensor([[1.0], [-2.0], [0.5]])
        self.selection = Selection("loss", "min")

    def facts(self) -> dict[str, Any]:
        return {"kind": "toy"}

    def num_batches(self) -> int:
        return 8

    def train_batches(self, epoch: int, seed: int, start: int = 0, step: int = 1) -> Iterator[Any]:
        for number in range(start, 8, step):
            part = slice(4 * number, 4 * number + 4)
            yield {"inputs": self.inputs[part], "targets": self.targets[part]}

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return nn.functional.mse_loss(self.module(batch["inputs"]), batch["targets"]), {}

    def validate(self) -> dict[str, float]:
        return {"loss": float(nn.functional.mse_loss(self.module(self.inputs), self.targets))}


def main(out: Path, accumulate: int) -> None:
    """Two epochs of SGD."""
    settings = TrainSettings(
        epochs=2, batch_size=4, accumulate=accumulate, optimizer="sgd", lr=0.05, warmup=0.0,
        clip_norm=None, device="cpu", weight_decay=0.0,
    )  # fmt: skip
    job = Job()
    history = fit(job, settings, out)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    save_file(dict(job.module.state_dict()), out / f"rank{rank}.safetensors")
    assert len(history.losses) == 8 and history.stopped == "finished"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
