"""`train`, and what `export` and `eval` do with its runs, as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dinorad_rt.cli.verbs import app
from dinorad_rt.errors import DinoradError, LeakageError

TINY = "--model test_vit --image-size 32 --weights random --epochs 1 --batch-size 6"
SMALL = f"{TINY} --rank 4"


def verb(*words: str | Path) -> Any:
    """Run a verb in this process; errors of ours come out as they are."""
    text = [part for word in words for part in str(word).split(" ")]
    done = CliRunner().invoke(app, text)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> Path:
    import cv2

    rng = np.random.default_rng(0)
    lines = ["image,class,patient,split"]
    for index in range(24):
        split = ("train", "train", "val", "test")[index // 2 % 4]
        name = f"{index}.png"
        pixels = rng.integers(0, 120, (40, 40)) + 100 * (index % 2)
        (tmp_path / "data").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "data" / name), pixels.astype(np.uint8))
        lines.append(f"{name},c{index % 2},p{index},{split}")
    (tmp_path / "data/labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def test_a_run_says_where_things_lie_and_goes_to_an_engine(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = verb("train --protocol lora --adapter dora", SMALL, "--data", data, "--out", run)
    assert done.exit_code == 0
    for text in ("parameters of the backbone are trained", "epoch 1/1", "weights: random"):
        assert text in done.output, text
    for name in ("train.json", "best.safetensors", "adapter", "results.json"):
        assert str(run / name) in done.output.replace("\n", "")
    assert f"dinorad-rt eval --checkpoint {run}" in done.output

    exported = verb("export --checkpoint", run, "--out", tmp_path / "graph", "--json")
    manifest = json.loads(exported.stdout)
    assert manifest["outputs"] == {"cls": [4, 64], "patch_mean": [64], "logits": [2]}
    assert manifest["weights_kind"] == "random"

    judged = verb("eval --backend onnxruntime --checkpoint", run, "--data", data, "--json")
    document = json.loads(judged.stdout)
    assert document["protocol"] == "lora" and document["weights"] == "random"
    assert document["provenance"]["task_gate"]["agreement"] == 1.0

    text = (data / "labels.csv").read_text()  # one patient of training, and new ones, are tested
    (data / "labels.csv").write_text(text.replace("p0,train", "p0,test"))
    again = (
        "eval --backend onnxruntime --checkpoint",
        run,
        "--data",
        data,
        "--out",
        tmp_path / "e",
    )
    with pytest.raises(LeakageError, match=r"^1 of 7 test patients \(1 image\) was trained on"):
        verb(*again)
    judged = verb(*again, "--trained-on leave-out --json")
    document = json.loads(judged.stdout)
    assert next(one["n"] for one in document["metrics"] if one["name"] == "auroc") == 6
    told = next(note for note in document["notes"] if "left out, as asked" in note)
    assert told in judged.stderr


@pytest.mark.slow
def test_a_run_meets_its_data_with_the_columns_of_its_training(data: Path, tmp_path: Path) -> None:
    table = (data / "labels.csv").rename(data / "table.csv")
    table.write_text(table.read_text().replace("image,class,", "image,seen,"))
    run, where = tmp_path / "run", ("--data", table, "--label-column", "seen")
    verb("train", SMALL, *where, "--out", run)
    made = verb("bundle", run, *where, "--out", tmp_path / "bundle", "--json")
    assert json.loads(made.stdout)["operating_points"]
    assert json.loads(made.stdout)["calibration"]["slices"] == [1, 1]
    with pytest.raises(DinoradError, match="label"):
        verb("bundle", run, "--data", table, "--out", tmp_path / "other")


def test_options_change_single_choices_of_the_preset(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = "--preset study --augment none --head-init probe --lr 0.5 --ema 0.9 --no-patch-mean"
    done = verb("train --protocol bitfit", TINY, options, "--data", data, "--out", run, "--json")
    assert json.loads(done.stdout)["history"]["stopped"] == "finished"
    facts = json.loads((run / "train.json").read_text())
    assert facts["settings"]["optimizer"] == "sgd" and facts["settings"]["lr"] == 0.5
    assert facts["settings"]["ema"] == 0.9
    assert facts["recipe"]["augmentation"] == "none" and facts["recipe"]["preset"] == "study"
    assert facts["head"] == {"blocks": 1, "patch_mean": False}
    assert facts["preprocessing"]["intensity"] == "minmax"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--lr 0", "--lr"),
        ("--warmup 1.5", "--warmup"),
        ("--blocks 4 --model resnet18 --image-size 64 --out {out}", "resnet18 has 1"),
        ("--out {out} --device cuda:9", "CUDA GPUs"),
    ],
)
def test_bad_choices_are_users_errors(
    options: str, message: str, data: Path, tmp_path: Path
) -> None:
    """In a process of its own, which removes an empty folder as it ends."""
    text = f"train {SMALL} {options.format(out=tmp_path / 'run')}".split()
    done = subprocess.run(
        [sys.executable, "-m", "dinorad_rt", *text, "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_a_users_error(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DinoradError, match=r"holds no train\.json"):
        verb("export --checkpoint", tmp_path)
