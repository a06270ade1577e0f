"""One process or several: device, share of the batches, gradients joined by accelerate.

`accelerate launch` and `torchrun` start the processes; accelerate joins them. A single process
uses plain torch: accelerate's precision and its random states are global to the process, and
exact resume needs neither. Imported late: torch.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from dinorad_rt.errors import TrainingError
from dinorad_rt.optional import require


class Workers:
    """The processes of a run.

    Attributes:
        device: of this process.
        rank, world: number of this process, and of all.
    """

    def __init__(self, device: str) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self._accelerator: Any = None
        if self.world > 1:
            accelerate = require("accelerate", "training in several processes")
            self._accelerator = accelerate.Accelerator(cpu=device == "cpu")
            self.rank = int(self._accelerator.process_index)
            self.device: torch.device = self._accelerator.device
        else:
            self.rank = 0
            self.device = device_for(device)

    @property
    def is_main(self) -> bool:
        """True in the one process that writes and speaks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients joined over the processes."""
        if self._accelerator is None:
            return module
        wrapped: nn.Module = self._accelerator.prepare_model(module)
        return wrapped

    def unjoined(self, module: nn.Module) -> AbstractContextManager[None]:
        """Backward passes inside do not join gradients yet (accumulation)."""
        if self._accelerator is None:
            return nullcontext()
        context: AbstractContextManager[None] = self._accelerator.no_sync(module)
        return context

    def agreed(self, value: Any) -> Any:
        """The main process's value, in all of them."""
        if self._accelerator is None:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def is_main_process() -> bool:
    """True in the one process of several that writes and speaks; always true of a single one."""
    return os.environ.get("RANK", "0") == "0"


def device_for(name: str) -> torch.device:
    """The device of a name; auto is a GPU if there is one, each process its own.

    Raises:
        TrainingError: this machine has no such device.
    """
    if name == "auto":
        name = _best_device()
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(
            f"{name!r} is no device.", "Use --device auto, cpu, cuda, cuda:1 or mps."
        ) from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise TrainingError(
            f"The device {name} was asked for; torch sees {count} CUDA GPUs here.",
            "Use --device auto, or see dinorad-rt doctor.",
        )
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
