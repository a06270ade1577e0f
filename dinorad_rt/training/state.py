"""`last.pt`: everything that an interrupted run needs to go on, written whole or not at all.

Loaded with `weights_only=True`: tensors, numbers and strings, no code. No random state is in it,
since the randomness of a step is a function of seed, epoch, step and process. Imported late: torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dinorad_rt.errors import RunError
from dinorad_rt.files import atomic_path, steady_file
from dinorad_rt.training.history import History
from dinorad_rt.training.run_folder import STATE_FILE

if TYPE_CHECKING:
    from dinorad_rt.training.stepper import Stepper

STATE_FORMAT = 1


@dataclass
class Position:
    """Where a run stands, always between two optimiser steps.

    Attributes:
        epoch: being trained, counted from 0.
        batch: next batch of this epoch, per process.
        step: optimiser steps done.
        sums: sums of the loss and its parts over the steps of this epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: dict[str, float] | None = None


def trained_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes: parameters with gradients, and the statistics beside them.

    The statistics are the buffers of modules that hold such a parameter themselves, as batch norms
    do. Order is that of the module.
    """
    found: dict[str, torch.Tensor] = {}
    for path, part in module.named_modules():
        own = [p for p in part.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        prefix = f"{path}." if path else ""
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.requires_grad:
                found[prefix + name] = parameter.detach()
        persistent = part.state_dict(keep_vars=True).keys()
        for name, buffer in part.named_buffers(recurse=False):
            if name in persistent:
                found[prefix + name] = buffer.detach()
    return found


@torch.no_grad()
def load_trained(module: nn.Module, tensors: dict[str, torch.Tensor], source: str) -> None:
    """Write tensors into a module; names and shapes must be those of `trained_tensors`.

    Raises:
        RunError: they are not.
    """
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    strange = [name for name in tensors if name not in own]
    other = [n for n, t in tensors.items() if n in own and own[n].shape != t.shape]
    missing = [name for name in trained_tensors(module) if name not in tensors]
    if strange or other or missing:
        examples = ", ".join((strange + other + missing)[:3])
        raise RunError(
            f"{source} does not fit the model of its run: {len(strange)} unknown tensors, "
            f"{len(other)} of another shape, {len(missing)} missing (such as {examples}).",
            "Train again into a new folder with --out.",
        )
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def save_state(
    folder: Path,
    question: str,
    position: Position,
    history: History,
    stepper: Stepper,
) -> None:
    """Write last.pt atomically.

    Raises:
        NoSpaceError: the disk is full; the state of before is kept.
    """
    ema = stepper.ema
    document: dict[str, Any] = {
        "format": STATE_FORMAT,
        "question": question,
        "position": vars(position),
        "history": json.dumps(history.as_dict()),
        "module": trained_tensors(stepper.module),
        "optimizer": stepper.optimizer.state_dict(),
        "scaler": stepper.scaler.state_dict(),
        "ema": None if ema is None else {"averages": ema.averages, "updates": ema.updates},
    }
    with atomic_path(folder / STATE_FILE) as part, steady_file(part) as file:
        torch.save(document, file)


def read_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Read last.pt, or None if there is none.

    Raises:
        RunError: it cannot be read, or is of another version.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    again = "Train again into a new folder with --out."
    try:
        document = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # zip, pickle and torch errors of their own classes
        raise RunError(f"{STATE_FILE} cannot be read: {type(error).__name__}.", again) from error
    if not isinstance(document, dict) or document.get("format") != STATE_FORMAT:
        raise RunError(f"{STATE_FILE} is of another version of dinorad-rt.", again)
    return document


def restore(document: dict[str, Any], stepper: Stepper) -> tuple[Position, History]:
    """Put a state into module, optimiser, scaler and averages."""
    load_trained(stepper.module, document["module"], STATE_FILE)
    stepper.optimizer.load_state_dict(document["optimizer"])
    stepper.scaler.load_state_dict(document["scaler"])
    if stepper.ema is not None:
        stepper.ema.updates = document["ema"]["updates"]
        for average, value in zip(stepper.ema.averages, document["ema"]["averages"], strict=True):
            average.copy_(value)
    return Position(**document["position"]), History.from_dict(json.loads(document["history"]))
