"""NVIDIA's management library: open for one question about the GPU that engines run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dinorad_rt.machine import visible_gpus
from dinorad_rt.optional import is_installed

Answer = TypeVar("Answer")


def ask_nvml(question: Callable[[Any, Any], Answer], otherwise: Answer) -> Answer:
    """What `question(pynvml, handle)` finds of the first GPU that is visible to CUDA.

    Returns:
        `otherwise` where there is none, or nothing can be read.
    """
    if not is_installed("pynvml"):
        return otherwise
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return otherwise
    try:
        handle = _first_visible(pynvml)
        return otherwise if handle is None else question(pynvml, handle)
    except pynvml.NVMLError:
        return otherwise
    finally:
        pynvml.nvmlShutdown()


def _first_visible(pynvml: Any) -> Any:
    handles = [*map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))]
    uuids, names = (
        [*map(ask, handles)] for ask in (pynvml.nvmlDeviceGetUUID, pynvml.nvmlDeviceGetName)
    )
    places = visible_gpus(uuids, names)
    return handles[places[0]] if places else None
