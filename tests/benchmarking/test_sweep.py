"""A whole benchmark of a tiny network: every mode, resume, and what is left out."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.benchmarking import energy, pace, planned, sweep
from dinorad_rt.benchmarking.ceiling import Ceiling
from dinorad_rt.benchmarking.cell import Cell, Mode, _measure, measure_cell
from dinorad_rt.benchmarking.sweep import SweepPlan, run_sweep
from dinorad_rt.errors import EngineError, OutputExistsError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders with three PNG files each."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label in ("left", "right"):
        (root / label).mkdir()
        for index in range(3):
            pixels = rng.integers(0, 255, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{index}.png")
    return root


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Cells in the order of their measurement, in this process; the ceiling is planted."""
    cells: list[Cell] = []

    def here(cell: Cell, seconds: float) -> dict[str, Any]:
        cells.append(cell)
        return dict(json.loads(json.dumps(measure_cell(cell, seconds))))

    monkeypatch.setattr(sweep, "_in_own_process", here)
    monkeypatch.setattr(
        sweep, "measure_ceiling", lambda precision, device: Ceiling("cpu", precision, 0.5, 1024)
    )
    return cells


def _plan(images: Path, **changes: Any) -> SweepPlan:
    values: dict[str, Any] = {
        "models": ("test_vit",),
        "backends": ("onnxruntime",),
        "image_sizes": (32,),
        "batches": (1, 2),
        "repeats": 2,
        "seconds": 0.02,
        "cool_down": 0.0,
        "data": images,
    }
    return SweepPlan(**values | changes)


def test_every_mode_is_measured_and_a_run_goes_on(
    cache: Path, tmp_path: Path, images: Path, measured: list[Cell]
) -> None:
    said: list[str] = []
    document = run_sweep(_plan(images), tmp_path, say=said.append)
    assert json.loads((tmp_path / "bench.json").read_text()) == document
    modes = [(row["batch"], row["mode"]) for row in document["rows"]]
    pairs = [(b, m) for b in (1, 2) for m in ("latency", "throughput")]
    assert sorted(modes) == sorted([*pairs, (2, "end_to_end")])  # whole: the largest batch only
    assert [str(cell) for cell in measured] != sorted(str(cell) for cell in measured)
    assert any("10 measurements in random order" in line for line in said)
    early = next(i for i, line in enumerate(said) if "engines, " in line)
    assert said[early].startswith("2 engines, 2 of them to be built; then 10 measurements, about ")
    assert [line for line in said if line.startswith("cell 1 of 5: test_vit 32 px")]
    assert early < next(i for i, line in enumerate(said) if line.startswith("building"))
    _check(document)
    measured.clear()
    again = run_sweep(_plan(images, repeats=3), tmp_path)
    assert len(measured) == 5  # one more of each
    assert {len(row["runs"]) for row in again["rows"]} == {3}
    assert str(images) not in json.dumps(again)
    with pytest.raises(OutputExistsError, match="another seconds"):
        run_sweep(_plan(images, seconds=0.03), tmp_path)


def _check(document: dict[str, Any]) -> None:
    for row in document["rows"]:
        assert row["images_per_s"] > 0 and len(row["runs"]) == 2
        assert row["tflops"] == pytest.approx(2 * row["macs"] * row["images_per_s"] / 1e12)
        assert row["mfu"] == pytest.approx(row["tflops"] / 0.5)
        if row["mode"] == "latency":
            for times in (row["latency_ms"], row["engine_ms"]):
                assert times["p50"] <= times["p90"] <= times["p95"] <= times["p99"]
        if row["mode"] == "end_to_end":
            assert row["loader_per_s"] > 0
            assert {run["files"] for run in row["runs"]} == {"PNG"}


