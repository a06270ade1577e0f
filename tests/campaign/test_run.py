"""Studies: planned, run, resumed, and not stopped by a cell that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dinorad_rt.campaign import process, run_study
from dinorad_rt.campaign.process import Worker
from dinorad_rt.campaign.worker import public_words
from dinorad_rt.errors import DataError, ProtocolError

STUDY = """
title = "Two models"
[[models]]
name = "vits14"
weights = "random"
[[models]]
name = "vitb14"
weights = "random"
[[datasets]]
name = "ours"
dataset = "phantom"
[[protocols]]
protocol = "knn"
seeds = [0, 1]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(STUDY)
    return path


def test_every_cell_is_run_once_and_reported(study: Path, log: Path, tmp_path: Path) -> None:
    said: list[str] = []
    counts: list[tuple[int, int]] = []
    out = tmp_path / "out"
    outcome = run_study(
        study, out=out, say=said.append, progress=lambda done, total: counts.append((done, total))
    )
    assert log.read_text().split() == ["vits14", "0", "vits14", "1", "vitb14", "0", "vitb14", "1"]
    assert len(outcome.done) == 4 and not outcome.failed and not outcome.left
    assert counts == [(done, 4) for done in range(5)]
    assert any("4 cells, 0 finished before, 4 to run" in line for line in said)
    assert any("known after the first cells" in line for line in said)
    assert any("to go: about" in line for line in said)
    text = (out / "report" / "report.html").read_text()
    assert "Two models" in text and "vitb14" in text
    document = json.loads((out / "study.json").read_text())
    assert {row["state"] for row in document["cells"]} == {"done"}


