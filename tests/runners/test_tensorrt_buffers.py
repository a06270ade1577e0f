"""The three owners of GPU memory against stand-ins of their packages that record every call."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dinorad_rt.errors import EngineError, MissingPackageError, NoMemoryError
from dinorad_rt.runners import tensorrt_buffers
from dinorad_rt.runners.tensorrt_buffers import (
    CudaBuffers,
    PycudaBuffers,
    Stream,
    TorchBuffers,
    open_buffers,
)


class StandInCuda:
    """`cuda.bindings.runtime` over host memory: work on a stream waits until it is synchronised."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down")
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")

    def __init__(self) -> None:
        self.log: list[str] = []
        self.blocks: dict[int, Any] = {}
        self.todo: dict[int, list[Callable[[], Any]]] = {}
        self.recording: list[Callable[[], Any]] | None = None
        self.graphs: dict[int, list[Callable[[], Any]]] = {}
        self.fail = False

    def _done(self, name: str, *values: Any) -> tuple[Any, ...]:
        self.log.append(name)
        return (2 if self.fail else 0, *values)

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, b"out of memory"

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self._done("info", 1000, 2000)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking  # never the default stream, nor one it waits for
        handle = 100 + len(self.todo)
        self.todo[handle] = []
        return self._done("stream", handle)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        block = (ctypes.c_uint8 * size)()
        self.blocks[ctypes.addressof(block)] = block
        return self._done("malloc", ctypes.addressof(block))

    cudaMallocHost = cudaMalloc

    def _free(self, address: int) -> tuple[Any, ...]:
        del self.blocks[address]
        return self._done("free")

    cudaFree = cudaFreeHost = _free

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        return self._done("destroy stream")

    def cudaMemcpyAsync(self, to: int, of: int, size: int, kind: str, stream: int) -> Any:
        work = self.todo[stream] if self.recording is None else self.recording
        work.append(lambda: ctypes.memmove(to, of, size))
        return self._done(f"copy {kind}")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        work, self.todo[stream] = self.todo[stream], []
        for item in work:
            item()
        return self._done("synchronise")

    def cudaStreamBeginCapture(self, stream: int, mode: str) -> tuple[Any, ...]:
        assert mode == "thread"
        self.recording = []
        return self._done("begin")

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        graph = len(self.graphs) + 1
        self.graphs[graph], self.recording = self.recording or [], None
        return self._done("end", graph)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        return self._done("instantiate", graph)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:
        self.todo[stream] += self.graphs[graph]
        return self._done("launch")

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        return self._done("destroy graph")

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any, ...]:
        return self._done("destroy exec")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandInCuda:
    """What `CudaBuffers` finds under `cuda.bindings.runtime`."""
    stand_in = StandInCuda()
    monkeypatch.setattr(tensorrt_buffers, "require", lambda module, purpose: stand_in)
    return stand_in


def test_cuda_bindings_copy_capture_and_free_everything(cuda: StandInCuda) -> None:
    buffers = CudaBuffers()
    assert buffers.free_bytes() == 1000
    stream, there, back = buffers.stream(), buffers.host((5, 7)), buffers.host((5, 7))
    block = buffers.device(140)
    there.array[:] = np.arange(35).reshape(5, 7)
    buffers.upload(there, block, 140, stream)
    replay = buffers.capture(stream, lambda: buffers.download(block, back, 140, stream))
    assert not back.array.any()  # recorded, not run
    replay()
    buffers.wait(stream)
    np.testing.assert_array_equal(back.array, there.array)
    there.array[:] += 1
    buffers.upload(there, block, 140, stream)
    replay()
    buffers.wait(stream)
    np.testing.assert_array_equal(back.array, there.array)
    buffers.close()
    assert not cuda.blocks  # all memory given back
    assert cuda.log[-5:] == ["destroy exec", "free", "free", "free", "destroy stream"]


def test_a_failed_capture_leaves_the_stream_usable(cuda: StandInCuda) -> None:
    buffers = CudaBuffers()
    stream = buffers.stream()

    def broken() -> None:
        raise EngineError("the engine failed")

    with pytest.raises(EngineError, match="the engine failed"):
        buffers.capture(stream, broken)
    assert cuda.recording is None and cuda.log[-1] == "end"


