"""Runs a package of Inductor: on the processor, or on a GPU by CUDA graphs.

The batch is fixed, and the tail padded. On a GPU each stream replays a CUDA graph. A package holds
machine code: only those of our own cache are loaded.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.runners.base import AbstractRunner, Rows, pad_rows
from dinorad_rt.runners.gpu_errors import gpu_errors_named
from dinorad_rt.runners.threaded import AbstractThreadedRunner

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine

PACKAGE = "model.pt2"


class InductorRunner(AbstractThreadedRunner):
    """The package on the processor, in one worker thread with its own number of threads."""

    backend = "inductor"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, workers=1)
        self._path = engine.file(PACKAGE)
        self._threads = int(engine.settings["threads"])
        self._model: Any = None

    def _activate(self) -> None:
        self._model = load_package(self._path)

    def _prepare_thread(self) -> None:
        import torch

        torch.set_num_threads(self._threads)

    def _unload(self) -> None:
        self._model = None

    def _resident(self) -> Callable[[], object]:
        import torch

        pixels = torch.zeros((self.batch, *self.input_shape))

        def run() -> None:
            with torch.inference_mode():
                self._model(pixels)

        return lambda: self._in_worker(run)

    def _run(self, chunk: np.ndarray) -> Rows:
        import torch

        with torch.inference_mode():
            values = self._model(torch.from_numpy(pad_rows(chunk, self.batch)))
        return {
            name: np.array(value.numpy(), dtype=np.float32)
            for name, value in zip(self.outputs, values, strict=True)
        }


class InductorCudaRunner(AbstractRunner):
    """The package on a GPU: per stream one page-locked input, static outputs and a CUDA graph."""

    backend = "inductor"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, look_ahead=int(engine.settings["streams"]))
        self._path = engine.file(PACKAGE)
        self._graphs = bool(engine.settings["cuda_graphs"])
        self._slots: list[dict[str, Any]] = []
        self._next = 0

    def _activate(self) -> None:
        with gpu_errors_named():
            model = load_package(self._path)
            self._slots = [self._slot(model) for _ in range(self.look_ahead)]
        self._next = 0

    def _release(self) -> None:
        for slot in self._slots:
            slot["stream"].synchronize()
        self._slots = []

    def _slot(self, model: Any) -> dict[str, Any]:
        import torch

        shape = (self.batch, *self.input_shape)
        stream: Any = torch.cuda.Stream()
        slot: dict[str, Any] = {"stream": stream, "host": torch.zeros(shape).pin_memory()}
        with torch.inference_mode(), torch.cuda.stream(stream):
            slot["device"] = torch.zeros(shape, device="cuda")
            slot["outputs"] = model(slot["device"])  # sets up state before a capture
        stream.synchronize()
        slot["run"] = self._captured(model, slot) if self._graphs else self._plain(model, slot)
        slot["back"] = [torch.empty(v.shape).pin_memory() for v in slot["outputs"]]
        return slot

    def _captured(self, model: Any, slot: dict[str, Any]) -> Any:
        import torch

        graph = torch.cuda.CUDAGraph()
        mode = "thread_local"
        with (
            torch.inference_mode(),
            torch.cuda.graph(graph, stream=slot["stream"], capture_error_mode=mode),
        ):
            slot["outputs"] = model(slot["device"])
        return graph.replay

    def _plain(self, model: Any, slot: dict[str, Any]) -> Any:
        def run() -> None:
            slot["outputs"] = model(slot["device"])

        return run

    def _resident(self) -> Callable[[], object]:
        import torch

        slot = self._slots[0]

        def call() -> None:
            with torch.inference_mode(), torch.cuda.stream(slot["stream"]):
                slot["run"]()
            slot["stream"].synchronize()

        return call

    def _submit(self, chunk: np.ndarray) -> tuple[dict[str, Any], int]:
        import torch

        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        count = len(chunk)
        slot["host"][:count].copy_(torch.from_numpy(chunk))  # by all threads, unlike NumPy's copy
        slot["host"][count:].zero_()
        with torch.inference_mode(), torch.cuda.stream(slot["stream"]):
            slot["device"].copy_(slot["host"], non_blocking=True)
            slot["run"]()
            for back, value in zip(slot["back"], slot["outputs"], strict=True):
                back.copy_(value, non_blocking=True)
        return slot, count

    def _collect(self, ticket: tuple[dict[str, Any], int]) -> Rows:
        slot, rows = ticket
        with gpu_errors_named():
            slot["stream"].synchronize()
        return {
            name: back.numpy()[:rows].copy()
            for name, back in zip(self.outputs, slot["back"], strict=True)
        }


def load_package(path: Path) -> Any:
    """The compiled function of one of our own packages: it is machine code."""
    import torch

    with quiet():  # one thread uses it, and locks of its own would break CUDA graphs
        return torch._inductor.aoti_load_package(str(path), run_single_threaded=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep tables of timed kernels and notes about a missing CUDA toolkit off the terminal."""
    import torch._inductor.select_algorithm as choices

    loggers = [logging.getLogger(name) for name in ("torch.utils.cpp_extension", "torch._inductor")]
    levels = [log.level for log in loggers]
    talking = {"PRINT_AUTOTUNE": False, "_log_autotune_choices_stats": lambda *_: None}
    kept = {name: getattr(choices, name) for name in talking if hasattr(choices, name)}
    try:
        for name in kept:
            setattr(choices, name, talking[name])
        for log in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations within PyTorch itself
            yield
    finally:
        for name, value in kept.items():
            setattr(choices, name, value)
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
