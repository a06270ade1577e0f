"""Images in the order of the samples, decoded and preprocessed by several workers ahead of use.

Threads or processes: decoding PNG and JPEG and the native preprocessing run without Python's
global lock, so threads do as well as processes and cost no copies (512 x 512 PNG: 0.9 ms of
processor time, reading to Parquet). Parsing DICOM or NIfTI holds the lock. On two cores that does
not matter yet (both modes measure alike), but it bounds threads to about one core's worth however
many there are, so from three workers on such files go to processes. The slices of one volume are
preprocessed by threads of the main process in both cases.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from dinorad_rt.datasets.dataset import Sample
from dinorad_rt.embeddings.decode import Bad, Decoder, Image, Loaded, Volume
from dinorad_rt.embeddings.worker import WorkerProcess, is_supported
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.studies.study import Study

Mode = Literal["auto", "threads", "processes"]

MEMORY_SHARE = 8
"""Decoded images that wait may fill 1/8 of the machine's memory."""
PROCESSES_FROM = 3
"""Cores from which processes pay for files whose parsing holds the global lock."""
_NO_FRAME = "the file has no frame of this number (they are counted from 0)"


@dataclass(frozen=True)
class Row:
    """One image or slice on its way to the engine, or why there is none.

    Attributes:
        sample: index into the samples.
        pixels: (3, size, size) float32; None if it failed.
        slice: of a volume, or the sample's frame; None for a single image or a whole file.
        study, series: pseudonymous keys that the file itself gave.
        reason: why it failed; empty if it did not.
        last: True for the sample's last row.
    """

    sample: int
    pixels: np.ndarray | None
    slice: int | None = None
    study: str | None = None
    series: str | None = None
    reason: str = ""
    last: bool = True


@dataclass(frozen=True)
class Batch:
    """Rows for one call of the engine.

    Attributes:
        pixels: (rows, 3, size, size) float32, valid until the next batch is asked for.
        rows: in order, without their pixels; those that failed are among them.
    """

    pixels: np.ndarray
    rows: tuple[Row, ...]


class Loader:
    """Reads samples in order, several ahead. A context manager; used by one thread.

    Attributes:
        workers: decoders at work.
        mode: `threads` or `processes`; `auto` until the first file was looked at.
    """

    def __init__(
        self,
        spec: PreprocessSpec,
        *,
        workers: int | None = None,
        mode: Mode = "auto",
        ahead: int = 16,
    ) -> None:
        """Choose the workers; nothing is started before the first file.

        Args:
            spec: the preprocessing.
            workers: at work at once; None for every usable core.
            mode: threads, processes, or by the content of the first file.
            ahead: images that may wait at most.
        """
        from dinorad_rt.machine import usable_cores

        self._spec = spec
        self.mode: Mode = mode
        self.workers = max(1, usable_cores() if workers is None else workers)
        self._ahead = max(ahead, self.workers + 1)
        self._decoder = Decoder(spec)
        self._local = threading.local()
        self._processes: list[WorkerProcess] = []
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._budget = _memory_budget()
        self._largest = 3 * spec.image_size**2 * 4

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.close()
        self._pools.clear()
        self._processes.clear()

    def rows(self, samples: Sequence[Sample]) -> Iterator[Row]:
        """Every image and slice of the samples, in order.

        Raises:
            MissingPackageError: a file needs a package that is not installed.
        """
        if not samples:
            return
        load = self._load_function(samples[0].path)
        files = deque(_files(samples))
        pending: deque[tuple[range, Future[Loaded]]] = deque()
        seen = False
        while files or pending:
            while files and self._may_start(len(pending), seen):
                span = files.popleft()
                first = samples[span.start]
                frame = first.frame if len(span) == 1 else None
                pending.append((span, self._pool("files").submit(load, first.path, frame)))
            span, future = pending.popleft()
            loaded = future.result()
            seen = True
            if isinstance(loaded, Volume):
                self._largest = max(self._largest, loaded.study.pixels.nbytes)
            yield from self._rows_of(samples, span, loaded)

    def _may_start(self, pending: int, seen: bool) -> bool:
        """Bound what waits: by number, and, since volumes may come, by memory."""
        if not seen:
            return pending < self.workers
        return pending == 0 or (
            pending < self._ahead and (pending + 1) * self._largest < self._budget
        )

    def _rows_of(self, samples: Sequence[Sample], span: range, loaded: Loaded) -> Iterator[Row]:
        if isinstance(loaded, Bad):
            for index in span:
                yield Row(index, None, samples[index].frame, reason=loaded.reason)
        elif isinstance(loaded, Image):
            for index in span:
                at = samples[index].frame
                yield _row(index, at, Bad(_NO_FRAME) if len(span) > 1 and at else loaded)
        elif samples[span.start].frame is None:
            slices = range(loaded.study.num_slices)
            for at, image in self._slices(loaded.study, samples[span.start].path, slices):
                yield _row(span.start, at, image, last=at == slices[-1])
        else:
            wanted = [samples[index].frame or 0 for index in span]
            images = self._slices(loaded.study, samples[span.start].path, wanted)
            for index, (at, image) in zip(span, images, strict=True):
                yield _row(index, at, image)

    def _slices(
        self, study: Study, path: Path, wanted: Sequence[int]
    ) -> Iterator[tuple[int, Image | Bad]]:
        """Preprocess slices of a volume side by side, at most `ahead` of them waiting."""

        def one(index: int) -> Image | Bad:
            if index >= study.num_slices:
                return Bad(_NO_FRAME)
            return self._decoder.image(study.slice(index), path)

        pending: deque[tuple[int, Future[Image | Bad]]] = deque()
        for index in wanted:
            if len(pending) >= self._ahead:
                at, future = pending.popleft()
                yield at, future.result()
            pending.append((index, self._pool("slices").submit(one, index)))
        for at, future in pending:
            yield at, future.result()

    def _load_function(self, first: Path) -> Callable[[Path, int | None], Loaded]:
        if self.mode == "auto":
            several = self.workers >= PROCESSES_FROM and _is_parsed(first)
            self.mode = "processes" if several and is_supported() else "threads"
        return self._decoder.load if self.mode == "threads" else self._load_in_process

    def _load_in_process(self, path: Path, frame: int | None) -> Loaded:
        """Each thread of the pool stands before one process and waits for it."""
        process: WorkerProcess | None = getattr(self._local, "process", None)
        if process is None:
            process = self._local.process = WorkerProcess(self._spec)
            self._processes.append(process)
        return process.load(path, frame)

    def _pool(self, name: str) -> ThreadPoolExecutor:
        if name not in self._pools:
            self._pools[name] = ThreadPoolExecutor(self.workers, thread_name_prefix=name)
        return self._pools[name]


