"""A pipeline around backends whose only call blocks: worker threads, outside the GIL meanwhile."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.runners.base import AbstractRunner, Rows

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine


class AbstractThreadedRunner(AbstractRunner):
    """A runner whose backend only has a blocking call: `workers` threads make it a pipeline."""

    def __init__(self, engine: Engine, *, workers: int = 1) -> None:
        super().__init__(engine, look_ahead=workers + 1)
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def _submit(self, chunk: np.ndarray) -> Future[Rows]:
        return self._workers_pool().submit(self._run, np.array(chunk, order="C"))

    def _in_worker(self, run: Callable[[], object]) -> None:
        """Run something where calls run: with the same number of threads."""
        self._workers_pool().submit(run).result()

    def _workers_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self._workers, thread_name_prefix=self.backend, initializer=self._prepare_thread
            )
        return self._pool

    def _collect(self, ticket: Future[Rows]) -> Rows:
        return ticket.result()

    def _release(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._unload()

    @abstractmethod
    def _prepare_thread(self) -> None:
        """Called once in each worker thread."""

    @abstractmethod
    def _unload(self) -> None:
        """Free the engine after the last call."""

    @abstractmethod
    def _run(self, chunk: np.ndarray) -> Rows:
        """Run on 1 to `batch` rows; called in a worker thread."""
