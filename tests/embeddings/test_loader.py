"""The loader: order, bounds, threads and processes alike, and what a crash of a worker does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dinorad_rt.datasets.dataset import Sample
from dinorad_rt.embeddings import loader as module
from dinorad_rt.embeddings.decode import Bad, Decoder, Image, Volume
from dinorad_rt.embeddings.loader import Loader, load_batches
from dinorad_rt.embeddings.worker import WorkerProcess


def _mixed(root: Path, fakes: ModuleType) -> list[Sample]:
    """PNGs with a bad one, and a volume between them."""
    samples = list(fakes.png_dataset(root, count=9, bad=(4,)).samples)
    volume = np.random.default_rng(2).normal(size=(7, 30, 22)).astype(np.float32)
    np.save(root / "volume.npy", volume)
    samples.insert(3, Sample("volume", root / "volume.npy", "v", "train", (0,)))
    return samples


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_and_processes_give_the_same_rows_in_order(
    fakes: ModuleType, tmp_path: Path, workers: int
) -> None:
    samples = _mixed(tmp_path, fakes)
    found: dict[str, Any] = {}
    for mode in ("threads", "processes"):
        with Loader(fakes.SPEC, workers=workers, mode=mode, ahead=4) as loader:
            found[mode] = list(loader.rows(samples))
    keys = [(row.sample, row.slice, row.last, row.reason) for row in found["threads"]]
    assert keys == [(row.sample, row.slice, row.last, row.reason) for row in found["processes"]]
    assert [key[0] for key in keys] == [0, 1, 2, *[3] * 7, *range(4, 10)]
    assert [key[1] for key in keys if key[0] == 3] == list(range(7))
    assert sum(key[2] for key in keys) == len(samples) and keys[11][3]
    for left, right in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(left.pixels, right.pixels)


def test_batches_reuse_one_buffer(fakes: ModuleType, tmp_path: Path) -> None:
    samples = fakes.png_dataset(tmp_path, count=10).samples
    seen = [
        (len(b.pixels), b.pixels.base is None, b.pixels.copy())
        for b in load_batches(samples, fakes.SPEC, batch=4, workers=2)
    ]
    assert [size for size, _, _ in seen] == [4, 4, 2]
    decoder = Decoder(fakes.SPEC)
    rows = np.concatenate([pixels for *_, pixels in seen])
    for sample, row in zip(samples, rows, strict=True):
        loaded = decoder.load(sample.path)
        assert isinstance(loaded, Image)
        np.testing.assert_array_equal(loaded.pixels, row)


def test_what_waits_is_bounded(
    fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    original = Decoder.load

    def counted(self: Decoder, path: Path, frame: int | None = None) -> Any:
        started.append(path)
        return original(self, path, frame)

    monkeypatch.setattr(Decoder, "load", counted)
    samples = fakes.png_dataset(tmp_path, count=40).samples
    for budget, most in ((1 << 40, 6), (3 * fakes.SIZE**2 * 4 * 4, 3)):
        started.clear()
        monkeypatch.setattr(module, "_memory_budget", lambda budget=budget: budget)
        with Loader(fakes.SPEC, workers=2, mode="threads", ahead=6) as loader:
            for done, _ in enumerate(loader.rows(samples)):
                assert len(started) <= done + 1 + most
                if done == 20:
                    time.sleep(0.05)  # idle workers would run ahead now
                    assert len(started) <= done + 1 + most
        assert len(started) == 40


def test_a_dead_worker_is_replaced(fakes: ModuleType, tmp_path: Path) -> None:
    (first, second) = fakes.png_dataset(tmp_path, count=2).samples
    worker = WorkerProcess(fakes.SPEC)
    try:
        assert isinstance(worker.load(first.path), Image)
        assert worker._process is not None
        worker._process.kill()
        assert isinstance(worker.load(second.path), Image)
    finally:
        worker.close()


def test_a_file_that_kills_its_decoder_is_bad(fakes: ModuleType, tmp_path: Path) -> None:
    """Opening a pipe blocks, which gives the time to kill the worker like a crash would."""
    os.mkfifo(tmp_path / "image.png")
    worker = WorkerProcess(fakes.SPEC)
    stop = threading.Event()

    def kill_each_worker() -> None:
        while not stop.wait(0.02):
            process = worker._process
            if process is not None:
                process.kill()

    killer = threading.Thread(target=kill_each_worker)
    killer.start()
    try:
        loaded = worker.load(tmp_path / "image.png")
    finally:
        stop.set()
        killer.join()
        worker.close()
    assert loaded == Bad("its decoder crashed (SIGKILL)")


def test_workers_end_with_the_main_process(fakes: ModuleType, tmp_path: Path) -> None:
    sample = fakes.png_dataset(tmp_path, count=1).samples[0]
    with Loader(fakes.SPEC, workers=2, mode="processes") as loader:
        list(loader.rows([sample]))
        (worker,) = loader._processes
        process = worker._process
        assert process is not None and process.poll() is None
    assert process.returncode == 0


def test_a_worker_imports_no_framework() -> None:
    code = (
        "import sys, dinorad_rt.embeddings.worker\n"
        "print([n for n in ('torch', 'timm', 'onnxruntime', 'openvino', 'pyarrow') "
        "if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_pixels_that_are_not_finite_are_bad(
    fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fakes.png_dataset(tmp_path, count=1).samples[0].path
    nan: Callable[..., np.ndarray] = lambda *_: np.full((3, 16, 16), np.nan, np.float32)  # noqa: E731
    monkeypatch.setattr("dinorad_rt.embeddings.decode.Preprocessor.__call__", nan)
    loaded = Decoder(fakes.SPEC).load(path)
    assert isinstance(loaded, Bad) and "NaN" in loaded.reason


def test_real_series_of_slices(shared_data: Path, cache: Path, fakes: ModuleType) -> None:
    """A folder of DICOM slices is one volume; in a process its keys and pixels are the same."""
    folder = sorted((shared_data / "mr_dicom_series").glob("*/"))[0]
    inside, worker = Decoder(fakes.SPEC).load(folder), WorkerProcess(fakes.SPEC)
    try:
        outside = worker.load(folder)
    finally:
        worker.close()
    assert isinstance(inside, Volume) and isinstance(outside, Volume)
    np.testing.assert_array_equal(inside.study.pixels, outside.study.pixels)
    assert inside.study.series == outside.study.series and inside.study.num_slices > 10


@pytest.mark.parametrize("shape", [(6, 7), (3, 6, 7)])
def test_a_file_without_any_number_is_bad(
    fakes: ModuleType, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    pixels = np.full(shape, np.nan, np.float32)
    np.save(tmp_path / "nan.npy", pixels)
    loaded = Decoder(fakes.SPEC).load(tmp_path / "nan.npy")
    assert isinstance(loaded, Bad) and "finite number" in loaded.reason
    pixels[..., 2, 3] = (1.0, 2.0, 3.0) if pixels.ndim == 3 else 1.0
    np.save(tmp_path / "some.npy", pixels)
    assert not isinstance(Decoder(fakes.SPEC).load(tmp_path / "some.npy"), Bad)


def test_what_waits_fits_into_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinorad_rt.machine.memory_limit", lambda: 2 << 30)
    assert module._memory_budget() == (2 << 30) // module.MEMORY_SHARE
