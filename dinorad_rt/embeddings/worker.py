"""A decoding worker in a process of its own, and the end of it that the main process holds.

Parsing DICOM holds Python's global lock, so threads alone do not scale; a decoder that crashes on
a malicious file takes a worker with it and not the job. The worker is a plain interpreter that
imports readers and preprocessing only (no torch, and not the user's `__main__`). Pixels come back
through memory that both map: an anonymous file without a name, so nothing is left behind by a
kill, and the small /dev/shm of a container does not matter.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.embeddings.decode import Bad, Decoder, Image, Loaded, Volume
from dinorad_rt.errors import DinoradError
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.studies.malloc import keep_freed_memory

ATTEMPTS = 2
"""A crash may have come from outside (memory); a second one in a fresh worker blames the file."""

_START = (
    "import json, sys; path, *rest = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from dinorad_rt.embeddings.worker import serve; serve(*rest)"
)


def is_supported() -> bool:
    """True where file handles can be handed to a child process (not on Windows)."""
    return os.name == "posix"


class WorkerProcess:
    """The main process's end of one worker; used by one thread at a time."""

    def __init__(self, spec: PreprocessSpec) -> None:
        """Nothing is started before the first `load`."""
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, path: Path, frame: int | None = None) -> Loaded:
        """As `Decoder.load`, in the worker; a file that crashes the worker is bad."""
        status = 0
        for _ in range(ATTEMPTS):
            if self._process is None:
                self._start()
            try:
                self._pipe.send((str(path), frame))
                return self._received(self._pipe.recv())
            except (EOFError, OSError):
                status = self._dismissed()
        return Bad(f"its decoder crashed ({_named(status)})")

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._pipe.close()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._dismissed()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        self._memory = _anonymous_file()
        handles = (theirs.fileno(), self._memory)
        spec = json.dumps([sys.path, *handles, self._spec.as_dict()])
        # BLAS threads: each worker is one thread, the engine owns the cores
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, spec],
            pass_fds=handles,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()

    def _dismissed(self) -> int:
        """Exit status of a worker that is gone."""
        assert self._process is not None
        self._pipe.close()
        os.close(self._memory)
        status = self._process.wait()
        self._process = None
        return status

    def _received(self, reply: Any) -> Loaded:
        """What the worker sent, with its pixels copied out of the common memory."""
        if isinstance(reply, DinoradError):
            raise reply
        loaded: Loaded
        loaded, shape, dtype = reply
        if isinstance(loaded, Bad):
            return loaded
        pixels = np.empty(shape, dtype)
        with mmap.mmap(self._memory, pixels.nbytes, access=mmap.ACCESS_READ) as common:
            flat = np.frombuffer(common, np.uint8, pixels.nbytes)
            pixels.reshape(-1).view(np.uint8)[:] = flat
            del flat
        if isinstance(loaded, Volume):
            return Volume(replace(loaded.study, pixels=pixels))
        return replace(loaded, pixels=pixels)


def serve(pipe_handle: int, memory: int, spec: dict[str, Any]) -> None:
    """Answer requests until the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's affair
    keep_freed_memory()
    pipe = Connection(pipe_handle)
    decoder = Decoder(PreprocessSpec(**_tuples(spec)))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            path, frame = pipe.recv()
            try:
                loaded = decoder.load(Path(path), frame)
            except DinoradError as error:
                pipe.send(error)
                continue
            pipe.send(_published(loaded, memory))


def _published(loaded: Loaded, memory: int) -> tuple[Loaded, tuple[int, ...], str]:
    """Write the pixels where the main process sees them; the reply without them."""
    if isinstance(loaded, Bad):
        return loaded, (), ""
    source = loaded.pixels if isinstance(loaded, Image) else loaded.study.pixels
    source = np.ascontiguousarray(source)
    if os.fstat(memory).st_size < source.nbytes:
        os.ftruncate(memory, source.nbytes)
    with mmap.mmap(memory, source.nbytes) as common:
        flat = np.frombuffer(common, np.uint8, source.nbytes)
        flat[:] = source.reshape(-1).view(np.uint8)
        del flat
    none = np.empty((0,), source.dtype)
    if isinstance(loaded, Image):
        return replace(loaded, pixels=none), source.shape, source.dtype.str
    return Volume(replace(loaded.study, pixels=none)), source.shape, source.dtype.str


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dinorad-rt")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _tuples(spec: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples: lists, also within lists, become tuples again."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list) else value

    return {key: frozen(value) for key, value in spec.items()}


def _named(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
