"""`run_study`: plan, run what is not finished, survive what fails, end in the report."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dinorad_rt.campaign.cached import cached_embeddings
from dinorad_rt.campaign.cells import Cell, cells_of
from dinorad_rt.campaign.estimate import estimate
from dinorad_rt.campaign.process import Failed, Worker
from dinorad_rt.campaign.study import Study, read_study_file
from dinorad_rt.files import claimed_dir, read_json, write_json
from dinorad_rt.progress import Progress, Say, silent
from dinorad_rt.reports.results import RESULTS_FILE, Results
from dinorad_rt.trackers import Tracker, track_results
from dinorad_rt.words import count_of, duration

STUDY_FILE = "study.json"
REPORT = "report"
SCHEMA = 1
SILENCE_S = 10.0


@dataclass(frozen=True)
class StudyOutcome:
    """What a study came to.

    Attributes:
        out: its folder.
        done: cells with results, those of earlier runs included.
        failed: cell or dataset → why it has none.
        left: cells that were planned and not run.
        report: files of the report, the page first; empty if nothing is done.
    """

    out: Path
    done: tuple[str, ...]
    failed: dict[str, str]
    left: tuple[str, ...]
    report: tuple[Path, ...] = ()


def run_study(
    study: str | Path,
    *,
    root: Path | None = None,
    out: Path | None = None,
    workers: int | None = None,
    plan_only: bool = False,
    tracker: Tracker | None = None,
    say: Say = silent,
    progress: Progress | None = None,
) -> StudyOutcome:
    """Run a study, or go on with it: cells whose results are there under the same key are kept.

    Args:
        study: TOML file, or the name of a shipped study.
        root: folder that paths in the file are relative to, instead of its own `root`.
        out: folder of results and report; None for `runs/NAME`.
        workers: decoding workers.
        plan_only: say what would be run, and stop.
        tracker: given each cell that is finished now.
        say: told the plan and each cell.
        progress: called with (finished, all) cells.

    Returns:
        What is done and what failed. A failed cell does not stop the others.

    Raises:
        StudyError: the file is not valid.
        UnknownNameError: neither a file nor a shipped study.
        OutputExistsError: `out` holds something else, or another process is writing into it.
    """
    declared = read_study_file(study, root)
    place = out or Path("runs") / declared.name
    with claimed_dir(place, STUDY_FILE) as folder, Worker() as worker:
        running = _Running(declared, folder, worker, say, workers)
        running.plan()
        if plan_only:
            return running.outcome()
        running.run(progress or (lambda done, total: None), tracker)
        return running.outcome(running.report())


class _Running:
    """One call of `run_study`."""

    def __init__(
        self, study: Study, out: Path, worker: Worker, say: Say, workers: int | None
    ) -> None:
        self._study, self._out, self._worker = study, out, worker
        self._say, self._workers = say, workers
        self._took = _times(out)
        self._cells: list[Cell] = []
        self._called: Counter[str] = Counter()
        self._cached: set[tuple[str, ...]] = set()
        self._failed: dict[str, Failed] = {}
        self._reasons: dict[str, str] = {}
        self._last_told = time.monotonic()
        if not (out / STUDY_FILE).exists():
            self._save()

    def plan(self) -> None:
        """Open the datasets, find what is finished, and say what is to be done."""
        facts: dict[str, dict[str, Any]] = {}
        for data in self._study.datasets:
            self._say(f"opening {data.name}")
            answer = self._worker.ask({"do": "open", "data": _plain(data)}, self._heard)
            if isinstance(answer, Failed):
                self._fail(data.name, data.name, answer)
            else:
                facts[data.name] = answer
        self._cells = list(cells_of(self._study, facts))
        self._called = Counter(cell.name for cell in self._cells)
        fingerprints = {name: str(known["fingerprint"]) for name, known in facts.items()}
        self._cached = cached_embeddings(self._cells, fingerprints)
        for name, known in facts.items():
            self._say(self._planned(name, known))
        done = sum(map(self._is_done, self._cells))
        self._say(
            f"plan: {count_of(len(self._cells), 'cell')}, {done} finished before, "
            f"{len(self._cells) - done} to run; to go: {self._remaining()}"
        )
        self._save()

    def run(self, progress: Progress, tracker: Tracker | None) -> None:
        """Run the cells that are not finished."""
        total = len(self._cells)
        progress(sum(map(self._is_done, self._cells)), total)
        for number, cell in enumerate(self._cells, start=1):
            if self._is_done(cell):
                continue
            shutil.rmtree(self._folder(cell), ignore_errors=True)  # what a killed cell left
            answer = self._worker.ask(self._request(cell), self._heard)
            if isinstance(answer, Failed):
                self._fail(cell.key, self._name(cell), answer)
            else:
                self._took[cell.key] = answer
                self._say(f"[{number}/{total}] {self._told(cell)}; to go: {self._remaining()}")
                if tracker is not None:
                    path = self._folder(cell) / RESULTS_FILE
                    track_results(tracker, Results.open(path), [path])
            self._save()
            progress(total - len(self._left()), total)

    def report(self) -> tuple[Path, ...]:
        """Write the report of everything that is finished."""
        from dinorad_rt.reports.material import read_material
        from dinorad_rt.reports.report import Extras, write_report

        folders = [self._folder(cell) for cell in self._cells if self._is_done(cell)]
        if not folders:
            return ()
        names = {cell.key: self._name(cell) for cell in self._cells}
        failures = {names.get(key, key): why.public for key, why in self._failed.items()}
        extras = Extras(self._study.title, plots=self._study.plots, failures=failures)
        material = read_material(folders, self._study.benches)
        return write_report(material, self._out / REPORT, extras, say=self._say)

    def outcome(self, report: tuple[Path, ...] = ()) -> StudyOutcome:
        """What it came to so far."""
        names = {cell.key: self._name(cell) for cell in self._cells}
        return StudyOutcome(
            out=self._out,
            done=tuple(self._name(cell) for cell in self._cells if self._is_done(cell)),
            failed={names.get(key, key): why.why for key, why in self._failed.items()},
            left=tuple(map(self._name, self._left())),
            report=report,
        )

    def _planned(self, name: str, known: Mapping[str, Any]) -> str:
        mine = [cell for cell in self._cells if cell.data.name == name]
        splits = ", ".join(f"{count} {split}" for split, count in known["splits"].items())
        embeds = {cell.embeds for cell in mine}
        return (
            f"plan: {name}, {known['task']}, {splits}: {count_of(len(mine), 'cell')}, "
            f"{sum(map(self._is_done, mine))} finished before; "
            f"{count_of(len(embeds), 'set of embeddings', 'sets of embeddings')}, "
            f"{len(embeds & self._cached)} in the cache"
        )

    def _request(self, cell: Cell) -> dict[str, Any]:
        evaluation = asdict(cell.evaluation) | {"options": dict(cell.evaluation.options)}
        return {
            "do": "run",
            "data": _plain(cell.data),
            "evaluation": evaluation,
            "out": str(self._folder(cell)),
            "workers": self._workers,
        }

    def _folder(self, cell: Cell) -> Path:
        return self._out / cell.folder

    def _name(self, cell: Cell) -> str:
        """What people call a cell; with its key where two would be called the same."""
        return f"{cell.name} {cell.key[:6]}" if self._called[cell.name] > 1 else cell.name

    def _is_done(self, cell: Cell) -> bool:
        return (self._folder(cell) / RESULTS_FILE).is_file()

    def _left(self) -> list[Cell]:
        return [c for c in self._cells if not self._is_done(c) and c.key not in self._failed]

    def _remaining(self) -> str:
        left = self._left()
        if not left:
            return "nothing"
        measured = [(c, self._took[c.key]) for c in self._cells if c.key in self._took]
        return str(estimate(left, measured, self._cached))

    def _told(self, cell: Cell) -> str:
        from dinorad_rt.reports.run_names import labelled

        (run,) = labelled([Results.open(self._folder(cell))])
        value = run.headline()
        told = "" if value is None or value.value is None else f": {value.name} {value.value:.3f}"
        return f"{self._name(cell)}{told} in {duration(self._took[cell.key]['seconds'])}"

    def _heard(self, event: Mapping[str, Any]) -> None:
        """Pass on what the worker says, now and then: a study has many cells."""
        if time.monotonic() - self._last_told < SILENCE_S:
            return
        self._last_told = time.monotonic()
        self._say(f"  {event['text']}")

    def _fail(self, key: str, name: str, why: Failed) -> None:
        first = self._reasons.setdefault(why.why, name)
        self._failed[key] = why
        told = " ".join(why.why.split()) if first == name else f"as {first}"
        self._say(f"failed: {name}: {told}")

    def _save(self) -> None:
        rows = [
            {
                "cell": self._name(cell),
                "key": cell.key,
                "folder": cell.folder.as_posix(),
                "state": self._state(cell),
                "why": self._failed[cell.key].public if cell.key in self._failed else "",
                **self._took.get(cell.key, {}),
            }
            for cell in self._cells
        ]
        names = {data.name for data in self._study.datasets}
        write_json(
            self._out / STUDY_FILE,
            {
                "schema": SCHEMA,
                "kind": "study",
                "title": self._study.title,
                "datasets_failed": {k: v.public for k, v in self._failed.items() if k in names},
                "cells": rows,
            },
        )

    def _state(self, cell: Cell) -> str:
        if self._is_done(cell):
            return "done"
        return "failed" if cell.key in self._failed else "to run"


def _times(out: Path) -> dict[str, dict[str, Any]]:
    """What the cells of earlier runs took, by key."""
    try:
        rows = read_json(out / STUDY_FILE)["cells"]
        keys = ("seconds", "engine_s", "embed_s")
        return {row["key"]: {k: row[k] for k in keys} for row in rows if "seconds" in row}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _plain(data: Any) -> dict[str, Any]:
    values = asdict(data)
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
