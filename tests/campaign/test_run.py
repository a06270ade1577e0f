"""Studies: planned, run, resumed, and not stopped by a cell that dies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dinorad_rt.campaign import run_study
from dinorad_rt.campaign.process import Worker
from dinorad_rt.campaign.worker import public_words
from dinorad_rt.errors import DataError, ProtocolError, StudyError

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
    outcome = run_study(study, out=out)
    assert len(outcome.failed) == 2 and len(outcome.done) == 2
    assert all("killed" in why for why in outcome.failed.values())
    assert "was killed" in (out / "report" / "report.html").read_text()
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


def test_two_processes_never_run_one_study(study: Path, log: Path, tmp_path: Path) -> None:
    import filelock

    out = tmp_path / "out"
    run_study(study, out=out, plan_only=True)
    with filelock.FileLock(out / ".lock"), pytest.raises(StudyError, match="Another process"):
        run_study(study, out=out)


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
    assert public_words(DataError("/data/x")) == "DataError. The screen showed which."
    assert public_words(ProtocolError("k is 0.")) == "ProtocolError. k is 0."
