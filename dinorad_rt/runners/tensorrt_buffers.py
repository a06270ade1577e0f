"""Memory, streams and CUDA graphs behind one small surface, whoever provides them.

`torch` by default; `cuda` (the package cuda-bindings) for a host without PyTorch; `pycuda` as an
extra, with the primary context that PyTorch and TensorRT use as well, and without CUDA graphs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from dinorad_rt.errors import EngineError
from dinorad_rt.optional import is_installed, require
from dinorad_rt.runners.gpu_errors import call_failed, memory_full
from dinorad_rt.words import error_line

_PURPOSE = "Running a TensorRT engine"
_MEMORY_FULL = 2
"""cudaErrorMemoryAllocation."""


@dataclass(frozen=True)
class Stream:
    """A CUDA stream: its handle, and the object that keeps it alive."""

    handle: int
    owner: Any = None


@dataclass(frozen=True)
class DeviceBlock:
    """Memory on the GPU, aligned to 256 bytes: address, size, and what keeps it alive."""

    address: int
    size: int
    owner: Any = None


@dataclass(frozen=True)
class HostBlock:
    """Page-locked memory as a float32 array, and what keeps it alive."""

    array: np.ndarray
    address: int
    owner: Any = None


class AbstractDeviceBuffers(ABC):
    """Who gives memory and streams of the first visible GPU."""

    name: str

    @abstractmethod
    def free_bytes(self) -> int:
        """Memory of the GPU that could still be taken."""

    @abstractmethod
    def stream(self) -> Stream:
        """A new stream that does not wait for the default one."""

    @abstractmethod
    def device(self, size: int) -> DeviceBlock:
        """`size` bytes on the GPU."""

    @abstractmethod
    def host(self, shape: Sequence[int]) -> HostBlock:
        """Page-locked float32 memory, zeroed."""

    @abstractmethod
    def upload(self, source: HostBlock, target: DeviceBlock, size: int, stream: Stream) -> None:
        """Copy `size` bytes to the GPU, in the stream's order."""

    @abstractmethod
    def download(self, source: DeviceBlock, target: HostBlock, size: int, stream: Stream) -> None:
        """Copy `size` bytes from the GPU, in the stream's order."""

    @abstractmethod
    def wait(self, stream: Stream) -> None:
        """Return when the stream has done everything; other threads go on meanwhile."""

    @abstractmethod
    def capture(self, stream: Stream, call: Callable[[], None]) -> Callable[[], None]:
        """Record what `call` puts on the stream; the result puts it there again."""

    def close(self) -> None:  # noqa: B027 - most owners free their memory themselves
        """Free what no owner frees by itself."""


class TorchBuffers(AbstractDeviceBuffers):
    """PyTorch's caching allocator and streams."""

    name = "torch"

    def __init__(self) -> None:
        self._torch = require("torch", _PURPOSE)

    def free_bytes(self) -> int:
        cuda = self._torch.cuda
        idle = cuda.memory_reserved() - cuda.memory_allocated()
        return int(cuda.mem_get_info()[0]) + int(idle)

    def stream(self) -> Stream:
        owner = self._torch.cuda.Stream()
        return Stream(int(owner.cuda_stream), owner)

    def device(self, size: int) -> DeviceBlock:
        with self._errors_named():
            owner = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device="cuda")
        return DeviceBlock(int(owner.data_ptr()), size, owner)

    def host(self, shape: Sequence[int]) -> HostBlock:
        with self._errors_named():
            owner = self._torch.zeros(tuple(shape), dtype=self._torch.float32).pin_memory()
        flat = owner.view(-1).view(self._torch.uint8)
        return HostBlock(owner.numpy(), int(owner.data_ptr()), flat)

    def upload(self, source: HostBlock, target: DeviceBlock, size: int, stream: Stream) -> None:
        with self._torch.cuda.stream(stream.owner):
            target.owner[:size].copy_(source.owner[:size], non_blocking=True)

    def download(self, source: DeviceBlock, target: HostBlock, size: int, stream: Stream) -> None:
        with self._torch.cuda.stream(stream.owner):
            target.owner[:size].copy_(source.owner[:size], non_blocking=True)

    def wait(self, stream: Stream) -> None:
        with self._errors_named():
            stream.owner.synchronize()

    def capture(self, stream: Stream, call: Callable[[], None]) -> Callable[[], None]:
        graph = self._torch.cuda.CUDAGraph()
        mode = "thread_local"
        with (
            self._errors_named(),
            self._torch.cuda.graph(graph, stream=stream.owner, capture_error_mode=mode),
        ):
            call()

        def launch() -> None:
            with self._torch.cuda.stream(stream.owner):
                graph.replay()

        return launch

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """PyTorch's errors of the GPU, plain RuntimeErrors, as ours."""
        try:
            yield
        except self._torch.OutOfMemoryError as error:
            raise memory_full(error_line(error)) from error
        except RuntimeError as error:
            if isinstance(error.__context__, EngineError):  # what made a capture fail says more
                raise error.__context__ from None
            raise call_failed(error_line(error)) from error


