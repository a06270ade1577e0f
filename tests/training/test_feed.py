"""Batches made by processes: the same numbers, and an end to each of them."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import DataError, TrainingError
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.training import feed
from dinorad_rt.training.classify import train_classifier
from dinorad_rt.training.feed import Feed, processes_for, processes_that_fit
from dinorad_rt.training.loop import fit
from dinorad_rt.training.presets import classify_preset
from dinorad_rt.training.run_folder import read_best
from dinorad_rt.training.settings import TrainSettings

from .conftest import ToyJob

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MAIN = os.getpid()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


def fed(make: Any, plans: list[Any], workers: int = 2, **choices: Any) -> list[Any]:
    """All batches of one epoch."""
    one = Feed(make, choices.pop("nbytes", lambda _: 1), workers=workers, **choices)
    try:
        return list(one.batches(plans, CPU))
    finally:
        one.close()


class FedJob(ToyJob):
    """The toy's batches through a feed; `wrong` is called with the number of each."""

    def __init__(self, workers: int = 2, wrong: Any = None) -> None:
        super().__init__()
        self.wrong = wrong
        self.feed = Feed(self._made, lambda _: 1, workers=workers)

    def train_batches(self, epoch: int, seed: int, start: int = 0, step: int = 1) -> Iterator[Any]:
        plans = [(epoch, seed, number) for number in range(start, self.num_batches(), step)]
        return self.feed.batches(plans, CPU)

    def _made(self, plan: tuple[int, int, int]) -> Any:
        if self.wrong is not None:
            self.wrong(plan[2])
        return next(super().train_batches(plan[0], plan[1], plan[2]))

    def end_batches(self) -> None:
        self.feed.close()


def test_a_classifiers_weights_do_not_tell_who_made_its_batches(
    images: Any, tmp_path: Path, cache: Path
) -> None:
    """Nor who made those before an interruption."""
    dataset = open_dataset(images(tmp_path / "images", count=40, volumes=True))
    recipe = classify_preset("finetune").changed(
        epochs=2, batch_size=5, augmentation="strong", slices=2, device="cpu", save_minutes=1e-9
    )
    request = EngineRequest(model="test_vit", weights="random", image_size=32)
    for workers in (0, 2):
        train_classifier(request, recipe, dataset, tmp_path / str(workers), workers=workers)

    def stop(done: int, _: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        train_classifier(request, recipe, dataset, parts, workers=2, progress=stop)
    assert not multiprocessing.active_children()
    train_classifier(request, recipe, dataset, parts, workers=1)
    wanted = read_best(tmp_path / "0")
    for name in ("2", "parts"):
        found = read_best(tmp_path / name)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_processes_live_from_epoch_to_epoch_and_end_with_the_run(tmp_path: Path) -> None:
    seen: set[tuple[int, ...]] = set()

    def look(done: int, _: int) -> None:
        seen.add(tuple(sorted(child.pid or 0 for child in multiprocessing.active_children())))

    job = FedJob()
    history = fit(job, TrainSettings(epochs=3, batch_size=8, device="cpu"), tmp_path, progress=look)
    assert len(seen) == 1 and len(seen.pop()) == 2
    assert not multiprocessing.active_children()
    alone = fit(
        FedJob(workers=0), TrainSettings(epochs=3, batch_size=8, device="cpu"), tmp_path / "b"
    )
    assert history.losses == alone.losses


def test_a_batch_is_made_by_one_thread_wherever_it_is_made() -> None:
    """A sum over an image differs in its last bits with the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for workers in (0, 1):
            assert fed(lambda _: torch.get_num_threads(), [0, 1], workers) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_killed_process_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    def killed(number: int) -> None:
        if number == 3 and os.getpid() != MAIN:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = TrainSettings(epochs=2, batch_size=8, device="cpu", save_minutes=1e-9)
    with pytest.raises(TrainingError, match="has died") as told:
        fit(FedJob(wrong=killed), settings, tmp_path / "run")
    assert "--workers 0" in told.value.fix and told.value.exit_code == 2
    assert not multiprocessing.active_children()
    again = fit(FedJob(workers=0, wrong=killed), settings, tmp_path / "run")
    assert again.losses == fit(FedJob(workers=0), settings, tmp_path / "whole").losses


def test_an_error_of_ours_comes_out_of_a_process_as_it_is() -> None:
    def damaged(_: Any) -> None:
        raise DataError("An array is damaged.", "Delete it.")

    for workers in (0, 1):
        with pytest.raises(DataError) as told:
            fed(damaged, [0, 1], workers)
        assert (told.value.problem, told.value.fix) == ("An array is damaged.", "Delete it.")


def test_processes_write_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    def loud(_: Any) -> int:
        print("by Python")
        os.write(2, b"by a library\n")
        return os.getpid()

    assert os.getpid() not in fed(loud, list(range(4)))
    assert capfd.readouterr() == ("", "")


def test_images_are_shared_and_not_copied() -> None:
    """What a process has of its own, after it read every image."""
    held = [np.full((1, 256, 256), index, np.float32) for index in range(256)]  # 64 MiB

    def own(_: Any) -> float:
        total = sum(float(torch.from_numpy(image).mean()) for image in held)
        assert total == sum(range(256))
        text = Path("/proc/self/smaps_rollup").read_text()
        return sum(int(kib) for kib in re.findall(r"Private_\w+: *(\d+) kB", text)) / 1024

    assert max(fed(own, [0, 1])) < 32


@pytest.mark.parametrize(
    ("asked", "device", "cores", "beside", "wanted"),
    [
        (None, CPU, 16, 1, 0),
        (None, GPU, 16, 1, 8),
        (None, GPU, 4, 1, 3),
        (None, GPU, 1, 1, 0),
        (None, GPU, 16, 4, 3),
        (None, GPU, 2, 4, 0),
        (3, CPU, 2, 1, 3),
        (0, GPU, 16, 1, 0),
        (12, GPU, 4, 1, 12),
    ],
)
def test_a_gpu_has_processes_by_the_cores_and_the_user_decides(
    asked: int | None,
    device: torch.device,
    cores: int,
    beside: int,
    wanted: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(beside))
    assert processes_for(asked, device) == wanted


def test_small_shared_memory_means_fewer_processes_and_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 64 MiB half is used; each process makes two batches ahead, and two are on their way."""
    mib = 2**20
    assert processes_that_fit(64 * mib, mib) == 15
    assert processes_that_fit(64 * mib, 10 * mib) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert processes_that_fit(64 * mib, mib) == 7
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(feed, "shared_memory", lambda: 64 * mib)
    for size, made, word in ((8 * mib, 1, "1 instead of 2"), (10 * mib, 0, "no instead of 2")):
        said: list[str] = []
        found = fed(lambda _: os.getpid(), [0] * 6, nbytes=lambda _, s=size: s, say=said.append)
        assert len(set(found) - {MAIN}) == made
        assert word in said[0] and "64 MiB free" in said[0] and "--shm-size" in said[0]


def test_there_are_no_more_processes_than_batches_left() -> None:
    said: list[str] = []
    assert len(set(fed(lambda _: os.getpid(), [0], workers=4, say=said.append))) == 1
    assert said == ["1 process makes training images ahead"]


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(images: Any, tmp_path: Path, cache: Path) -> None:
    data = images(tmp_path / "images", count=60)
    words = "train --model test_vit --image-size 32 --weights random --epochs 9999 --patience 9999"
    command = [sys.executable, "-m", "dinorad_rt", *words.split(), "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--data", str(data), "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also of the background
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("· epoch 2"):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in rest, rest
    assert "Stopped." in rest and len(children) >= 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)
