"""NVIDIA's management library: open for one question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dinorad_rt.optional import is_installed

Answer = TypeVar("Answer")


def ask_nvml(question: Callable[[Any], Answer], otherwise: Answer) -> Answer:
    """What `question` finds of the opened module pynvml; `otherwise` where nothing can be read."""
    if not is_installed("pynvml"):
        return otherwise
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return otherwise
    try:
        return question(pynvml)
    except pynvml.NVMLError:
        return otherwise
    finally:
        pynvml.nvmlShutdown()
