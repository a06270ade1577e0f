"""The small surface that every backend offers.

A backend is one module in this folder with three names:

    is_available() -> Availability        says what is installed; imports nothing heavy twice
    build(graph, profile, folder) -> dict writes the engine's files into `folder`, gives facts
    load(folder, manifest) -> Runner      a final subclass of AbstractRunner

`registry.py` lists the backends; nothing else needs to know a new one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from dinorad_rt.errors import EngineError


@dataclass(frozen=True)
class Availability:
    """Whether a backend can build and run here.

    Attributes:
        backend: its name on the command line.
        can_build, can_run: what this machine allows.
        version: of the backend's package, or None.
        devices: what it can run on, such as ("cpu",) or ("cuda:0 NVIDIA H200",).
        reason: why not, in words, where one of the two is False.
        install: command that would install it.
        precisions: what it runs natively fast here.
    """

    backend: str
    can_build: bool
    can_run: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    reason: str = ""
    install: str = ""
    precisions: tuple[str, ...] = ()


class AbstractRunner(ABC):
    """Runs one engine. A context manager: nothing is loaded before `with`, all is freed after.

    Attributes:
        backend: name of the backend.
        batch: rows per call of the engine; `infer` accepts any number and pads or splits.
        outputs: name → shape of one row.
    """

    backend: str

    def __init__(self, *, input_shape: tuple[int, int, int], batch: int) -> None:
        self.input_shape = input_shape
        self.batch = batch
        self._active = False

    def __enter__(self) -> Self:
        self._activate()
        self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._active = False
        self._release()

    def infer(self, pixel_values: np.ndarray) -> dict[str, np.ndarray]:
        """Run the engine on normalised images.

        Args:
            pixel_values: (batch, 3, height, width) float32, any batch from 1 up.

        Returns:
            Output name → float32 array with the same batch as first axis: `cls` (batch, blocks,
            dim), `patch_mean` (batch, dim), and for dense graphs `patch_tokens` (batch, blocks,
            tokens, dim). The arrays are the caller's own.

        Raises:
            EngineError: used outside `with`, or an input of another shape or type.
        """
        if not self._active:
            raise EngineError("The runner is not active.", "Use it as a context manager: with ...")
        expected = self.input_shape
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != expected:
            raise EngineError(
                f"The engine takes (batch, {', '.join(map(str, expected))}); got "
                f"{pixel_values.shape}.",
                "Preprocess to the engine's image size, or build an engine with --image-size.",
            )
        if pixel_values.dtype != np.float32:
            raise EngineError(f"The engine takes float32; got {pixel_values.dtype}.")
        if len(pixel_values) == 0:
            raise EngineError("The batch is empty.", "Pass at least one image.")
        return self._infer(pixel_values)

    @abstractmethod
    def _activate(self) -> None:
        """Load the engine."""

    @abstractmethod
    def _release(self) -> None:
        """Free everything `_activate` took."""

    @abstractmethod
    def _infer(self, pixel_values: np.ndarray) -> dict[str, np.ndarray]:
        """Run on a checked batch."""