def test_a_failed_capture_tells_what_failed_and_not_that_it_did(
    cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffers = CudaBuffers()
    stream = buffers.stream()

    def broken() -> None:
        cuda.fail = True  # CUDA ends an invalidated capture with an error of its own
        raise EngineError("the engine failed")

    with pytest.raises(EngineError, match="the engine failed"):
        buffers.capture(stream, broken)


def test_an_error_of_cuda_is_said(cuda: StandInCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = CudaBuffers()
    cuda.fail = True
    with pytest.raises(NoMemoryError, match="memory of the GPU is full: out of memory"):
        buffers.device(1 << 10)
    monkeypatch.setattr(cuda, "_done", lambda name, *values: (700, *values))
    with pytest.raises(EngineError, match="A CUDA call failed: out of memory"):
        buffers.free_bytes()


class StandInTorch(SimpleNamespace):
    """`torch` whose GPU is full, and whose streams end in an error."""

    uint8, float32 = "uint8", "float32"

    class OutOfMemoryError(RuntimeError):
        """As PyTorch's."""

    def __init__(self, *, sees_gpu: bool) -> None:
        super().__init__()
        self.cuda = SimpleNamespace(
            is_available=lambda: sees_gpu,
            CUDAGraph=SimpleNamespace,
            graph=self._graph,
        )

    def empty(self, size: int, dtype: str, device: str) -> Any:
        raise self.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    @contextmanager
    def _graph(self, graph: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    def fail(self) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with")


def test_pytorchs_errors_of_the_gpu_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = StandInTorch(sees_gpu=True)
    monkeypatch.setattr(tensorrt_buffers, "require", lambda module, purpose: torch)
    buffers = TorchBuffers()
    with pytest.raises(NoMemoryError, match="GPU is full: .*Tried to allocate 2 GiB"):
        buffers.device(1 << 31)
    stream = Stream(7, SimpleNamespace(synchronize=torch.fail))
    with pytest.raises(EngineError, match=r"illegal memory access was encountered\.\n"):
        buffers.wait(stream)

    def broken() -> None:
        raise EngineError("the engine failed")

    with pytest.raises(EngineError, match="the engine failed"):
        buffers.capture(stream, broken)


def test_a_pytorch_without_cuda_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, cuda: StandInCuda
) -> None:
    packages = {"torch": StandInTorch(sees_gpu=False), "cuda.bindings.runtime": cuda}
    monkeypatch.setattr(tensorrt_buffers, "require", lambda module, purpose: packages[module])
    here = ("torch", "cuda.bindings")
    monkeypatch.setattr(tensorrt_buffers, "is_installed", lambda name: name in here)
    assert isinstance(open_buffers("auto"), CudaBuffers)
    packages["torch"] = StandInTorch(sees_gpu=True)
    assert isinstance(open_buffers("auto"), TorchBuffers)


def test_pycuda_uses_the_primary_context(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    copies: list[tuple[str, int]] = []
    driver = SimpleNamespace(
        mem_get_info=lambda: (1000, 2000),
        Stream=lambda: SimpleNamespace(handle=7, synchronize=lambda: copies.append(("wait", 0))),
        mem_alloc=lambda size: 4096 + size,
        pagelocked_zeros=lambda shape, dtype: np.zeros(shape, dtype),
        memcpy_htod_async=lambda to, of, stream: copies.append(("up", of.nbytes)),
        memcpy_dtoh_async=lambda to, of, stream: copies.append(("down", to.nbytes)),
    )

    def require(module: str, purpose: str) -> Any:
        asked.append(module)
        return driver

    monkeypatch.setattr(tensorrt_buffers, "require", require)
    buffers = PycudaBuffers()
    assert asked == ["pycuda.autoprimaryctx", "pycuda.driver"]  # never pycuda.autoinit
    stream, host, block = buffers.stream(), buffers.host((4, 3)), buffers.device(48)
    buffers.upload(host, block, 24, stream)
    buffers.download(block, host, 48, stream)
    buffers.wait(stream)
    assert copies == [("up", 24), ("down", 48), ("wait", 0)]
    assert (stream.handle, block.size) == (7, 48)


def test_the_first_installed_is_taken(monkeypatch: pytest.MonkeyPatch, cuda: StandInCuda) -> None:
    monkeypatch.setattr(tensorrt_buffers, "is_installed", lambda name: name == "cuda.bindings")
    assert isinstance(open_buffers("auto"), CudaBuffers)
    monkeypatch.setattr(tensorrt_buffers, "is_installed", lambda name: False)
    with pytest.raises(EngineError, match="torch, cuda-bindings or pycuda"):
        open_buffers("auto")


def test_pycuda_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.autoprimaryctx", None)
    with pytest.raises((MissingPackageError, ModuleNotFoundError)) as caught:
        open_buffers("pycuda")
    assert "pycuda" in str(caught.value)
