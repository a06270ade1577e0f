"""Masks with other numbers than 0, 1, 2: a run holds them, and every verb opens masks by them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dinorad_rt.cli.verbs import app
from dinorad_rt.datasets.mask_classes import choices_of
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import LabelError, OutputExistsError
from dinorad_rt.training.run_folder import read_run, write_run

VALUES = (0, 60, 255)
GREY = np.asarray([20, 110, 210])


def write_set(folder: Path, values: tuple[int, ...], count: int = 8, *, start: int = 0) -> Path:
    """images/ and masks/: two boxes, stored as the last two of the values."""
    for number in range(start, start + count):
        mask = np.zeros((32, 32), np.int64)
        mask[4:16, 3:14], mask[14 + number % 3 : 28, 16:30] = 1, 2
        noise = np.random.default_rng(number).integers(0, 20, mask.shape)
        for part, pixels in (("images", GREY[mask] + noise), ("masks", np.asarray(values)[mask])):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(pixels)).save(folder / part / f"{number}.png")
    return folder


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def done(*words: str | Path) -> Result:
    found = invoke(*words)
    assert found.exit_code == 0, (found.output, found.exception)
    return found


def program(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The program as a user starts it."""
    call = [sys.executable, "-m", "dinorad_rt", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def train(data: Path, run: Path, *words: str) -> Result:
    model = ("--model", "test_vit", "--weights", "random", "--decoder", "linear")
    short = ("--image-size", "32", "--steps", "2", "--device", "cpu", "--backend", "pytorch")
    return invoke("train", "--protocol", "segmentation", *model, *short, *words, "--data", data,
                  "--out", run)  # fmt: skip


@pytest.mark.slow
def test_every_verb_opens_the_masks_by_the_values_of_the_run(tmp_path: Path, cache: Path) -> None:
    data, run = write_set(tmp_path / "data", VALUES), tmp_path / "run"
    names = ("--class-names", "background,vessel,bone")
    assert train(data, run, *names).exit_code == 0
    facts = json.loads((run / "train.json").read_text())["data"]
    assert facts["class_names"] == ["background", "vessel", "bone"]
    assert facts["mask_values"] == list(VALUES)
    assert "going on with the run" in train(data, run, *names).output
    on = ("--checkpoint", run, "--data", data, "--json")
    judged = json.loads(done("eval", *on, "--backend", "pytorch", "--out", tmp_path / "e").stdout)
    known = judged["provenance"]["dataset"]
    assert all(known[name] == facts[name] for name in ("class_names", "mask_values", "fingerprint"))
    assert json.loads(done("export", *on).stdout)["task_gate"]["volumes"] == 2
    done("bundle", run, "--data", data, "--out", tmp_path / "bundle")
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert "0, 1, 2 in predicted ones; 0, 60, 255 in those of training" in card
    done("predict", tmp_path / "bundle", data / "images" / "0.png", "--out", tmp_path / "answers")
    refused = program("bundle", run, "--out", tmp_path / "named", "--class-names", "60=a,7=b")
    assert refused.returncode == 2 and "7, which the run does not know" in refused.stderr
    done("bundle", run, "--out", tmp_path / "named", "--class-names", "60=artery,bone=rib")
    card = (tmp_path / "named" / "MODEL_CARD.md").read_text()
    assert "| classes | background, artery, rib |" in card
    assert "| classes in the run | background, vessel, bone |" in card
    done("predict", tmp_path / "named", data / "images" / "0.png", "--out", tmp_path / "new")
    columns = (tmp_path / "new" / "predictions.csv").read_text().splitlines()[0]
    assert "volume_ml_artery" in columns and "volume_ml_vessel" not in columns


def test_a_run_of_the_earlier_form_tells_values_by_guessed_names(
    tmp_path: Path, cache: Path
) -> None:
    data, run = write_set(tmp_path / "data", VALUES), tmp_path / "run"
    assert train(data, run).exit_code == 0
    facts = json.loads((run / "train.json").read_text())
    assert facts["data"]["class_names"] == ["background", "class 60", "class 255"]
    assert facts["data"].pop("mask_values") == list(VALUES)
    (run / "train.json").write_text(json.dumps(facts))
    assert "going on with the run" in train(data, run).output
    part = write_set(tmp_path / "part", (0, 0, 255), start=20)
    on = ("--checkpoint", run, "--data", part, "--backend", "pytorch", "--json")
    judged = json.loads(done("eval", *on, "--out", tmp_path / "eval").stdout)
    there = {one["class_name"]: one["n_positive"] for one in judged["metrics"]}
    assert there["class 255"] == 2 and not there["class 60"]
    write_set(data, (0, 70, 255))
    again = train(data, run)
    assert isinstance(again.exception, OutputExistsError)
    assert "data.class_names" in again.exception.problem


def test_masks_with_other_values_are_refused(tmp_path: Path, cache: Path) -> None:
    """Before any work: a run's facts are enough."""
    run, other = tmp_path / "run", write_set(tmp_path / "other", (0, 1, 2))
    names = ("background", "a", "b")
    known = {"task": "segmentation", "class_names": names, "mask_values": VALUES}
    write_run(run, {"kind": "segmenter", "data": known})
    for verb in ("eval", "export", "bundle"):
        of = (run,) if verb == "bundle" else ("--checkpoint", run)
        found = program(verb, *of, "--data", other, "--out", tmp_path / verb)
        assert found.returncode == 2 and "Traceback" not in found.stderr
        assert "8 of 8 masks hold the values [1, 2]" in found.stderr
        told = " ".join(found.stderr.split())
        assert "Allowed: 0 (background), 60 (a), 255 (b)" in told and "dataset.json" in told
        assert not (tmp_path / verb).exists()
    labels = {"background": 0, "a": 1, "b": 2}
    (other / "dataset.json").write_text(json.dumps({"labels": labels}))
    dataset = open_dataset(other, **choices_of(read_run(run)["data"]))
    assert dataset.class_names == names and dataset.mask_values == (0, 1, 2)
    (other / "dataset.json").write_text(json.dumps({"labels": {**labels, "b": 3}}))
    with pytest.raises(LabelError, match=r"hold the values \[2\]"):
        open_dataset(other, **choices_of(known))


def test_names_are_given_to_values_in_their_order_or_not_at_all(
    tmp_path: Path, cache: Path
) -> None:
    data = write_set(tmp_path / "data", VALUES)
    dataset = open_dataset(data, class_names=("background", "a", "b"))
    told = "values of the masks are taken for the classes in their order: 0 (background), 60 (a)"
    assert any(told in note for note in dataset.notes)
    for names, wrong in (
        (("background", "a", "b", "c"), r"\[60, 255\]"),
        (("background", "a"), ""),
    ):
        with pytest.raises(LabelError, match=f"hold the values {wrong}"):
            open_dataset(data, class_names=names)
    gap = write_set(tmp_path / "gap", (0, 2, 3))  # 2 may be the third class: nothing is guessed
    with pytest.raises(LabelError, match=r"hold the values \[3\]"):
        open_dataset(gap, class_names=("background", "a", "b"))
    for values in ((0, 60), (0, 60, 60)):
        with pytest.raises(LabelError, match="no different values of the classes"):
            open_dataset(data, class_names=("background", "a", "b"), mask_values=values)
