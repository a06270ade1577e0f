"""Running a TensorRT engine: own streams, page-locked double buffers, a CUDA graph per bucket.

    slot 0   upload ─► bucket ─► download          one slot per stream: its own input, outputs and
    slot 1         upload ─► bucket ─► download    activation memory, which its buckets share

A call takes the smallest bucket that holds its rows; the rest of the bucket is zeros.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.cache import private_dir
from dinorad_rt.errors import EngineError, NoMemoryError
from dinorad_rt.files import atomic_path, sha256_json
from dinorad_rt.machine import gpu_facts
from dinorad_rt.runners.base import AbstractRunner, Rows
from dinorad_rt.runners.tensorrt_buffers import (
    AbstractDeviceBuffers,
    DeviceBlock,
    HostBlock,
    Stream,
    open_buffers,
)
from dinorad_rt.runners.tensorrt_build import GRAPH_FILE, INPUT, PLAN_FILE
from dinorad_rt.runners.tensorrt_flavour import Flavour, Journal, logger
from dinorad_rt.runners.tensorrt_refit import refit_weights

if TYPE_CHECKING:
    from pathlib import Path

    from dinorad_rt.engines.manifest import Engine

_FLOAT = 4


@dataclass
class Slot:
    """What one call in flight uses."""

    stream: Stream
    memory: DeviceBlock
    pixels: tuple[HostBlock, DeviceBlock]
    outputs: dict[str, tuple[HostBlock, DeviceBlock]]
    launch: dict[int, Callable[[], None]] = field(default_factory=dict)
    contexts: list[Any] = field(default_factory=list)


class TensorRTRunner(AbstractRunner):
    """A TensorRT or TensorRT-RTX engine on the first visible GPU."""

    def __init__(self, engine: Engine, flavour: Flavour) -> None:
        settings = engine.settings
        super().__init__(engine, look_ahead=int(settings["streams"]))
        self.backend = flavour.name
        self._flavour = flavour
        self._settings = settings
        self._path = engine.file(PLAN_FILE)
        self._stripped = "STRIP_PLAN" in settings["flags"]
        self._graph = engine.file(GRAPH_FILE)
        self._buckets = tuple(int(rows) for rows in settings["buckets"])
        self._kernels = _kernel_file(engine)
        self._forget()

    def _forget(self) -> None:
        self._engine: Any = None
        self._runtime_cache: Any = None
        self._compiled_before = False
        self._buffers: AbstractDeviceBuffers | None = None
        self._slots: list[Slot] = []
        self._next = 0

    def _activate(self) -> None:
        trt = self._flavour.load()
        log, journal = logger(self._flavour)
        try:
            self._buffers = open_buffers(str(self._settings["buffers"]))
            self._engine = load_plan(self._flavour, self._path.read_bytes())
            if self._stripped:
                refit_weights(self._flavour, self._engine, self._graph)
            self._check_memory(self._buffers)
            for _ in range(self.look_ahead):
                self._slots.append(self._new_slot(trt, self._buffers, journal))
            self._store_kernels()
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        buffers = self._buffers
        if buffers is not None:
            for slot in self._slots:
                with suppress(EngineError):  # of a call that nobody waits for any more
                    buffers.wait(slot.stream)
        self._forget()  # contexts before their engine, both before the memory
        gc.collect()
        if buffers is not None:
            buffers.close()

    def _resident(self) -> Callable[[], object]:
        assert self._buffers is not None
        buffers, slot = self._buffers, self._slots[0]

        def call() -> None:
            slot.launch[self.batch]()
            buffers.wait(slot.stream)

        return call

    def _submit(self, chunk: np.ndarray) -> tuple[Slot, int]:
        assert self._buffers is not None
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        rows = next(size for size in self._buckets if size >= len(chunk))
        host, device = slot.pixels
        np.copyto(host.array[: len(chunk)], chunk)
        host.array[len(chunk) : rows] = 0
        self._buffers.upload(host, device, _size(rows, self.input_shape), slot.stream)
        slot.launch[rows]()
        for name, (back, block) in slot.outputs.items():
            size = _size(len(chunk), self.outputs[name])
            self._buffers.download(block, back, size, slot.stream)
        return slot, len(chunk)

    def _collect(self, ticket: tuple[Slot, int]) -> Rows:
        assert self._buffers is not None
        slot, rows = ticket
        self._buffers.wait(slot.stream)
        return {name: back.array[:rows].copy() for name, (back, _) in slot.outputs.items()}

    def _new_slot(self, trt: Any, buffers: AbstractDeviceBuffers, journal: Journal) -> Slot:
        slot = Slot(
            stream=buffers.stream(),
            memory=buffers.device(max(self._activations())),
            pixels=_pair(buffers, self.batch, self.input_shape),
            outputs={name: _pair(buffers, self.batch, s) for name, s in self.outputs.items()},
        )
        for index, rows in enumerate(self._buckets):
            context = self._context(trt, slot, journal, (index, rows))
            slot.contexts.append(context)
            run = _call(context, slot.stream, journal)
            run()  # the first call sets up state, and on TensorRT-RTX compiles
            buffers.wait(slot.stream)
            own_graph = self._settings["cuda_graphs"] and not self._flavour.cross
            slot.launch[rows] = buffers.capture(slot.stream, run) if own_graph else run
        return slot

    def _context(self, trt: Any, slot: Slot, journal: Journal, bucket: tuple[int, int]) -> Any:
        index, rows = bucket
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        wanted = self._runtime_config(trt, strategy) if self._flavour.cross else strategy
        context = self._engine.create_execution_context(wanted)
        if context is None:  # not an exception: most often the GPU's memory is full
            raise EngineError(
                f"The engine gives nothing to run {rows} rows with: {journal.take()}.",
                "Free memory of the GPU, or set streams = 1 or a smaller batch in the profile.",
            )
        taken = context.set_optimization_profile_async(index, slot.stream.handle)
        if not (taken and context.set_input_shape(INPUT, (rows, *self.input_shape))):
            raise EngineError(
                f"The engine does not take {rows} rows of {self.input_shape}, as its "
                f"manifest says; it has {self._engine.num_optimization_profiles} profiles.",
                "Build it again: dinorad-rt build",
            )
        context.set_device_memory(slot.memory.address, slot.memory.size)
        context.set_tensor_address(INPUT, slot.pixels[1].address)
        for name, (_, block) in slot.outputs.items():
            context.set_tensor_address(name, block.address)
        missing = context.infer_shapes()
        if missing:
            raise EngineError(
                f"The engine has tensors that its manifest does not name: {', '.join(missing)}.",
                "Build it again: dinorad-rt build",
            )
        return context

    def _runtime_config(self, trt: Any, strategy: Any) -> Any:
        """TensorRT-RTX: kernels compiled before are taken from a file, CUDA graphs are its own.

        Kernels for a bucket's shape are compiled before its first call: by default they come from a
        background thread, and meanwhile others run, whose numbers and speed are not the engine's.
        """
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        graphs = trt.CudaGraphStrategy
        wanted = self._settings["cuda_graphs"]
        config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if wanted else graphs.DISABLED
        kernels = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
        if self._runtime_cache is None:
            self._runtime_cache = config.create_runtime_cache()
            stored = self._kernels.read_bytes() if self._kernels.is_file() else b""
            self._compiled_before = bool(stored and self._runtime_cache.deserialize(stored))
        config.set_runtime_cache(self._runtime_cache)
        return config

    def _store_kernels(self) -> None:
        if self._runtime_cache is not None and not self._compiled_before:
            with atomic_path(self._kernels) as part, part.open("wb") as handle:
                handle.write(self._runtime_cache.serialize())

    def _activations(self) -> list[int]:
        """Bytes of activation memory per bucket."""
        count = len(self._buckets)
        return [int(self._engine.get_device_memory_size_for_profile_v2(i)) for i in range(count)]

    def _check_memory(self, buffers: AbstractDeviceBuffers) -> None:
        """Raise before anything is taken if the largest bucket does not fit.

        Raises:
            NoMemoryError: with what is needed, what is free, and the bucket that would fit.
        """
        free = buffers.free_bytes()
        shapes = (self.input_shape, *self.outputs.values())
        needs = [
            self.look_ahead * (activations + sum(_size(rows, shape) for shape in shapes))
            for activations, rows in zip(self._activations(), self._buckets, strict=True)
        ]
        if needs[-1] <= free:
            return
        fits = [rows for rows, need in zip(self._buckets, needs, strict=True) if need <= free]
        advice = f"a batch of {fits[-1]} fits" if fits else "use a smaller batch"
        raise NoMemoryError(
            f"The {self.backend} engine needs {needs[-1] / 2**20:.0f} MiB of GPU memory beside its "
            f"weights for batches of {self.batch} in {self.look_ahead} streams; "
            f"{free / 2**20:.0f} MiB are free.",
            f"In the profile, {advice}, or set streams = 1.",
        )


def load_plan(flavour: Flavour, blob: bytes) -> Any:
    """Deserialise a plan whose SHA-256 was compared; host code inside it stays forbidden.

    Raises:
        EngineError: the library cannot use it on this GPU.
    """
    trt = flavour.load()
    log, journal = logger(flavour)
    journal.take()
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = False
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        raise EngineError(
            f"{flavour.name} {flavour.version} cannot load the engine on this GPU "
            f"({gpu_facts().get('name', 'none')}): {journal.take()}.",
            "Build it for this GPU: dinorad-rt build",
        )
    return engine


def _call(context: Any, stream: Stream, journal: Journal) -> Callable[[], None]:
    def run() -> None:
        if not context.execute_async_v3(stream.handle):
            raise EngineError(
                f"The engine failed on the GPU: {journal.take()}.", "Check: dinorad-rt doctor"
            )

    return run


def _pair(
    buffers: AbstractDeviceBuffers, rows: int, shape: tuple[int, ...]
) -> tuple[HostBlock, DeviceBlock]:
    return buffers.host((rows, *shape)), buffers.device(_size(rows, shape))


def _size(rows: int, shape: tuple[int, ...]) -> int:
    return rows * prod(shape) * _FLOAT


def _kernel_file(engine: Engine) -> Path:
    """Where TensorRT-RTX keeps what it compiled for this engine, GPU and driver."""
    return private_dir("kernels") / f"{sha256_json([engine.key, gpu_facts()])[:32]}.bin"
