"""The task gate of segmenters: verdicts that the data allow, and `export --checkpoint --data`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from dinorad_rt.cli.verbs import app
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.engines.mask_gate import SegmentationGate, judge_masks
from dinorad_rt.errors import ParityError
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.segmentation import on_engine
from dinorad_rt.training.segmentation.predict import SliceSegmenter
from dinorad_rt.training.segmentation.run import train_segmentation
from dinorad_rt.training.segmentation.task_gate import gate_on_validation
from dinorad_rt.training.settings import TrainSettings

from .test_run import SCRATCH

SPEC = PreprocessSpec(64, (0, 0, 0), (1, 1, 1), intensity="window", window=(100, 200))


def of(levels: tuple[float, float, float]) -> SliceSegmenter:
    """A segmenter that knows tissue by its grey."""
    middle = np.asarray(levels, np.float32)[:, None, None]
    return SliceSegmenter(SPEC, 3, lambda pixels: -np.abs(pixels[:, :1] - middle))


def judged(
    difference: np.ndarray, equal: int = 1000, patients: int | None = None
) -> SegmentationGate:
    """Volumes of a known Dice, 1000 voxels each."""
    count = len(difference)
    dice = np.stack([np.full(count, 0.8), 0.8 + difference], axis=1)
    owners = [f"p{index % (patients or count)}" for index in range(count)]
    return judge_masks(dice, np.tile([equal, 1000], (count, 1)), owners)


def test_equal_masks_of_enough_patients_pass() -> None:
    gate = judged(np.zeros(30))
    assert gate.verdict == "passed" and gate.difference == 0 and gate.agreement_low == 1


def test_a_difference_beyond_the_margin_fails() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-4, 40)
    gate = judged(noise - 0.01)
    assert gate.verdict == "failed" and "0.002" in gate.reason
    assert gate.high < -0.002 and gate.low < gate.difference < gate.high
    assert judged(noise - 0.001).verdict == "passed"


def test_what_the_data_cannot_tell_is_undecided() -> None:
    wide = judged(np.random.default_rng(0).normal(0, 0.05, 40))
    assert wide.verdict == "undecided" and "reaches beyond" in wide.reason
    few = judged(np.zeros(40), patients=5)
    assert few.verdict == "undecided" and "5 in the validation split" in few.reason
    none = judge_masks(
        np.full((30, 2), np.nan), np.tile([9, 9], (30, 1)), list(map(str, range(30)))
    )
    assert none.verdict == "undecided" and none.as_dict()["difference"] is None


def test_other_masks_of_equal_dice_fail() -> None:
    gate = judged(np.zeros(40), equal=980)
    assert gate.verdict == "failed" and "98.00%" in gate.reason


def test_the_interval_is_by_patient() -> None:
    """Copies of one patient's volume tell nothing new."""
    steps = np.random.default_rng(1).normal(0, 0.01, 12)
    once = judged(steps)
    copied = judged(np.tile(steps, 5), patients=12)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=1e-12)


def test_a_differing_engine_fails_the_gate(volumes: Dataset) -> None:
    same = gate_on_validation(of((0.1, 0.9, 0.55)), of((0.1, 0.9, 0.55)), volumes)
    assert same.difference == 0 and same.agreement == 1 and same.volumes == 2
    shifted = gate_on_validation(of((0.5, 0.9, 0.55)), of((0.1, 0.9, 0.55)), volumes)
    assert shifted.verdict == "failed" and shifted.difference < -0.01


def test_an_unreadable_volume_is_left_out(volumes: Dataset) -> None:
    broken = volumes.of_split("val")[0].path
    broken.write_bytes(broken.read_bytes()[:200])
    gate = gate_on_validation(of((0.1, 0.9, 0.55)), of((0.1, 0.9, 0.55)), volumes)
    assert (gate.volumes, gate.unreadable) == (1, 1)


@pytest.fixture
def run(volumes: Dataset, loop: Callable[..., TrainSettings], tmp_path: Path) -> Path:
    """A small U-Net."""
    train_segmentation(SCRATCH, loop(epochs=1), volumes, tmp_path / "run")
    return tmp_path / "run"


def test_export_with_data_writes_the_gate(run: Path, tmp_path: Path) -> None:
    found = export(run, tmp_path / "data", "--json")
    assert found.exit_code == 0, found.output
    gate = json.loads(found.stdout)["task_gate"]
    assert gate["volumes"] == 2 and abs(gate["difference"]) < 1e-3 and gate["agreement"] > 0.999
    assert gate["low"] <= gate["difference"] <= gate["high"]
    told = export(run, tmp_path / "data")
    assert "Task gate    undecided: Dice" in told.stdout and "too few patients: 2" in told.stdout


def test_export_refuses_an_engine_that_fails(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_engine, "segmenter_on", lambda runner, tuned: of((0.5, 0.9, 0.55)))
    found = export(run, tmp_path / "data")
    assert isinstance(found.exception, ParityError) and "task gate" in found.exception.problem
    assert "Task gate    failed: Dice" in found.stdout, "the numbers are told before"


def export(run: Path, data: Path, *more: str) -> Result:
    """`export --checkpoint`, with the run's data."""
    words = ["export", "--checkpoint", str(run), "--data", str(data), *more]
    return CliRunner().invoke(app, words)