def test_a_long_run_tells_how_it_could_be_shorter(
    cache: Path, tmp_path: Path, images: Path, measured: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "LONG_SECONDS", 1.0)
    said: list[str] = []
    run_sweep(_plan(images, batches=(1,), repeats=1), tmp_path, say=said.append)
    assert any(line.startswith("shorter: --minutes 60") for line in said)


def test_every_cell_comes_once_before_any_comes_again(
    cache: Path, tmp_path: Path, images: Path, measured: list[Cell]
) -> None:
    run_sweep(_plan(images, repeats=3, end_to_end=False), tmp_path)
    rounds = [measured[i : i + 4] for i in range(0, 12, 4)]
    assert [len(set(cells)) for cells in rounds] == [4, 4, 4]
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]


def test_a_run_with_a_time_limit_ends_and_goes_on(
    cache: Path, tmp_path: Path, images: Path, measured: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps: building the first engine, or the first measurement, takes all the time."""
    now = [0.0]
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: now[0]))
    plan = _plan(images, repeats=1, minutes=1.0, end_to_end=False)

    def slow_builds(line: str) -> None:
        now[0] += 61.0 * line.startswith("building")

    with pytest.raises(
        EngineError, match="Nothing was measured: .*no time left of --minutes 1"
    ) as no:
        run_sweep(plan, tmp_path / "none", say=slow_builds)
    assert "--minutes" in no.value.fix and measured == []
    said: list[str] = []

    def measure(cell: Cell, seconds: float) -> dict[str, Any]:
        now[0] += 61.0
        return measuring(cell, seconds)

    measuring = sweep._in_own_process
    monkeypatch.setattr(sweep, "_in_own_process", measure)
    document = run_sweep(plan, tmp_path / "some", say=said.append)
    assert len(measured) == 1 == sum(len(row["runs"]) for row in document["rows"])
    assert [entry["reason"] for entry in document["skipped"]] == ["no time left of --minutes 1"] * 3
    assert "3 measurements are left; the same command goes on with them" in said
    document = run_sweep(replace(plan, minutes=None), tmp_path / "some")
    assert len(measured) == 4 == sum(len(row["runs"]) for row in document["rows"])
    assert document["skipped"] == []


def test_graphs_take_a_quarter_of_a_limited_time_at_most(
    cache: Path, tmp_path: Path, images: Path, measured: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each export takes 20 of 120 s: the third graph is left for the next time."""
    now = [0.0]
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: now[0]))
    sizes = {"image_sizes": (32, 48, 64), "batches": (1,), "repeats": 1, "end_to_end": False}
    plan = _plan(images, **sizes, minutes=2.0)

    def slow_exports(line: str) -> None:
        now[0] += 20.0 * line.startswith("tracing")

    document = run_sweep(plan, tmp_path, say=slow_exports)
    assert {row["image_size"] for row in document["rows"]} == {32, 48} and len(measured) == 4
    (left,) = document["skipped"]
    assert left == {
        "model": "test_vit",
        "image_size": "64",
        "precision": "fp32",
        "reason": "not exported: no time left of --minutes 2",
    }
    document = run_sweep(plan, tmp_path, say=slow_exports)
    assert {row["image_size"] for row in document["rows"]} == {32, 48, 64} and len(measured) == 6
    assert document["skipped"] == []


def test_what_another_question_measured_stays(
    cache: Path, tmp_path: Path, images: Path, measured: list[Cell]
) -> None:
    plan = _plan(images, batches=(1,), repeats=1, end_to_end=False)
    first = run_sweep(plan, tmp_path)
    said: list[str] = []
    both = run_sweep(replace(plan, batches=(2,)), tmp_path, say=said.append)
    assert f"2 cells of an earlier run in {tmp_path} stay beside these" in said
    assert [row["batch"] for row in both["rows"]] == [2, 2, 1, 1]
    assert [row["runs"] for row in both["rows"][2:]] == [row["runs"] for row in first["rows"]]


