"""Going on with a benchmark that was interrupted, or given more repeats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinorad_rt.benchmarking.ceiling import Ceiling
from dinorad_rt.errors import OutputExistsError
from dinorad_rt.files import read_json

_SETTINGS = ("weights", "seconds", "cool_down", "seed", "data")
_MACHINE = ("cpu", "gpus", "packages")


@dataclass
class StoredRun:
    """What an earlier run left.

    Attributes:
        runs: identity of a cell → its measurements.
        ceilings: the matrix products that were measured beside them.
    """

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ceilings: list[Ceiling] = field(default_factory=list)


def identity(cell: Mapping[str, Any], engine_key: str) -> str:
    """What makes two cells the same: what is measured, and with which engine."""
    return json.dumps([dict(sorted(cell.items())), engine_key])


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
        rows = [(row, identity(_cell_of(row), str(row["engine_key"]))) for row in document["rows"]]
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
    return StoredRun({name: list(row["runs"]) for row, name in rows}, ceilings)


def _cell_of(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("model", "backend", "precision", "image_size", "batch", "mode")
    return {key: row[key] for key in keys}


def _differences(
    document: Mapping[str, Any], plan: Mapping[str, Any], machine: Mapping[str, Any]
) -> list[str]:
    theirs, here = document["plan"], document["machine"]
    return [
        *(key.replace("_", " ") for key in _SETTINGS if theirs[key] != plan[key]),
        *(f"machine ({key})" for key in _MACHINE if here[key] != machine[key]),
    ]