class CudaBuffers(AbstractDeviceBuffers):
    """The CUDA runtime through cuda-bindings: no PyTorch needed."""

    name = "cuda"

    def __init__(self) -> None:
        self._cuda = require("cuda.bindings.runtime", _PURPOSE)
        self._frees: list[tuple[Callable[..., Any], Any]] = []

    def _do(self, result: Sequence[Any]) -> Any:
        """The value of a CUDA call, or its error."""
        status, *values = result
        if int(status) != 0:
            text = self._cuda.cudaGetErrorString(status)[1]
            reason = text.decode() if isinstance(text, bytes) else str(status)
            raise (memory_full if int(status) == _MEMORY_FULL else call_failed)(reason)
        return values[0] if len(values) == 1 else values

    def _kept(self, owner: Any, free: Callable[..., Any]) -> Any:
        self._frees.append((free, owner))
        return owner

    def free_bytes(self) -> int:
        return int(self._do(self._cuda.cudaMemGetInfo())[0])

    def stream(self) -> Stream:
        made = self._do(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))
        return Stream(int(made), self._kept(made, self._cuda.cudaStreamDestroy))

    def device(self, size: int) -> DeviceBlock:
        address = int(self._do(self._cuda.cudaMalloc(max(size, 1))))
        return DeviceBlock(address, size, self._kept(address, self._cuda.cudaFree))

    def host(self, shape: Sequence[int]) -> HostBlock:
        import ctypes

        size = prod(shape)
        address = int(self._do(self._cuda.cudaMallocHost(4 * size)))
        self._kept(address, self._cuda.cudaFreeHost)
        array = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
        array[:] = 0
        return HostBlock(array.reshape(tuple(shape)), address, address)

    def upload(self, source: HostBlock, target: DeviceBlock, size: int, stream: Stream) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do(
            self._cuda.cudaMemcpyAsync(target.address, source.address, size, kind, stream.owner)
        )

    def download(self, source: DeviceBlock, target: HostBlock, size: int, stream: Stream) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do(
            self._cuda.cudaMemcpyAsync(target.address, source.address, size, kind, stream.owner)
        )

    def wait(self, stream: Stream) -> None:
        self._do(self._cuda.cudaStreamSynchronize(stream.owner))

    def capture(self, stream: Stream, call: Callable[[], None]) -> Callable[[], None]:
        cuda = self._cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._do(cuda.cudaStreamBeginCapture(stream.owner, mode))
        try:
            call()
        except BaseException:  # a stream left capturing could not be used again
            cuda.cudaStreamEndCapture(stream.owner)
            raise
        graph = self._do(cuda.cudaStreamEndCapture(stream.owner))
        ready = self._kept(self._do(cuda.cudaGraphInstantiate(graph, 0)), cuda.cudaGraphExecDestroy)
        self._do(cuda.cudaGraphDestroy(graph))
        return lambda: self._do(cuda.cudaGraphLaunch(ready, stream.owner))

    def close(self) -> None:
        while self._frees:  # newest first: graphs and memory before their stream
            free, owner = self._frees.pop()
            free(owner)


class PycudaBuffers(AbstractDeviceBuffers):
    """pycuda on the primary context (`autoprimaryctx`); no CUDA graphs."""

    name = "pycuda"

    def __init__(self) -> None:
        require("pycuda.autoprimaryctx", _PURPOSE)
        self._driver = require("pycuda.driver", _PURPOSE)

    def free_bytes(self) -> int:
        return int(self._driver.mem_get_info()[0])

    def stream(self) -> Stream:
        owner = self._driver.Stream()
        return Stream(int(owner.handle), owner)

    def device(self, size: int) -> DeviceBlock:
        owner = self._driver.mem_alloc(max(size, 1))
        return DeviceBlock(int(owner), size, owner)

    def host(self, shape: Sequence[int]) -> HostBlock:
        array = self._driver.pagelocked_zeros(tuple(shape), np.float32)
        return HostBlock(array, int(array.ctypes.data), array)

    def upload(self, source: HostBlock, target: DeviceBlock, size: int, stream: Stream) -> None:
        part = source.array.reshape(-1)[: size // 4]
        self._driver.memcpy_htod_async(target.owner, part, stream.owner)

    def download(self, source: DeviceBlock, target: HostBlock, size: int, stream: Stream) -> None:
        part = target.array.reshape(-1)[: size // 4]
        self._driver.memcpy_dtoh_async(part, source.owner, stream.owner)

    def wait(self, stream: Stream) -> None:
        stream.owner.synchronize()

    def capture(self, stream: Stream, call: Callable[[], None]) -> Callable[[], None]:
        return call


KINDS: dict[str, tuple[str, type[AbstractDeviceBuffers]]] = {
    "torch": ("torch", TorchBuffers),
    "cuda": ("cuda.bindings", CudaBuffers),
    "pycuda": ("pycuda", PycudaBuffers),
}
"""Name in a profile → package that must be installed, and the class."""


def open_buffers(kind: str = "auto") -> AbstractDeviceBuffers:
    """Buffers of one kind; `auto` takes the first of torch, cuda, pycuda that can use the GPU.

    Raises:
        EngineError: no such kind, or none installed.
        MissingPackageError: the kind that was asked for is not installed.
    """
    if kind == "auto":
        kind = next((name for name, (module, _) in KINDS.items() if _can_use(module)), "")
    if kind not in KINDS:
        raise EngineError(
            f"{_PURPOSE} needs one of torch, cuda-bindings or pycuda; got {kind or 'none'!r}.",
            "Install one: pip install cuda-bindings, or a PyTorch that can use the GPU",
        )
    return KINDS[kind][1]()


def _can_use(module: str) -> bool:
    try:
        found = is_installed(module)
    except ModuleNotFoundError:  # the parent package of a dotted name is missing
        return False
    if found and module == "torch":  # PyTorch for processors has no CUDA
        return bool(require("torch", _PURPOSE).cuda.is_available())
    return found
