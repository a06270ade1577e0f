"""Out of memory: find by trial which batch size fits, and say so. Imported late: torch."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from dinorad_rt.errors import DeviceMemoryError
from dinorad_rt.training.settings import TrainSettings


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors that torch raises when an allocation fails, on GPU and CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, MemoryError)) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def memory_error(settings: TrainSettings, attempt: Callable[[int], None]) -> DeviceMemoryError:
    """Try smaller batches and build the error that names the first that fits.

    Args:
        settings: of the run.
        attempt: a forward and backward pass over that many rows.
    """
    rows, fits = settings.batch_size // 2, 0
    while rows and not fits:
        release()
        try:
            attempt(rows)
            fits = rows
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            rows //= 2
    release()
    checkpointing = (
        "" if settings.gradient_checkpointing else " Less memory too: --gradient-checkpointing."
    )
    problem = f"A training step of {settings.batch_size} images does not fit into memory"
    if not fits:
        return DeviceMemoryError(
            f"{problem}, and neither does one of a single image.",
            f"Use a smaller --image-size or --model, or --protocol lora.{checkpointing}",
        )
    accumulate = -(-settings.batch_size * settings.accumulate // fits)
    return DeviceMemoryError(
        f"{problem}; one of {fits} does (tried just now).",
        f"Use --batch-size {fits} --accumulate {accumulate}, which trains alike.{checkpointing}",
    )


def release() -> None:
    """Give memory back before the next attempt."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
