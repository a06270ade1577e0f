"""The surface that all runners share: order, padding, bounded look-ahead, clear refusals."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dinorad_rt.errors import EngineError
from dinorad_rt.runners.base import AbstractRunner, Rows, pad_rows
from dinorad_rt.runners.threaded import AbstractThreadedRunner

ENGINE: Any = SimpleNamespace(input_shape=(3, 2, 2), batch=4, outputs={"patch_mean": (2,)})


def _outputs(chunk: np.ndarray) -> Rows:
    means = chunk.reshape(len(chunk), -1).mean(axis=1)
    return {"patch_mean": np.stack([means, -means], axis=1)}


class _Counting(AbstractRunner):
    """Pads to the batch like a static engine and counts calls in flight."""

    backend = "counting"

    def __init__(self) -> None:
        super().__init__(ENGINE, look_ahead=3)
        self.flying = self.most = self.calls = 0

    def _activate(self) -> None:
        pass

    def _release(self) -> None:
        pass

    def _submit(self, chunk: np.ndarray) -> np.ndarray:
        self.calls += 1
        self.flying += 1
        self.most = max(self.most, self.flying)
        return np.array(pad_rows(chunk, self.batch))

    def _collect(self, ticket: np.ndarray) -> Rows:
        self.flying -= 1
        return _outputs(ticket)


class _Threaded(AbstractThreadedRunner):
    backend = "threaded"

    def __init__(self) -> None:
        super().__init__(ENGINE, workers=2)
        self.unloaded = False

    def _activate(self) -> None:
        pass

    def _prepare_thread(self) -> None:
        pass

    def _unload(self) -> None:
        self.unloaded = True

    def _run(self, chunk: np.ndarray) -> Rows:
        if np.isnan(chunk).any():
            raise ValueError("planted")
        return _outputs(chunk)


def _batches(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, 3, 2, 2)).astype(np.float32) for n in sizes]


@pytest.mark.parametrize("kind", [_Counting, _Threaded])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 9])
def test_any_batch_is_split_and_padded(kind: Any, rows: int) -> None:
    (batch,) = _batches(rows)
    with kind() as runner:
        found = runner.infer(batch)["patch_mean"]
    np.testing.assert_array_equal(found, _outputs(batch)["patch_mean"])


@pytest.mark.parametrize("kind", [_Counting, _Threaded])
def test_stream_keeps_order_and_sizes(kind: Any) -> None:
    batches = _batches(4, 1, 9, 2, 4, 8, 3)
    with kind() as runner:
        results = list(runner.infer_stream(batches))
    assert [len(rows["patch_mean"]) for rows in results] == [4, 1, 9, 2, 4, 8, 3]
    for rows, batch in zip(results, batches, strict=True):
        np.testing.assert_array_equal(rows["patch_mean"], _outputs(batch)["patch_mean"])


def test_look_ahead_is_used_and_bounded() -> None:
    pulled = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal pulled
        for batch in _batches(*[4] * 20):
            pulled += 1
            yield batch

    with _Counting() as runner:
        for done, _ in enumerate(runner.infer_stream(source())):
            assert pulled - done <= runner.look_ahead + 1
        assert runner.most == runner.look_ahead


@pytest.mark.parametrize("kind", [_Counting, _Threaded])
def test_owner_may_reuse_its_buffer(kind: Any) -> None:
    """As a pipeline with one shared-memory buffer does."""
    buffer = np.empty((4, 3, 2, 2), np.float32)

    def source() -> Iterator[np.ndarray]:
        for value in range(6):
            buffer[:] = value
            yield buffer

    with kind() as runner:
        means = [rows["patch_mean"][0, 0] for rows in runner.infer_stream(source())]
    assert means == [0, 1, 2, 3, 4, 5]


def test_stream_left_early_waits_for_what_flies() -> None:
    with _Counting() as runner:
        stream = runner.infer_stream(_batches(4, 4, 4, 4))
        next(stream)
        with pytest.raises(EngineError, match="unfinished infer_stream"):
            runner.infer(_batches(1)[0])
        stream.close()
        assert runner.flying == 0
        runner.infer(_batches(1)[0])


def test_error_of_the_source_or_the_engine_reaches_the_caller() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from _batches(4, 4)
        raise OSError("planted")

    with _Counting() as runner:
        with pytest.raises(OSError, match="planted"):
            list(runner.infer_stream(broken()))
        assert runner.flying == 0
    with _Threaded() as threaded:
        with pytest.raises(ValueError, match="planted"):
            threaded.infer(np.full((1, 3, 2, 2), np.nan, np.float32))
        threaded.infer(_batches(1)[0])
    assert threaded.unloaded


def test_a_second_stream_waits_for_the_end_of_the_first() -> None:
    """Both would share the engine's buffers."""
    with _Counting() as runner:
        first, second = (runner.infer_stream(_batches(4, 4)) for _ in range(2))
        next(first)
        with pytest.raises(EngineError, match="unfinished infer_stream"):
            next(second)
        next(first)
        assert next(first, None) is None and runner.flying == 0


