"""The small surface that every backend offers.

A backend is one module in this folder with the names of `Backend`:

    NAME                                what the user types after --backend
    is_available() -> Availability      says what is installed; loads nothing heavy
    plan(graph, profile) -> Plan        resolves every choice; refuses what cannot be kept
    build(graph, plan, folder, say)     writes the engine's files into `folder`, gives the proof
    load(engine) -> AbstractRunner      a final subclass

`registry.py` lists the backends; nothing else needs to know a new one.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from dinorad_rt.errors import EngineError
from dinorad_rt.progress import Say
from dinorad_rt.types import Precision

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph

Rows = dict[str, np.ndarray]
"""Output name → float32 array whose first axis is the batch."""


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
        precisions: what it runs here with the hardware's own arithmetic.
    """

    backend: str
    can_build: bool
    can_run: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    reason: str = ""
    install: str = ""
    precisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A profile resolved for one graph, backend and machine: all that the engine depends on.

    Attributes:
        backend, version: name and exact version of what builds and runs it.
        precision: of the graph; the backend keeps it or refuses in `plan`.
        batch: rows per call.
        settings: every resolved option, in plain values; names of flags, never their numbers.
        device: what it is built for, in plain values.
        notes: what the user should hear.
    """

    backend: str
    version: str
    precision: Precision
    batch: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Backend(Protocol):
    """What a module in this folder holds."""

    NAME: str

    def is_available(self) -> Availability:
        """What is installed and what this machine allows."""

    def plan(self, graph: Graph, profile: Profile) -> Plan:
        """Resolve the profile, or raise EngineError for what this backend cannot keep."""

    def build(
        self, graph: Graph, plan: Plan, folder: Path, *, say: Say | None = None
    ) -> dict[str, Any]:
        """Write the engine's files into `folder`; return the proof of precision.

        A backend that builds for long tells `say` how far it is.
        """

    def load(self, engine: Engine) -> AbstractRunner:
        """The runner of a verified engine; loads nothing before `with`."""


class AbstractRunner(ABC):
    """Runs one engine. A context manager: nothing is loaded before `with`, all is freed after.

    One thread of one process uses it; others are refused. Calls run outside the GIL, so decoding in
    other threads goes on meanwhile.

    Attributes:
        backend: name of the backend.
        input_shape: (3, height, width) of one image, or (1, slices, height, width) of one patch
            of a volume.
        batch: rows per call of the engine; `infer` accepts any number and pads or splits.
        outputs: name → shape of one row.
        look_ahead: calls in flight at most while a stream runs.
    """

    backend: str

    def __init__(self, engine: Engine, *, look_ahead: int = 2) -> None:
        self.input_shape = engine.input_shape
        self.batch = engine.batch
        self.outputs = engine.outputs
        self.look_ahead = max(1, look_ahead)
        self._active = False
        self._process = 0
        self._busy = threading.Lock()

    def __enter__(self) -> Self:
        self._activate()
        self._active = True
        self._process = os.getpid()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._active = False
        self._release()

    def infer(self, pixel_values: np.ndarray) -> Rows:
        """Run the engine on normalised images.

        Args:
            pixel_values: (batch, *input_shape) float32, any batch from 1 up.

        Returns:
            Output name → float32 array with the same batch as first axis: `cls` (batch, blocks,
            dim), `patch_mean` (batch, dim), and for dense graphs `patch_tokens` (batch, blocks,
            tokens, dim); `logits` of a trained run. The arrays are the caller's own.

        Raises:
            EngineError: used outside `with`, while a stream runs, in a forked process, or an input
                of another shape or type.
        """
        self._check_free()
        return next(self._stream(iter((pixel_values,))))

    def infer_stream(self, batches: Iterable[np.ndarray]) -> Iterator[Rows]:
        """Run the engine on many batches, several at once, and give results in their order.

        Pulls at most `look_ahead` calls ahead of the last result, so that memory stays bounded
        and the engine works while the next batch is made. A batch may be overwritten by its owner
        as soon as the next one is asked for: backends keep their own copy.

        Args:
            batches: each as for `infer`; sizes may differ.

        Raises:
            EngineError: as for `infer`.
        """
        self._check_free()
        return self._stream(iter(batches))

    def resident_call(self) -> Callable[[], object] | None:
        """A call of the full batch on data that lies with the engine already, for measuring.

        It copies nothing in or out and returns when the engine is done; what it computes on is
        left over from earlier calls. None where the backend cannot tell copies and work apart.

        Raises:
            EngineError: used outside `with`, or while a stream runs.
        """
        self._check_free()
        return self._resident()

    def _resident(self) -> Callable[[], object] | None:
        return None

    def _stream(self, batches: Iterator[np.ndarray]) -> Iterator[Rows]:
        self._check_free()  # again: another stream may have begun since this one was asked for
        if not self._busy.acquire(blocking=False):
            raise _busy()
        flight: deque[tuple[Any, int, bool]] = deque()
        parts: list[Rows] = []
        try:
            for pixel_values in batches:
                self._check_input(pixel_values)
                for start in range(0, len(pixel_values), self.batch):
                    if len(flight) >= self.look_ahead:
                        yield from self._finish_oldest(flight, parts)
                    chunk = pixel_values[start : start + self.batch]
                    last = start + self.batch >= len(pixel_values)
                    flight.append((self._submit(chunk), len(chunk), last))
            while flight:
                yield from self._finish_oldest(flight, parts)
        finally:
            try:
                for ticket, _, _ in flight:  # left early: nothing may still run on freed memory
                    with suppress(Exception):  # of results that nobody waits for any more
                        self._collect(ticket)
            finally:
                self._busy.release()

    def _finish_oldest(
        self, flight: deque[tuple[Any, int, bool]], parts: list[Rows]
    ) -> Iterator[Rows]:
        ticket, rows, last = flight.popleft()
        parts.append({name: value[:rows] for name, value in self._collect(ticket).items()})
        if last:
            done = list(parts)
            parts.clear()
            yield _joined(done)

    def _check_free(self) -> None:
        if not self._active:
            raise EngineError("The runner is not active.", "Use it as a context manager: with ...")
        if self._process != os.getpid():  # threads and GPUs do not come along: it would hang
            raise EngineError(
                "The runner was opened in another process, of which this one is a fork.",
                "Open it here: with open_runner(engine) as runner: ...",
            )
        if self._busy.locked():
            raise _busy()

    def _check_input(self, pixel_values: np.ndarray) -> None:
        expected = self.input_shape
        if pixel_values.shape[1:] != expected:
            raise EngineError(
                f"The engine takes (batch, {', '.join(map(str, expected))}); got "
                f"{pixel_values.shape}.",
                "Preprocess to the engine's size, or export and build for another one.",
            )
        if pixel_values.dtype != np.float32:
            raise EngineError(
                f"The engine takes float32; got {pixel_values.dtype}.",
                "Convert with .astype(numpy.float32) after normalising.",
            )
        if len(pixel_values) == 0:
            raise EngineError("The batch is empty.", "Pass at least one image.")

    @abstractmethod
    def _activate(self) -> None:
        """Load the engine."""

    @abstractmethod
    def _release(self) -> None:
        """Free everything `_activate` took."""

    @abstractmethod
    def _submit(self, chunk: np.ndarray) -> Any:
        """Start a call on 1 to `batch` rows, copied before this returns; give its ticket."""

    @abstractmethod
    def _collect(self, ticket: Any) -> Rows:
        """Wait for a call; its outputs, with at least the rows that were submitted."""


def _busy() -> EngineError:
    return EngineError(
        "The runner is busy with an unfinished infer_stream, or with a call of another thread.",
        "Read the stream to its end or close() it before the next call; give each thread a runner "
        "of its own.",
    )


def pad_rows(chunk: np.ndarray, batch: int) -> np.ndarray:
    """`chunk` with rows of zeros behind it up to `batch`; itself if it is full."""
    if len(chunk) == batch:
        return chunk
    padded = np.zeros((batch, *chunk.shape[1:]), chunk.dtype)
    padded[: len(chunk)] = chunk
    return padded


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
