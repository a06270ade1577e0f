"""What stops a run with a clear message: divergence, idle parameters, another run's folder.

Imported late: torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from dinorad_rt.errors import DivergedError, OutputExistsError, TrainingError
from dinorad_rt.training.run_folder import RUN_FILE, read_run
from dinorad_rt.training.settings import TrainSettings

_MAY_DIFFER = ("question", "settings.save_minutes", "settings.device")
_ADDED = ("data.mask_values", "data.modalities")
"""What runs of an earlier form do not say: they go on without."""


def diverged(
    loss: float,
    place: tuple[int, int, int],
    settings: TrainSettings,
    kept: str,
    *,
    where: str = "loss",
) -> DivergedError:
    """The error for a loss that is no number.

    Args:
        loss: NaN or infinite.
        place: epoch from 0, steps before it, steps in all.
        settings: what to change is told from them.
        kept: which checkpoint is left, in words.
        where: which loss it is.
    """
    epoch, before, total = place
    ways = [f"--lr {settings.lr / 10:g} (it was {settings.lr:g})"]
    if settings.warmup < 0.1:
        ways.append("--warmup 0.1")
    if settings.clip_norm is None or settings.clip_norm > 1:
        ways.append("--clip-norm 1")
    if settings.precision == "fp16":
        ways.append("--precision bf16 or fp32")
    return DivergedError(
        f"Training diverged: the {where} is {loss} at step {before + 1} of {total} (epoch "
        f"{epoch + 1}). {kept}",
        "Train again into a new folder with " + ", ".join(ways) + ".",
    )


def checkpoint_gradients(module: nn.Module) -> None:
    able: list[Any] = [p for p in module.modules() if hasattr(p, "set_grad_checkpointing")]
    if not able:
        raise TrainingError(
            f"{type(module).__name__} cannot recompute its activations.",
            "Leave out --gradient-checkpointing, and use a smaller --batch-size with --accumulate.",
        )
    able[0].set_grad_checkpointing(True)


def refuse_untrained(module: nn.Module) -> None:
    """After the first backward pass: what should train and gets no gradient is an error."""
    idle = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise TrainingError(
            f"{len(idle)} parameters should be trained and get no gradient, such as "
            f"{', '.join(idle[:3])}.",
            "Choose another --protocol or --model, or report this to us.",
        )


def refuse_other_run(out: Path, question: str, facts: dict[str, Any]) -> None:
    """Refuse a folder with another run, and name the settings that differ.

    Raises:
        OutputExistsError: the run in `out` answers another question.
    """
    if not (out / RUN_FILE).exists():
        return
    found = read_run(out)
    if found["question"] == question:
        return
    before, now = _flat(found), _flat(facts)
    names = [name for name in now if before.get(name) != now[name] and name not in _MAY_DIFFER]
    if names and all(name in _ADDED and name not in before for name in names):
        return
    raise OutputExistsError(
        f"{out} holds another run; they differ in: {', '.join(names)}.",
        "Give the same settings to go on with it, or choose a new folder with --out.",
    )


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level of dotted names, in the form that JSON gives back."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(facts)).items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
