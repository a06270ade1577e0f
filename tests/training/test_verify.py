"""`verify --checkpoint`: the engine of a run, down to its Dice or AUROC, in one report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dinorad_rt.cli.verbs import app
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import ProtocolError, RunError
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.segmentation import on_engine
from dinorad_rt.training.segmentation.predict import SliceSegmenter
from dinorad_rt.training.segmentation.run import train_segmentation
from dinorad_rt.training.settings import TrainSettings

from .segmentation.conftest import CLASSES, write_volumes
from .segmentation.test_run import SCRATCH
from .test_classify import run_of

Verified = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_volumes(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, data: Path, cache: Path) -> Path:
    """A small U-Net, trained for an epoch."""
    dataset = open_dataset(data, task="segmentation", class_names=CLASSES)
    loop = TrainSettings(epochs=1, batch_size=8, lr=3e-3, device="cpu")
    train_segmentation(SCRATCH, loop, dataset, tmp_path / "run")
    return tmp_path / "run"


def verified(run: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report."""
    line = ["verify", "--checkpoint", str(run), "--precision", "fp32", "--backend", "pytorch"]
    done = CliRunner().invoke(app, [*line, "--json", *words], catch_exceptions=False)
    assert done.exit_code in (0, 1), done.output
    return done.exit_code, json.loads(done.stdout)


def test_a_segmenter_is_checked_down_to_its_dice(run: Path, data: Path) -> None:
    code, report = verified(run, "--data", str(data))
    names = ["export parity", "build parity", "finiteness", "rows alone and in company"]
    assert [check["name"] for check in report["checks"]] == [
        *names,
        "proof of precision",
        "task gate",
    ]
    assert [check["verdict"] for check in report["checks"]] == ["passed"] * 5 + ["undecided"]
    gate = report["checks"][-1]
    assert code == 0
    assert "Dice 0." in gate["text"] and "2 validation cases of 2 patients" in gate["text"]
    assert "too few patients: 2" in gate["text"] and "more" in gate["fix"]
    numbers = gate["numbers"]
    assert numbers["low"] <= numbers["difference"] <= numbers["high"]
    assert abs(numbers["difference"]) < 1e-3 and numbers["agreement"] > 0.999
    assert verified(run, "--data", str(data), "--strict")[0] == 1


def test_an_engine_with_another_dice_fails(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PreprocessSpec(32, (0, 0, 0), (1, 1, 1), intensity="window", window=(100, 200))
    middle = np.asarray((0.1, 0.9, 0.55), np.float32)[:, None, None]
    other = SliceSegmenter(spec, 3, lambda pixels: -np.abs(pixels[:, :1] - middle))
    monkeypatch.setattr(on_engine, "segmenter_on", lambda runner, tuned: other)
    code, report = verified(run, "--data", str(data))
    gate = report["checks"][-1]
    assert (code, gate["name"], gate["verdict"]) == (1, "task gate", "failed")
    assert "--precision mixed or fp32" in gate["fix"]


def test_without_data_the_task_is_not_asked(run: Path) -> None:
    code, report = verified(run)
    assert code == 0 and report["checks"][-1]["verdict"] == "not run"
    assert "--data" in report["checks"][-1]["text"]


def test_what_cannot_be_asked_of_a_run(run: Path, data: Path, tmp_path: Path) -> None:
    words = ["verify", "--checkpoint", str(run)]
    done = CliRunner().invoke(app, [*words, "--graph", str(tmp_path)])
    assert isinstance(done.exception, ProtocolError) and "--graph" in done.exception.problem
    done = CliRunner().invoke(app, [*words, "--dataset", "phantom"])
    assert isinstance(done.exception, RunError) and "segments" in done.exception.problem


def test_a_classifier_is_checked_down_to_its_auroc(
    images: Callable[..., Path], tmp_path: Path, cache: Path
) -> None:
    folder = images(tmp_path / "images")
    run_of(open_dataset(folder), tmp_path / "run", epochs=1)
    code, report = verified(tmp_path / "run", "--data", str(folder))
    gate = report["checks"][-1]
    assert (code, gate["verdict"], report["weights_kind"]) == (0, "undecided", "random")
    assert "6 validation images of 6 patients" in gate["text"]
    assert abs(gate["numbers"]["difference"]) < 1e-6 and gate["numbers"]["agreement"] == 1
    assert "worst cosine 1.0" in report["checks"][0]["text"]
