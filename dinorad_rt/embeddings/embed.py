"""`embed`: every image of a dataset through an engine into a store; stops and goes on safely.

The samples are cut into shards of a fixed number. A shard is computed in batches that never reach
into the next one, so its bytes do not depend on where an earlier run was stopped, and it gets its
name only when it is whole. What is there is not computed again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dinorad_rt import identifiers
from dinorad_rt.embeddings.loader import Batch, Loader, Row, pack
from dinorad_rt.embeddings.provenance import ordered_samples, provenance_of
from dinorad_rt.embeddings.shards import RowKey, ShardWriter, shard_path
from dinorad_rt.embeddings.store import EmbeddingStore, Throughput
from dinorad_rt.embeddings.table import Failure
from dinorad_rt.errors import DataError, EmptyDataError, EngineError
from dinorad_rt.progress import Progress, uncounted

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.runners.base import AbstractRunner, Rows

SHARD_ROWS = 256


def embed(
    dataset: Dataset,
    engine: Engine,
    spec: PreprocessSpec,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    shard_rows: int = SHARD_ROWS,
    shard: tuple[int, int] = (0, 1),
    retry_failed: bool = False,
    ray: str | None = None,
    progress: Progress | None = None,
) -> EmbeddingStore:
    """Embed the samples of a dataset; go on where an earlier run of the same question stopped.

    Args:
        dataset: from `open_dataset`.
        engine: from `get_or_build`.
        spec: preprocessing, of the engine's input size.
        out: folder of the store; None for the cache, one folder for each question.
        workers: decoders at work; None for every usable core.
        shard_rows: samples per shard of a new store, rounded up to whole batches; an existing
            store keeps its own.
        shard: (i, n): only every n-th shard from the i-th, for n processes that share a store.
        retry_failed: try files again that failed in an earlier run.
        ray: address of a Ray cluster whose nodes share the files, or `local`: CPU nodes decode,
            GPU nodes embed. None for this machine alone.
        progress: called with (done, total) samples of this part.

    Returns:
        The store; complete unless other parts are still to come.

    Raises:
        OutputExistsError: `out` holds something else, or a store of another question.
        EmptyDataError: the dataset has no images, or none of them could be read.
        EngineError: an embedding is NaN or infinite; its images are named.
        MissingPackageError: a format needs a package that is not installed.
        NoSpaceError: the disk is full; complete shards stay.
    """
    part, parts = _checked(shard, shard_rows)
    samples = ordered_samples(dataset)
    if not samples:
        raise EmptyDataError(f"{dataset.name} has no images.", "Check --data.")
    rows = min(shard_rows, max(1, -(-len(samples) // parts)))
    rows = -(-rows // engine.batch) * engine.batch
    store = EmbeddingStore.create(*_place(out, provenance_of(dataset, engine, spec, samples, rows)))
    job = Job(store, dataset, engine, samples, progress or uncounted)
    mine = range(part, store.num_shards, parts)
    if ray is None:
        throughput = job.run(mine, spec, workers, retry_failed)
    else:
        from dinorad_rt.embeddings.cluster import run_on_ray

        throughput = run_on_ray(job, job.pending(mine, retry_failed), spec, address=ray)
    kept = identifiers.are_kept()
    store.write_failures({s.sample_id: dataset.name_of(s) for s in samples if kept})
    _refuse_nothing(store)
    return replace(store, throughput=throughput)


@dataclass(frozen=True)
class Job:
    """One call of `embed`.

    Attributes:
        store: that is filled.
        dataset: for the names of its samples.
        engine: that embeds.
        samples: all of the store, in its order.
        progress: told of samples that are done.
    """

    store: EmbeddingStore
    dataset: Dataset
    engine: Engine
    samples: Sequence[Sample]
    progress: Progress

    def run(
        self, mine: range, spec: PreprocessSpec, workers: int | None, retry_failed: bool
    ) -> Throughput | None:
        """Compute the shards of this part that are not there; None if all were."""
        from dinorad_rt.engines.build import open_runner

        pending = self.pending(mine, retry_failed)
        total = sum(len(self.span(index)) for index in mine)
        done = total - sum(len(self.span(index)) for index in pending)
        self.progress(done, total)
        if not pending:
            return None
        wanted = [self.samples[at] for index in pending for at in self.span(index)]
        ahead = 2 * self.engine.batch
        with (
            open_runner(self.engine) as runner,
            Loader(spec, workers=workers, ahead=ahead) as loader,
        ):
            start = time.perf_counter()
            rows = loader.rows(wanted)
            batches = pack(rows, self.engine.batch, spec.image_size, every=self.store.shard_rows)
            sink = _Sink(self, pending, wanted, (done, total))
            with closing(batches), closing(sink):
                drive(runner, batches, sink)
            mode, count = loader.mode, loader.workers
        return Throughput(len(wanted), time.perf_counter() - start, mode, count)

    def write_shard(
        self, index: int, batches: Generator[Batch, None, None], runner: AbstractRunner
    ) -> None:
        """Embed the batches of one shard and write it."""
        wanted = [self.samples[at] for at in self.span(index)]
        sink = _Sink(self, [index], wanted, (0, len(wanted)))
        with closing(batches), closing(sink):
            drive(runner, batches, sink)

    def span(self, index: int) -> range:
        """Samples of a shard."""
        rows = self.store.shard_rows
        return range(index * rows, min((index + 1) * rows, len(self.samples)))

    def pending(self, mine: range, retry_failed: bool = False) -> list[int]:
        """Shards to compute: absent ones, and on a retry those with failures."""
        footers = self.store.footers(mine)
        failed = {index for index, footer in footers.items() if footer.failures}
        if failed and not retry_failed and _holds_rows(self.store):
            failed = set()
        return [index for index in mine if index not in footers or index in failed]


class _Sink:
    """Takes rows in order and writes one shard after the other."""

    def __init__(
        self, job: Job, pending: Sequence[int], wanted: Sequence[Sample], count: tuple[int, int]
    ) -> None:
        self._job, self._pending, self._wanted = job, pending, wanted
        self._done, self._total = count
        self._base = self._done
        self._writer: ShardWriter | None = None

    def take(self, batch: Batch, outputs: Rows | None) -> None:
        """Store a batch; all its rows belong to one shard."""
        rows = self._job.store.shard_rows
        at = batch.rows[0].sample // rows
        if self._writer is None:
            target = shard_path(self._job.store.folder, self._pending[at])
            self._writer = ShardWriter(target, self._job.store.layout)
        good = [row for row in batch.rows if not row.reason]
        if outputs is not None:
            self._check(good, outputs)
            mean = outputs.get("patch_mean") if self._job.store.layout.patch_mean else None
            cls = outputs["cls"].reshape(len(good), -1)
            self._writer.add([self._key(row) for row in good], cls, mean)
        for row in batch.rows:
            if row.reason:
                sample = self._wanted[row.sample]
                self._writer.fail(Failure(sample.sample_id, "", row.reason, row.slice))
        self._advance(batch.rows[-1], at, rows)

    def close(self) -> None:
        """Remove a shard that was not finished."""
        if self._writer is not None:
            self._writer.abort(RuntimeError("stopped before the shard was whole"))

    def _advance(self, row: Row, at: int, rows: int) -> None:
        finished = row.sample + row.last
        end = min((at + 1) * rows, len(self._wanted))
        if finished == end and self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.finish(end - at * rows)
            except BaseException as error:
                writer.abort(error)
                raise
        done = self._base + finished
        if done > self._done:
            self._done = done
            self._job.progress(done, self._total)

    def _key(self, row: Row) -> RowKey:
        return RowKey(self._wanted[row.sample], row.slice, row.study, row.series)

    def _called(self, sample: Sample) -> str:
        if identifiers.are_kept():
            return self._job.dataset.name_of(sample)
        return f"sample {sample.sample_id[:12]}"

    def _check(self, good: Sequence[Row], outputs: Rows) -> None:
        """Refuse embeddings that are NaN or infinite."""
        finite = np.ones(len(good), bool)
        for name in ("cls", "patch_mean"):
            if name in outputs:
                finite &= np.isfinite(outputs[name].reshape(len(good), -1)).all(axis=1)
        if finite.all():
            return
        bad = [good[int(at)] for at in np.flatnonzero(~finite)]
        named = [
            self._called(self._wanted[row.sample])
            + ("" if row.slice is None else f" (slice {row.slice})")
            for row in bad
        ]
        engine = self._job.engine
        raise EngineError(
            f"The {engine.backend} engine of {engine.model} in {engine.precision} gave NaN or "
            f"infinite embeddings for {len(bad)} of {len(good)} images of a batch: "
            f"{', '.join(named[:8])}{' ...' if len(named) > 8 else ''}. Nothing of them is stored.",
            "Take a wider precision (--precision bf16, mixed or fp32), or look at these images: "
            "dinorad-rt inspect",
        )


class Sink(Protocol):
    """Takes the batches of `drive` in order."""

    def take(self, batch: Batch, outputs: Rows | None) -> None:
        """Use a batch; None if none of its rows could be read."""


def drive(runner: AbstractRunner, batches: Iterator[Batch], sink: Sink) -> None:
    """Batches through the engine, several at once; results and failures reach the sink in order."""
    waiting: deque[Batch] = deque()

    def feed() -> Iterator[np.ndarray]:
        for batch in batches:
            waiting.append(batch)
            if len(batch.pixels):
                yield batch.pixels

    results = runner.infer_stream(feed())
    with closing(results):  # type: ignore[type-var]
        for outputs in results:
            while not len(waiting[0].pixels):
                sink.take(waiting.popleft(), None)
            sink.take(waiting.popleft(), outputs)
    while waiting:
        sink.take(waiting.popleft(), None)


def _checked(shard: tuple[int, int], shard_rows: int) -> tuple[int, int]:
    part, parts = shard
    if not 0 <= part < parts:
        raise DataError(f"Part {part} of {parts} does not exist.", "Use (i, n) with 0 <= i < n.")
    if shard_rows < 1:
        raise DataError(f"A shard cannot hold {shard_rows} samples.", "Use at least 1.")
    return part, parts


def _place(
    out: str | Path | None, provenance: dict[str, object]
) -> tuple[str | Path, dict[str, object]]:
    if out is not None:
        return out, provenance
    from dinorad_rt.paths import cache_dir

    return cache_dir("embeddings") / str(provenance["key"]), provenance


def _refuse_nothing(store: EmbeddingStore) -> None:
    """All images bad is an error, not an empty store."""
    if _holds_rows(store) or store.missing_shards():
        return
    failures = store.failures()
    shown = "\n".join(f"  {item.path or 'an image'}: {item.reason}" for item in failures[:3])
    raise EmptyDataError(
        f"None of the {store.provenance['layout']['samples']} images could be read:\n{shown}",
        "Check the data with `dinorad-rt inspect`; all reasons stand in failures.parquet of the "
        "store. The next run tries again.",
    )


def _holds_rows(store: EmbeddingStore) -> bool:
    return any(footer.rows for footer in store.footers().values())
