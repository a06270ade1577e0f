"""`embed` on a Ray cluster: CPU nodes decode shards, GPU nodes embed and write them.

    shards ─► decode (Ray Data, one task per shard) ─► embed (one actor per GPU) ─► shard files

The nodes share the files of the dataset, the store and the cache. The shards are those that one
machine writes: the same batches through the same engine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.embeddings.embed import Job
from dinorad_rt.embeddings.loader import Batch, Loader, Row, pack
from dinorad_rt.embeddings.store import Throughput
from dinorad_rt.errors import DinoradError, EngineError
from dinorad_rt.optional import require
from dinorad_rt.progress import uncounted

if TYPE_CHECKING:
    from dinorad_rt.preprocessing.spec import PreprocessSpec

LOCAL = "local"


def run_on_ray(
    job: Job, pending: Sequence[int], spec: PreprocessSpec, *, address: str
) -> Throughput | None:
    """Compute the pending shards on a cluster.

    Args:
        job: of one call of `embed`.
        pending: shards that are not there.
        spec: the preprocessing.
        address: as `ray.init` takes it (`auto`, `ray://HOST:10001`), or `local`.

    Returns:
        What was done; None if nothing was pending.

    Raises:
        MissingPackageError: Ray is not installed.
        EngineError: the cluster cannot be reached.
        DinoradError: whatever a node met, as on one machine.
    """
    total = sum(len(job.span(index)) for index in pending)
    job.progress(0, total)
    if not pending:
        return None
    ray = require("ray", "embedding on a cluster")
    require("ray.data", "embedding on a cluster")
    started_here = _connect(ray, address)
    try:
        return _run(ray, job, pending, spec, total)
    except Exception as error:
        raise _own(error) from error
    finally:
        if started_here:
            ray.shutdown()


def _connect(ray: Any, address: str) -> bool:
    """Join the cluster; True if this call did."""
    if ray.is_initialized():
        return False
    try:
        if address == LOCAL:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="warning")
        else:
            ray.init(address=address, log_to_driver=False, logging_level="warning")
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise EngineError(
            f"The Ray cluster at {address!r} cannot be joined: {said}",
            "Start it (ray start --head) and give its address, or use --ray local.",
        ) from error
    return True


def _run(
    ray: Any, job: Job, pending: Sequence[int], spec: PreprocessSpec, total: int
) -> Throughput:
    gpus = int(ray.cluster_resources().get("GPU", 0))
    remote = ray.put(replace(job, progress=uncounted))
    actors = gpus or 1
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    start = time.perf_counter()
    shards = ray.data.from_items(
        [{"shard": index} for index in pending], override_num_blocks=len(pending)
    )
    decoded = shards.map(_decode, fn_kwargs={"job": remote, "spec": spec}, num_cpus=1)
    written = decoded.map(
        _Embedder,
        fn_constructor_kwargs={"job": remote},
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_gpus=1 if gpus else 0,
        num_cpus=0 if gpus else 1,
    )
    done = 0
    for row in written.iter_rows():
        done += int(row["samples"])
        job.progress(done, total)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return Throughput(total, time.perf_counter() - start, f"ray, {actors} engines", cpus)


def _decode(row: dict[str, Any], job: Any, spec: PreprocessSpec) -> dict[str, Any]:
    """Read and preprocess one shard on a CPU node."""
    import ray

    job = ray.get(job)
    wanted = [job.samples[at] for at in job.span(int(row["shard"]))]
    with Loader(spec, workers=1, mode="threads") as loader:
        rows = list(loader.rows(wanted))
    good = [one.pixels for one in rows if one.pixels is not None]
    size = spec.image_size
    pixels = np.stack(good) if good else np.empty((0, 3, size, size), np.float32)
    return {
        "shard": row["shard"],
        "rows": [replace(one, pixels=None) for one in rows],
        "pixels": pixels,
    }


class _Embedder:
    """Holds an engine; takes decoded shards and writes them."""

    def __init__(self, job: Any) -> None:
        import ray

        from dinorad_rt.engines.build import open_runner

        self.job: Job = ray.get(job)
        self.runner = open_runner(self.job.engine).__enter__()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        index = int(row["shard"])
        job, size = self.job, int(self.job.engine.input_shape[-1])
        rows = _joined(row["rows"], np.asarray(row["pixels"]))
        batches: Generator[Batch, None, None] = pack(iter(rows), job.engine.batch, size)
        job.write_shard(index, batches, self.runner)
        return {"shard": index, "samples": len(job.span(index))}


def _own(error: BaseException) -> BaseException:
    """The error that a node met, out of Ray's wrappings."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, DinoradError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return error


def _joined(rows: Sequence[Row], pixels: np.ndarray) -> list[Row]:
    """Give the rows that did not fail their pixels back, in order."""
    images = iter(pixels)
    return [one if one.reason else replace(one, pixels=next(images)) for one in rows]
