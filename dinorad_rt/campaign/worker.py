"""The process that runs cells: requests as JSON lines on stdin, events as JSON lines on a pipe.

A cell that is killed takes this process with it and nothing else: the study notes it and starts
another one. Datasets stay open from one cell to the next.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import DataError, DinoradError, OutputError, WeightsError
from dinorad_rt.progress import Progress, Stages
from dinorad_rt.signals import STOPPING, untouched_signals

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset

Send = Callable[[dict[str, Any]], None]
DEBUG_VARIABLE = "DINORAD_RT_DEBUG"
_PATHS = re.compile(r"(?<![\w.])(?:~|\.{1,2})?/[^\s,;:]+|\b[\w.-]+/[^\s,;:]+")


def serve(lines: Any, send: Send) -> None:
    """Answer requests until the input ends; each ends in one event `done` or `failed`.

    Args:
        lines: iterable of JSON requests.
        send: takes events.
    """
    datasets: dict[str, Dataset] = {}
    for line in lines:
        request = json.loads(line)
        try:
            answer = _ANSWERS[request["do"]](request, datasets, send)
            send({"event": "done", **answer})
        except DinoradError as error:
            send({"event": "failed", "why": str(error), "public": public_words(error)})
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                traceback.print_exc()
            bug = f"This is a bug; {DEBUG_VARIABLE}=1 shows where."
            name = type(error).__name__
            why = f"{name}: {error}. {bug}"
            send({"event": "failed", "why": why, "public": f"{name}. {bug}"})


def public_words(error: DinoradError) -> str:
    """What may be said of an error in a report: no path, no file name, nothing of the data."""
    kind = (type(error).__doc__ or f"{type(error).__name__}.").splitlines()[0]  # no words under -OO
    if isinstance(error, (DataError, OutputError, WeightsError)):
        return f"{kind} The screen showed the details."
    return f"{kind} {_PATHS.sub('(path)', error.problem)}"


def _open(request: Mapping[str, Any], datasets: dict[str, Dataset], send: Send) -> dict[str, Any]:
    """Open a dataset and tell its facts."""
    dataset = _dataset(request["data"], datasets, send)
    splits = [sample.split for sample in dataset.samples]
    return {
        "task": dataset.task,
        "images": len(dataset.samples),
        "patients": len({sample.patient for sample in dataset.samples}),
        "splits": {split: splits.count(split) for split in ("train", "val", "test")},
        "fingerprint": dataset.fingerprint,
        "split_hash": dataset.split_hash,
    }


def _run(request: Mapping[str, Any], datasets: dict[str, Dataset], send: Send) -> dict[str, Any]:
    """Run a cell and tell what it took."""
    from dinorad_rt.evaluation import Evaluation, run_evaluation
    from dinorad_rt.pipeline import EngineRequest

    dataset = _dataset(request["data"], datasets, send)
    values = request["evaluation"]
    evaluation = Evaluation(**values | {"engine": EngineRequest(**values["engine"])})
    start = time.perf_counter()
    results, _ = run_evaluation(
        evaluation,
        dataset,
        out=Path(request["out"]),
        workers=request["workers"],
        say=lambda text: send({"event": "say", "text": text}),
        stages=_stages(send),
    )
    return {
        "seconds": time.perf_counter() - start,
        "engine_s": results.timings.get("engine_s", 0.0),
        "embed_s": results.timings.get("embed_s", 0.0),
    }


def _stages(send: Send) -> Stages:
    """Each step of a cell as events."""

    @contextmanager
    def stage(title: str, unit: str) -> Iterator[Progress]:
        def progress(done: int, total: int) -> None:
            text = f"{title}: {done}/{total} {unit}"
            send({"event": "progress", "text": text})

        yield progress

    return stage


_ANSWERS = {"open": _open, "run": _run}


def _dataset(data: Mapping[str, Any], datasets: dict[str, Dataset], send: Send) -> Dataset:
    from dataclasses import replace

    from dinorad_rt.pipeline import dataset_for

    if data["name"] not in datasets:
        paths = {key: None if data[key] is None else Path(data[key]) for key in ("data", "root")}
        dataset = dataset_for(
            paths["data"],
            data["dataset"],
            paths["root"],
            say=lambda text: send({"event": "say", "text": text}),
            **data["columns"],
        )
        datasets[data["name"]] = replace(dataset, name=data["name"])
    return datasets[data["name"]]


def main() -> None:
    """Serve stdin; argument: the file descriptor that takes events."""
    from dinorad_rt.studies.malloc import keep_freed_memory

    keep_freed_memory()
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1) as pipe:
        try:
            _end_with_the_study()
            serve(sys.stdin, lambda event: print(json.dumps(event), file=pipe, flush=True))
            _hear_no_more()
        except (KeyboardInterrupt, BrokenPipeError):
            _hear_no_more()  # the study itself was stopped


def _end_with_the_study() -> None:
    """Let the study's end, even by SIGKILL, interrupt the cell, so that it clears up behind it."""
    for number in untouched_signals():
        signal.signal(number, _interrupt)
    if hasattr(select, "poll"):
        requests = select.poll()
        requests.register(sys.stdin, 0)  # told of the other end's closing only

        def watch() -> None:
            requests.poll()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()


def _interrupt(*_: object) -> None:
    _hear_no_more()
    raise KeyboardInterrupt


def _hear_no_more() -> None:
    """Clearing up and the interpreter's own end are not to be interrupted."""
    for number in STOPPING:
        # not SIG_IGN, under which Python complains of one that is on its way
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    main()
