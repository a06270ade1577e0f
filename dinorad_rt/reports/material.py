"""What a report is made of, found on disk: runs, and benchmarks of their engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.files import read_json
from dinorad_rt.reports.results import PREDICTIONS_FILE, RESULTS_FILE, Results
from dinorad_rt.reports.run_names import labelled
from dinorad_rt.reports.runs import Run, TestSet, grouped, test_set_key

BENCH_FILE = "bench.json"


@dataclass(frozen=True)
class Material:
    """Everything that a report is made of.

    Attributes:
        runs: every run.
        test_sets: the runs by the images that they were judged on.
        benches: contents of bench.json files.
    """

    runs: tuple[Run, ...]
    test_sets: tuple[TestSet, ...]
    benches: tuple[dict[str, Any], ...] = field(default=())


def read_material(paths: Sequence[Path], benches: Sequence[Path] = ()) -> Material:
    """Read runs and benchmarks.

    Args:
        paths: folders of runs, folders that hold such folders, results.json or bench.json files.
        benches: bench.json files, or folders with one.

    Raises:
        DataError: nothing is there, or a file is not what its name says.
    """
    found: dict[Path, Path] = {}  # each once, by whatever spelling
    timings: dict[Path, Path] = {}
    for path in paths:
        results, benchmarks = _files_in(path)
        if not results and not benchmarks:
            raise DataError(
                f"{path} holds neither {RESULTS_FILE} nor {BENCH_FILE}, at any depth.",
                "Name folders of runs: what `dinorad-rt eval --out DIR` wrote.",
            )
        found |= {known.resolve(): known for known in results}
        timings |= {known.resolve(): known for known in benchmarks}
    for path in benches:
        known = path / BENCH_FILE if path.is_dir() else path
        timings[known.resolve()] = known
    if not found:
        raise DataError(
            "There is no run to report, only benchmarks.",
            "Add runs: what `dinorad-rt eval --out DIR` wrote. `bench` writes its own report.",
        )
    files = found.values()
    firsts: dict[str, Results] = {}
    opened = [_opened(path, firsts) for path in files]
    runs = labelled(opened, [path.parent for path in files])
    return Material(runs, grouped(runs), tuple(map(_bench, timings.values())))


def _files_in(path: Path) -> tuple[list[Path], list[Path]]:
    if path.is_file():
        is_bench = path.name == BENCH_FILE or path.suffix == ".json" and _is_bench(path)
        return ([], [path]) if is_bench else ([path], [])
    if not path.is_dir():
        raise DataError(f"{path} does not exist.", "Check the spelling of the runs' folders.")
    return sorted(path.rglob(RESULTS_FILE)), sorted(path.rglob(BENCH_FILE))


def _is_bench(path: Path) -> bool:
    try:
        return read_json(path).get("kind") == "bench"
    except (OSError, ValueError):
        return False


def _opened(path: Path, firsts: dict[str, Results]) -> Results:
    """Results with the scores that a report shows, where any are kept.

    Those of other settings and repeats are let go, and runs on one test set share its truth: a
    study holds hundreds of runs, each with scores of thousands of images.

    Args:
        path: of a results.json.
        firsts: test set → the first run on it; filled here.
    """
    kept = (path.parent / PREDICTIONS_FILE).is_file()
    results = Results.open(path, predictions=kept)
    if not results.metrics:
        raise DataError(f"The run in {path.parent.name} has no metric.", "Run it again.")
    shown = Run(results, 0).predictions()
    results.predictions = [] if shown is None else [replace(shown, scores=shown.scores.copy())]
    first = firsts.setdefault(test_set_key(results), results)
    for name in ("sample_ids", "patients", "labels"):
        if np.array_equal(getattr(first, name), getattr(results, name)):
            setattr(results, name, getattr(first, name))
    return results


def _bench(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path.name} cannot be read as a benchmark: {error}.",
            "Name the bench.json that `dinorad-rt bench --out DIR` wrote.",
        ) from error
    rows = document.get("rows")
    tables = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    if document.get("kind") != "bench" or not tables:
        raise DataError(
            f"{path.name} is no benchmark.",
            "Name the bench.json that `dinorad-rt bench --out DIR` wrote.",
        )
    return document
