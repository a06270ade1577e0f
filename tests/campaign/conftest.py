"""A worker that answers at once, so that studies can be tested without an engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dinorad_rt.campaign import process
from tests.reports.fake_runs import fake_run

WORKER = """
import json, os, shutil, signal, sys, time
from pathlib import Path

log, made = Path({log!r}), Path({made!r})

def answer(request):
    if request["do"] == "open":
        if request["data"]["name"] == "broken":
            return {{"event": "failed", "why": "lost /secret/place", "public": "It is lost."}}
        splits = {{"train": 70, "val": 30, "test": 40}}
        return {{"event": "done", "task": "binary", "images": 140, "splits": splits,
                "fingerprint": "f", "split_hash": "s"}}
    model = request["evaluation"]["engine"]["model"]
    with log.open("a") as asked:
        print(model, request["evaluation"]["seed"], file=asked)
    if log.with_name(f"kill-{{model}}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    while log.with_name(f"wait-{{model}}").exists():
        time.sleep(0.05)
    pipe.write(json.dumps({{"event": "say", "text": "working"}}) + "\\n")
    shutil.copytree(made / model, request["out"])  # refuses a folder that is there, as eval does
    return {{"event": "done", "seconds": 5.0, "engine_s": 1.0, "embed_s": 2.0}}

pipe = os.fdopen(int(sys.argv[-1]), "w", buffering=1)
for line in sys.stdin:
    pipe.write(json.dumps(answer(json.loads(line))) + "\\n")
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two models, without every image's scores: their report is quickly drawn."""
    folder = tmp_path_factory.mktemp("made")
    for model in ("vits14", "vitb14"):
        fake_run(folder / model, model, dataset="ours")
        (folder / model / "predictions.parquet").unlink()
    return folder


@pytest.fixture
def log(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the quick worker in place; the file lists the cells that it was asked to run.

    An empty file `kill-MODEL` beside it makes the worker die at that model, `wait-MODEL` wait.
    """
    path = tmp_path / "asked.txt"
    path.touch()
    script = WORKER.format(made=str(made), log=str(path))
    monkeypatch.setattr(process, "WORKER", (sys.executable, "-c", script))
    return path
