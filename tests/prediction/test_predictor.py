"""`Predictor`: the same answers as `predict`, in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dinorad_rt.errors import DataError, EmptyDataError, EngineError
from dinorad_rt.prediction import predictor as module
from dinorad_rt.prediction.bundle import Bundle
from dinorad_rt.prediction.predictor import Predictor
from dinorad_rt.studies.read import read_study
from tests.prediction.conftest import StandInRunner, stand_in_engine

Make = Callable[..., Bundle]


@pytest.fixture
def predictor_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Bundle], Predictor]:
    """A predictor on the stand-in engine of `predict_with`."""

    def make(bundle: Bundle) -> Predictor:
        engine = stand_in_engine(bundle)
        monkeypatch.setattr(module, "build_engine", lambda *_, **__: engine)
        monkeypatch.setattr(module, "open_runner", lambda _: StandInRunner(engine, bundle))
        return Predictor(bundle)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures, one of them broken, and a volume."""
    root = tmp_path / "in"
    root.mkdir()
    rng = np.random.default_rng(0)
    for index in range(7):
        pixels = rng.integers(0, 30 * (index + 1), (20, 24)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.png")
    (root / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    volume = rng.standard_normal((12, 10, 6)).astype(np.float32) + np.linspace(0, 3, 6)
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), affine), root / "v.nii.gz")
    return root


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_answers_are_those_of_predict(
    bundle_of: Make, predictor_of: Any, predict_with: Any, folder: Path, tmp_path: Path, task: str
) -> None:
    classes = ("no", "yes") if task == "binary" else ("none", "some", "much")
    point = {"threshold": 0.35, "sensitivity": 1.0, "specificity": 0.5, "rule": "test"}
    bundle = bundle_of(task=task, classes=classes, operating_points={classes[-1]: point})
    predict_with(bundle, folder, tmp_path / "out", keep_identifiers=True)
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    with predictor_of(bundle) as predictor:
        answers = list(predictor.answers(folder, workers=2))
    assert [answer.name for answer in answers] == [row["file"] for row in rows]
    for answer, row in zip(answers, rows, strict=True):
        if row["status"] == "failed":
            assert (answer.reason, answer.probabilities) == (row["reason"], {})
            continue
        assert answer.probabilities == {n: row[f"probability_{n}"] for n in classes}
        assert "|".join(answer.predicted) == row["predicted"]
        assert answer.slices == row["slices"] and answer.study is not None


def test_one_image_by_path_and_in_memory(bundle_of: Make, predictor_of: Any, folder: Path) -> None:
    with predictor_of(bundle_of()) as predictor:
        by_path = predictor.answer(folder / "v.nii.gz")
        in_memory = predictor.answer(read_study(folder / "v.nii.gz"))
        among = {a.name: a for a in predictor.answers(folder)}
    assert by_path.probabilities == in_memory.probabilities == among["v.nii.gz"].probabilities
    assert in_memory.name == "" and by_path.slices == 6


def test_masks_are_those_of_predict_with_their_volumes(
    bundle_of: Make, predictor_of: Any, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(
        kind="segmentation", task="segmentation", classes=("background", "organ", "tumour")
    )
    predict_with(bundle, folder, tmp_path / "out", keep_identifiers=True)
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    (row,) = (row for row in rows if row["file"] == "v.nii.gz")
    with predictor_of(bundle) as predictor:
        answer = predictor.answer(folder / "v.nii.gz")
    assert answer.mask is not None and answer.study is not None
    assert answer.mask.shape == answer.study.pixels.shape and answer.mask.any()
    stored = nibabel.load(tmp_path / "out" / row["mask"])
    places = np.stack(np.indices(answer.mask.shape).reshape(3, -1))  # where the study says they are
    world = np.diag([-1.0, -1.0, 1.0, 1.0]) @ answer.study.affine()  # LPS to RAS
    voxels = nibabel.affines.apply_affine(np.linalg.inv(stored.affine) @ world, places.T)
    at = tuple(np.rint(voxels).astype(int).T)
    assert np.array_equal(np.asarray(stored.dataobj)[at], answer.mask.ravel())
    assert answer.volumes_ml == {n: row[f"volume_ml_{n}"] for n in ("organ", "tumour")}
    assert answer.volumes_ml["organ"] == pytest.approx((answer.mask == 1).sum() * 6 / 1000)


def test_what_cannot_be_answered_raises(
    bundle_of: Make, predictor_of: Any, folder: Path, tmp_path: Path
) -> None:
    predictor = predictor_of(bundle_of())
    with pytest.raises(EngineError, match="not open"):
        predictor.answer(folder / "0.png")
    with pytest.raises(EngineError, match="not open"):
        predictor.answers(folder)
    with predictor:
        with pytest.raises(DataError, match="No answer for 3.png"):
            predictor.answer(folder / "3.png")
        with pytest.raises(DataError, match="holds 8 series, volumes or images"):
            predictor.answer(folder)
        with pytest.raises(EmptyDataError, match="does not exist"):
            predictor.answer(tmp_path / "none.png")
        assert predictor.answer(folder / "0.png").predicted  # it goes on
    with pytest.raises(EngineError, match="not open"):
        predictor.answer(folder / "0.png")


def test_another_modality_than_the_trainings_is_told(
    bundle_of: Make, predictor_of: Any, folder: Path
) -> None:
    study = read_study(folder / "v.nii.gz")
    with predictor_of(bundle_of(training={"data": {"modalities": ["CT"]}})) as predictor:
        assert predictor.answer(replace(study, modality="CT")).strange == ""
        told = predictor.answer(replace(study, modality="MR")).strange
    assert told.startswith("trained on CT; 1 of 1 item is MR")


def test_threads_take_turns(bundle_of: Make, predictor_of: Any, folder: Path) -> None:
    names = [f"{i}.png" for i in (0, 1, 2, 4, 5, 6)] * 4
    with predictor_of(bundle_of()) as predictor:
        alone = {name: predictor.answer(folder / name).probabilities for name in set(names)}
        found: list[tuple[str, Any]] = []

        def ask(name: str) -> None:
            try:
                found.append((name, predictor.answer(folder / name).probabilities))
            except BaseException as error:
                found.append((name, error))

        threads = [threading.Thread(target=ask, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == len(names)
    assert all(answer == alone[name] for name, answer in found)


def test_a_stream_left_early_frees_the_predictor(
    bundle_of: Make, predictor_of: Any, folder: Path
) -> None:
    with predictor_of(bundle_of()) as predictor:
        stream = predictor.answers(folder)
        first = next(stream)
        stream.close()
        assert predictor.answer(folder / "0.png").probabilities == first.probabilities
