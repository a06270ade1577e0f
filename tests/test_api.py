"""The Python API from training to an answer in memory, as a user writes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import dinorad_rt as dr
from dinorad_rt.errors import UnknownNameError
from tests.training.conftest import write_images
from tests.training.segmentation.conftest import CLASSES, write_volumes

SMALL = {"epochs": 1, "batch_size": 8, "device": "cpu"}


@pytest.fixture
def dataset(tmp_path: Path, cache: Path) -> dr.Dataset:
    return dr.open_dataset(write_images(tmp_path / "images"))


def test_train_evaluate_bundle_predict_report(dataset: dr.Dataset, tmp_path: Path) -> None:
    run, said = tmp_path / "runs" / "lora", []
    trained = dr.train(
        dataset, run, model="test_vit", weights="random", image_size=32, say=said.append, **SMALL
    )
    assert trained.results is not None and trained.results.is_random and said
    judged = dr.evaluate_run(run, dataset, backend="onnxruntime")
    assert judged.provenance["engine"]["backend"] == "onnxruntime"
    made = dr.bundle(run, tmp_path / "bundle", dataset, backend="onnxruntime")
    assert made.facts["calibration"]
    image = dataset.of_split("test")[0].path
    done = dr.predict(made, image.parent, tmp_path / "out", backend="onnxruntime")
    assert done.answered and not done.failed
    rows = pq.read_table(done.folder / "predictions.parquet").to_pylist()
    with dr.Predictor(tmp_path / "bundle", backend="onnxruntime") as predictor:
        answers = list(predictor.answers(image.parent))
        one = predictor.answer(dr.read_study(image))
    names = made.class_names
    found = [[answer.probabilities[name] for name in names] for answer in answers]
    wanted = [[row[f"probability_{name}"] for name in names] for row in rows]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    among = {answer.name: answer for answer in answers}[image.name]
    np.testing.assert_allclose(
        list(one.probabilities.values()), list(among.probabilities.values()), atol=1e-6
    )
    page, *_ = dr.report([tmp_path / "runs"], tmp_path / "report", title="Two runs")
    assert "<title>Two runs" in page.read_text(encoding="utf-8")


def test_a_segmenter_answers_with_masks(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("monai")
    root = write_volumes(tmp_path / "data")
    dataset = dr.open_dataset(root, task="segmentation", class_names=CLASSES)
    run = tmp_path / "run"
    choices = {"width": 4, "image_size": 32, **SMALL}
    trained = dr.train(dataset, run, protocol="segmentation", model="unet", **choices)
    assert trained.results is not None
    dr.bundle(run, tmp_path / "bundle")
    with dr.Predictor(tmp_path / "bundle", backend="onnxruntime") as predictor:
        answer = predictor.answer(root / "images" / "v0.nii.gz")
    assert answer.mask is not None and answer.study is not None
    assert answer.mask.shape == answer.study.pixels.shape
    assert answer.volumes_ml is not None and set(answer.volumes_ml) == set(CLASSES[1:])


def test_verify_tells_each_check(cache: Path) -> None:
    report = dr.verify(
        "test_vit", weights="random", backend="onnxruntime", image_size=32, precision="fp32"
    )
    assert not report.failed
    assert {"export", "build"} <= {check["name"].split()[0] for check in report.as_dict()["checks"]}
    json.dumps(report.as_dict())


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ({"learning_rate": 1.0}, "choice of training 'learning_rate'"),
        ({"protocol": "segmentation", "decode": "unet"}, "Closest: decoder"),
        ({"augmentation": "lite"}, "augmentation 'lite'"),
        ({"protocol": "lorra"}, "Closest: lora"),
        ({"preset": "modem"}, "Closest: modern"),
    ],
)
def test_unknown_names_are_refused(
    dataset: dr.Dataset, tmp_path: Path, wrong: dict[str, object], near: str
) -> None:
    with pytest.raises(UnknownNameError, match=near):
        dr.train(
            dataset,
            tmp_path / "run",
            **{"model": "test_vit", "weights": "random", "image_size": 32, **wrong},  # type: ignore[arg-type]
        )