def test_finished_cells_are_not_run_again(study: Path, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(study, out=out)
    first = log.read_text()
    kept = {path: path.read_bytes() for path in out.rglob("results.json")}
    again = run_study(study, out=out)
    assert log.read_text() == first and len(again.done) == 4
    victim = sorted(kept)[0]
    victim.rename(victim.with_name("predictions.parquet"))  # as a cell that was killed leaves it
    run_study(study, out=out)
    assert len(log.read_text().splitlines()) == 5
    assert {path: path.read_bytes() for path in out.rglob("results.json")} == kept


def test_a_changed_study_runs_what_is_new_only(study: Path, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(study, out=out)
    study.write_text(STUDY.replace("seeds = [0, 1]", "seeds = [0, 1]\nsettings = { ks = [3] }"))
    run_study(study, out=out)
    assert len(log.read_text().splitlines()) == 8


def test_a_killed_cell_is_a_row_and_the_rest_goes_on(
    study: Path, log: Path, tmp_path: Path
) -> None:
    kill = tmp_path / "kill-vits14"
    kill.touch()
    out = tmp_path / "out"
    said: list[str] = []
    outcome = run_study(study, out=out, say=said.append)
    assert len(outcome.failed) == 2 and len(outcome.done) == 2
    assert all("killed" in why for why in outcome.failed.values())
    first, second = (line for line in said if line.startswith("failed: "))
    assert "was killed" in first and second.endswith(f": as {next(iter(outcome.failed))}")
    page = (out / "report" / "report.html").read_text()
    assert page.count("was killed") == 1 and "2 cells or datasets could not be run" in page
    states = [row["state"] for row in json.loads((out / "study.json").read_text())["cells"]]
    assert states == ["failed", "failed", "done", "done"]
    kill.unlink()
    mended = run_study(study, out=out)
    assert len(mended.done) == 4 and not mended.failed
    assert "was killed" not in (out / "report" / "report.html").read_text()


def test_a_dataset_that_does_not_open_fails_alone_and_names_no_path(
    study: Path, log: Path, tmp_path: Path
) -> None:
    study.write_text(STUDY + '\n[[datasets]]\nname = "broken"\ndataset = "phantom"\n')
    out = tmp_path / "out"
    outcome = run_study(study, out=out)
    assert len(outcome.done) == 4
    assert outcome.failed == {"broken": "lost /secret/place"}
    for path in (*out.rglob("*.json"), *out.rglob("report.*")):
        assert "secret" not in path.read_text(), path
    assert "It is lost." in (out / "report" / "report.md").read_text()


def test_an_interrupted_study_ends_its_worker_and_goes_on_later(
    study: Path, log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, out=out, progress=stop)
    assert len(run_study(study, out=out).done) == 4
    assert len(log.read_text().splitlines()) == 4


def test_the_plan_alone_runs_nothing(study: Path, log: Path, tmp_path: Path) -> None:
    outcome = run_study(study, out=tmp_path / "out", plan_only=True)
    assert log.read_text() == "" and len(outcome.left) == 4 and not outcome.report


STARTED = """
import sys
from dinorad_rt.campaign import process
from dinorad_rt.cli.main import main

process.WORKER = (sys.executable, "-c", sys.argv[1])
sys.argv = ["dinorad-rt", "eval", "--study", sys.argv[2], "--out", sys.argv[3]]
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these locks")
def test_a_second_study_is_refused_and_a_killed_one_forgotten(
    study: Path, log: Path, tmp_path: Path
) -> None:
    out, wait = tmp_path / "out", tmp_path / "wait-vits14"
    command = [sys.executable, "-c", STARTED, process.WORKER[-1], str(study), str(out)]
    wait.touch()
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not log.read_text():
        time.sleep(0.05)
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 2
    assert "Another process is writing into" in second.stderr and "--out" in second.stderr
    first.kill()
    first.wait()
    wait.unlink()
    third = subprocess.run(command, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert sorted(path.name for path in out.iterdir()) == ["report", "runs", "study.json"]


SERVING = """
import atexit, os, sys, time
from pathlib import Path
from dinorad_rt.campaign import worker

atexit.register(time.sleep, 0.3)  # as libraries do that clear up at the end

def run(*_):
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        Path(sys.argv[2]).touch()

worker._ANSWERS["run"] = run
worker.main()
"""


def _hear_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the tests themselves ignore it


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("how", ["killed study", "SIGTERM", "SIGHUP"])
def test_a_worker_clears_up_when_its_study_ends(tmp_path: Path, how: str) -> None:
    serving = subprocess.Popen(
        [sys.executable, "-c", SERVING, "2", str(tmp_path / "cleared")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_hangups,
    )
    assert serving.stdin is not None and serving.stdout is not None
    serving.stdin.write('{"do": "run"}\n')
    serving.stdin.flush()
    assert serving.stdout.readline() == "begun\n"
    if how == "killed study":
        serving.stdin.close()
        serving.stdin = None
    else:
        serving.send_signal(getattr(signal, how))
    _, told = serving.communicate(timeout=20)
    assert serving.returncode == 0 and told == ""
    assert (tmp_path / "cleared").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_an_idle_worker_ends_without_a_word_when_its_study_does() -> None:
    words = [sys.executable, "-c", SERVING, "2", "nowhere"]
    done = subprocess.run(words, input="", capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_cells_that_would_be_called_the_same_are_told_apart(
    study: Path, log: Path, tmp_path: Path
) -> None:
    extra = '\n[[protocols]]\nprotocol = "knn"\nsettings = { ks = [3] }\n'
    study.write_text(STUDY + extra)
    outcome = run_study(study, out=tmp_path / "out")
    assert len(set(outcome.done)) == len(outcome.done) == 6


def test_a_worker_starts_again_after_it_died(log: Path, tmp_path: Path) -> None:
    (tmp_path / "kill-vits14").touch()
    run = {"do": "run", "data": {"name": "x"}, "out": str(tmp_path / "o")}
    with Worker() as worker:
        dies = worker.ask(run | {"evaluation": {"engine": {"model": "vits14"}, "seed": 0}}, print)
        lives = worker.ask(run | {"evaluation": {"engine": {"model": "vitb14"}, "seed": 0}}, print)
    assert not isinstance(dies, dict)
    assert isinstance(lives, dict) and lives["seconds"] == 5.0


def test_a_failed_cell_is_told_without_docstrings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (DataError, ProtocolError):  # as PYTHONOPTIMIZE=2 leaves them
        monkeypatch.setattr(kind, "__doc__", None)
    assert public_words(DataError("/data/x")) == "DataError. The screen showed the details."
    assert public_words(ProtocolError("k is 0.")) == "ProtocolError. k is 0."