def test_what_does_not_run_here_is_left_out_and_said(
    cache: Path, tmp_path: Path, images: Path, measured: list[Cell]
) -> None:
    plan = _plan(images, precisions=("fp32", "fp16"), batches=(1,), repeats=1, end_to_end=False)
    document = run_sweep(plan, tmp_path)
    assert {row["precision"] for row in document["rows"]} == {"fp32"}
    assert {entry["precision"] for entry in document["skipped"]} == {"fp16"}
    assert all("cannot run fp16" in entry["reason"] for entry in document["skipped"])
    with pytest.raises(EngineError, match="Nothing could be measured: .*cannot run fp16"):
        run_sweep(_plan(images, precisions=("fp16",), batches=(1,)), tmp_path / "other")


def test_a_cell_that_fails_does_not_end_the_run(
    cache: Path, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, measured: list[Cell]
) -> None:
    working = sweep._in_own_process

    def sometimes(cell: Cell, seconds: float) -> dict[str, Any]:
        if cell.batch == 2:
            raise EngineError("out of memory")
        return working(cell, seconds)

    monkeypatch.setattr(sweep, "_in_own_process", sometimes)
    document = run_sweep(_plan(images, repeats=1, end_to_end=False), tmp_path)
    assert {row["batch"] for row in document["rows"] if row["runs"]} == {1}
    assert {entry["reason"] for entry in document["skipped"]} == {"out of memory"}
    again = run_sweep(_plan(images, repeats=1, end_to_end=False), tmp_path)
    assert {row["batch"] for row in again["rows"] if row["runs"]} == {1}


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_energy_is_of_the_calls_that_are_counted(
    monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """A call costs 8 J, whatever is called to warm up or to fill the pipeline."""

    class Runner:
        look_ahead, calls = 3, 0

        def infer(self, pixels: Any) -> None:
            self.calls += 1

        def infer_stream(self, batches: Any) -> Any:
            for pixels in batches:
                self.infer(pixels)
                yield

    runner: Any = Runner()
    monkeypatch.setattr(energy, "_counters", lambda _: {"planted": (8.0 * runner.calls, 0.0)})
    cell = Cell("m", "onnxruntime", "fp32", 32, 4, mode, "")
    measured = _measure(cell, runner, np.zeros((4, 3, 2, 2), np.float32), 0.0)
    assert measured["joules_per_image"] == {"planted": 2.0}
    assert runner.calls > measured.get("calls", measured.get("latency_ms", {}).get("n"))


def test_why_a_measurement_failed_is_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cell = Cell("m", "onnxruntime", "fp32", 32, 4, "latency", str(tmp_path))
    with pytest.raises(
        EngineError, match=r"failed: The engine .* cannot be used: its engine\.json"
    ):
        sweep._in_own_process(cell, 0.0)
    killed = subprocess.CompletedProcess([], -9, "", "a warning of a library\n")
    monkeypatch.setattr(sweep.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(EngineError, match="its process was killed, most often because memory"):
        sweep._in_own_process(cell, 0.0)


@pytest.mark.slow
def test_a_cell_in_a_process_of_its_own(cache: Path, tmp_path: Path, images: Path) -> None:
    plan = _plan(images, batches=(2,), repeats=1)
    document = run_sweep(plan, tmp_path)
    assert all(row["runs"] for row in document["rows"]) and not document["skipped"]
    assert document["ceilings"][0]["tflops"] > 0


def test_int8_is_left_out_before_it_is_calibrated_for_backends_without_it(
    images: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned, "dataset_for", lambda *_, **__: pytest.fail("data were opened"))
    plan = _plan(images, backends=("pytorch", "tensorrt"), precisions=("int8",))
    skipped: list[dict[str, str]] = []
    assert planned.planned_cells(plan, pace.TimeLimit(None), skipped, print) == []
    assert [entry["precision"] for entry in skipped] == ["int8"]
    assert "runs no INT8 graphs" in skipped[0]["reason"]
