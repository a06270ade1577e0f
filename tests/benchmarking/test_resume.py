"""A benchmark that was stopped goes on; one of another machine or other settings is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.benchmarking.cell import Cell
from dinorad_rt.benchmarking.resume import stored_run
from dinorad_rt.benchmarking.summary import FACTS
from dinorad_rt.errors import OutputExistsError
from dinorad_rt.files import write_json

CELL = {
    "model": "m",
    "backend": "b",
    "precision": "fp32",
    "image_size": 32,
    "batch": 1,
    "mode": "latency",
}
PLAN = {"weights": "random", "seconds": 1.0, "cool_down": 0.0, "seed": 0, "data": "phantoms"}
MACHINE: dict[str, Any] = {"cpu": {"model": "x"}, "gpus": [], "packages": {"torch": "1"}}
CEILING = {"device": "cpu", "precision": "fp32", "tflops": 1.0, "size": 8}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A run with two measurements of one cell."""
    path = tmp_path / "bench.json"
    facts = dict.fromkeys(FACTS, 1) | {"engine_key": "k"}
    row = CELL | facts | {"runs": [{"images_per_s": 1.0}, {"images_per_s": 2.0}]}
    document = {"plan": PLAN, "machine": MACHINE, "rows": [row], "ceilings": [CEILING]}
    write_json(path, document)
    return path


def test_measurements_are_found_again(stored: Path) -> None:
    found = stored_run(stored, PLAN, MACHINE)
    cell = Cell(**CELL, engine="a folder")
    runs = found.runs_of({"cell": cell, "engine_key": "k"})
    assert [run["images_per_s"] for run in runs] == [1.0, 2.0]
    assert found.runs_of({"cell": cell, "engine_key": "another engine"}) == []
    assert found.ceilings[0].tflops == 1.0
    assert found.others([{"cell": cell}]) == []  # the same cell, whatever its engine
    other = Cell(**CELL | {"batch": 2}, engine="")
    assert [row["cell"].batch for row in found.others([{"cell": other}])] == [1]


def test_nothing_there_is_a_fresh_start(tmp_path: Path) -> None:
    assert stored_run(tmp_path / "bench.json", PLAN, MACHINE).rows == []


@pytest.mark.parametrize(
    ("plan", "machine", "word"),
    [
        (PLAN | {"seconds": 2.0}, MACHINE, "seconds"),
        (PLAN | {"weights": "hub"}, MACHINE, "weights"),
        (PLAN, MACHINE | {"gpus": [{"name": "H200"}]}, "gpus"),
        (PLAN, MACHINE | {"packages": {"torch": "2"}}, "packages"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    stored: Path, plan: dict[str, Any], machine: dict[str, Any], word: str
) -> None:
    with pytest.raises(OutputExistsError, match=word) as caught:
        stored_run(stored, plan, machine)
    assert "--out" in caught.value.fix


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text('{"kind": "something else"}')
    with pytest.raises(OutputExistsError, match="no run of this version"):
        stored_run(tmp_path / "bench.json", PLAN, MACHINE)
