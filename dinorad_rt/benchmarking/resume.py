"""Going on with a benchmark that was interrupted, or given more repeats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinorad_rt.benchmarking.ceiling import Ceiling
from dinorad_rt.benchmarking.cell import Cell
from dinorad_rt.benchmarking.summary import FACTS
from dinorad_rt.errors import OutputExistsError
from dinorad_rt.files import read_json

_SETTINGS = ("weights", "seconds", "cool_down", "seed", "data")
_MACHINE = ("cpu", "gpus", "packages")


@dataclass
class StoredRun:
    """What an earlier run left.

    Attributes:
        rows: its cells with their facts and measurements, as `summarise` takes them.
        ceilings: the matrix products that were measured beside them.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    ceilings: list[Ceiling] = field(default_factory=list)

    def runs_of(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The measurements of the same cell with the same engine."""
        same = [
            old
            for old in self.rows
            if old["cell"].as_dict() == row["cell"].as_dict()
            and old["engine_key"] == row["engine_key"]
        ]
        return [run for old in same for run in old["runs"]]

    def others(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What was measured of cells that are not among `rows`."""
        cells = [row["cell"].as_dict() for row in rows]
        return [old for old in self.rows if old["runs"] and old["cell"].as_dict() not in cells]


def stored_run(path: Path, plan: Mapping[str, Any], machine: Mapping[str, Any]) -> StoredRun:
    """Read the run at `path`; empty if there is none.

    Args:
        path: bench.json.
        plan: of the run that goes on; only how it measures has to be the same, not what.
        machine: facts of this machine.

    Raises:
        OutputExistsError: it is of another machine, other versions or other settings, or no run.
    """
    if not path.exists():
        return StoredRun()
    try:
        document = read_json(path)
        other = _differences(document, plan, machine)
        rows = [_row_of(row) for row in document["rows"]]
        ceilings = [Ceiling(**entry) for entry in document["ceilings"]]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputExistsError(
            f"{path.name} in {path.parent} is no run of this version: {error}.",
            "Choose a new folder with --out.",
        ) from error
    if other:
        raise OutputExistsError(
            f"{path.parent} holds a run with another {', '.join(other)}; its numbers and new ones "
            "could not be compared.",
            "Choose a new folder with --out.",
        )
    return StoredRun(rows, ceilings)


def _row_of(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("model", "backend", "precision", "image_size", "batch", "mode")
    cell = Cell(**{key: row[key] for key in keys}, engine="")
    return {"cell": cell, **{key: row[key] for key in FACTS}, "runs": list(row["runs"])}


def _differences(
    document: Mapping[str, Any], plan: Mapping[str, Any], machine: Mapping[str, Any]
) -> list[str]:
    theirs, here = document["plan"], document["machine"]
    return [
        *(key.replace("_", " ") for key in _SETTINGS if theirs[key] != plan[key]),
        *(f"machine ({key})" for key in _MACHINE if here[key] != machine[key]),
    ]