def test_two_threads_never_share_a_call() -> None:
    """One is refused, at whatever moment it comes: both would write into the engine's buffers."""

    class Meeting(_Counting):
        """Two threads that have passed the check meet, as they may at any bytecode."""

        checked = threading.Barrier(2)

        def _check_free(self) -> None:
            super()._check_free()
            if threading.current_thread() is not threading.main_thread():
                with contextlib.suppress(threading.BrokenBarrierError):
                    self.checked.wait(timeout=1)

        def _submit(self, chunk: np.ndarray) -> np.ndarray:
            found = super()._submit(chunk)
            time.sleep(0.2)
            return found

    def call(_: int) -> str:
        try:
            return str(len(runner.infer(_batches(4)[0])["patch_mean"]))
        except EngineError as error:
            return error.problem

    with Meeting() as runner:
        with ThreadPoolExecutor(2) as pool:
            found = sorted(pool.map(call, range(2)))
        assert found[0] == "4" and "call of another thread" in found[1]
        assert runner.most == 1
        assert len(runner.infer(_batches(3)[0])["patch_mean"]) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_refused_and_does_not_hang() -> None:
    """Its copy of the runner has no threads: what it hands to them would never come back."""
    with _Threaded() as runner:
        runner.infer(_batches(1)[0])
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()

        def child() -> None:
            try:
                runner.infer(_batches(1)[0])
            except EngineError as error:
                there.send(error.problem)

        process = context.Process(target=child, daemon=True)
        process.start()
        assert here.poll(20), "the child hangs"
        assert "opened in another process" in here.recv()
        process.join()
        assert len(runner.infer(_batches(2)[0])["patch_mean"]) == 2


def test_a_runner_works_again_after_several_calls_failed() -> None:
    """The first error is told, every call is waited for, and the next stream may begin."""

    class Failing(_Counting):
        def _collect(self, ticket: np.ndarray) -> Rows:
            rows = super()._collect(ticket)
            if np.isnan(ticket).any():
                raise OSError(f"call {self.calls}")
            return rows

    bad = np.full((4, 3, 2, 2), np.nan, np.float32)
    with Failing() as runner:
        with pytest.raises(OSError, match="call 3"):
            list(runner.infer_stream([bad, bad, bad, bad]))
        assert runner.flying == 0
        assert len(runner.infer(_batches(1)[0])["patch_mean"]) == 1


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((1, 3, 2, 3), np.float32), r"takes \(batch, 3, 2, 2\); got \(1, 3, 2, 3\)"),
        (np.zeros((3, 2, 2), np.float32), r"got \(3, 2, 2\)"),
        (np.zeros((1, 3, 2, 2), np.float64), "takes float32; got float64"),
        (np.zeros((0, 3, 2, 2), np.float32), "is empty"),
    ],
)
def test_wrong_input_is_refused(batch: np.ndarray, message: str) -> None:
    with _Counting() as runner:
        with pytest.raises(EngineError, match=message):
            runner.infer(batch)
        with pytest.raises(EngineError, match=message):
            list(runner.infer_stream([batch]))
        runner.infer(_batches(1)[0])


def test_nothing_runs_outside_with() -> None:
    runner = _Counting()
    with pytest.raises(EngineError, match="context manager"):
        runner.infer(_batches(1)[0])
    with pytest.raises(EngineError, match="context manager"):
        runner.infer_stream(_batches(1))