def load_batches(
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    *,
    batch: int,
    workers: int | None = None,
    mode: Mode = "auto",
) -> Iterator[Batch]:
    """Batches of all samples, in order, through a `Loader` of their own.

    Args:
        samples: what to read.
        spec: the preprocessing.
        batch: rows per batch; the last one may have fewer.
        workers, mode: see `Loader`.
    """
    with Loader(spec, workers=workers, mode=mode, ahead=2 * batch) as loader:
        yield from pack(loader.rows(samples), batch, spec.image_size)


def pack(
    rows: Iterator[Row], batch: int, size: int, every: int | None = None
) -> Generator[Batch, None, None]:
    """Put rows into batches, in one buffer that is used again.

    Args:
        rows: in order.
        batch: rows per batch.
        size: side of an image.
        every: a batch never holds samples of two groups of this many, so that what is computed
            together does not depend on where a run was interrupted; None for no such bound.
    """
    buffer = np.empty((batch, 3, size, size), np.float32)
    held: list[Row] = []
    filled = 0
    for row in rows:
        if held and every is not None and row.sample // every != held[0].sample // every:
            yield Batch(buffer[:filled], tuple(held))
            held, filled = [], 0
        if row.pixels is not None:
            buffer[filled] = row.pixels
            filled += 1
        held.append(replace(row, pixels=None))
        if filled == batch:
            yield Batch(buffer, tuple(held))
            held, filled = [], 0
    if held:
        yield Batch(buffer[:filled], tuple(held))


def _row(index: int, at: int | None, image: Image | Bad, *, last: bool = True) -> Row:
    if isinstance(image, Bad):
        return Row(index, None, at, reason=image.reason, last=last)
    return Row(index, image.pixels, at, image.study, image.series, last=last)


def _files(samples: Sequence[Sample]) -> Iterator[range]:
    """Neighbouring samples that are frames of one file are read together."""
    start = 0
    for index in range(1, len(samples) + 1):
        if index < len(samples) and (
            samples[index].path == samples[start].path
            and samples[index].frame is not None
            and samples[start].frame is not None
        ):
            continue
        yield range(start, index)
        start = index


def _is_parsed(path: Path) -> bool:
    """True for files whose reading holds the global lock: all but raster images."""
    from dinorad_rt.studies.read import HEAD_BYTES, sniff

    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD_BYTES), path) not in ("raster", None)
    except OSError:
        return path.is_dir()


def _memory_budget() -> int:
    """Bytes that may wait: a share of what the machine, or its container, has."""
    from dinorad_rt.machine import memory_gib

    return int(memory_gib() * 2**30) // MEMORY_SHARE or 1 << 30
