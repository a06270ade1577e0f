"""What goes wrong on a GPU, in our own errors: PyTorch says it in plain RuntimeErrors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dinorad_rt.errors import EngineError, NoMemoryError
from dinorad_rt.words import error_line


@contextmanager
def gpu_errors_named() -> Iterator[None]:
    """Around calls of PyTorch that may run on a GPU.

    Raises:
        NoMemoryError: the GPU's memory is full.
        EngineError: the GPU failed otherwise.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise memory_full(error_line(error)) from error
    except torch.AcceleratorError as error:
        raise call_failed(error_line(error)) from error


def memory_full(reason: str) -> NoMemoryError:
    """The error for a GPU that has no memory left."""
    return NoMemoryError(
        f"The memory of the GPU is full: {reason}.",
        "Free some, or set a smaller batch or streams = 1 in the profile.",
    )


def call_failed(reason: str) -> EngineError:
    """The error for a call that CUDA refused."""
    return EngineError(f"A CUDA call failed: {reason}.", "Check: dinorad-rt doctor")
