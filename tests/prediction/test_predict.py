"""`predict` from files to a table: numbers, resume, failures, identifiers."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.special import expit, softmax
from typer.testing import CliRunner

from dinorad_rt.cli.verbs import app
from dinorad_rt.errors import DataError, EmptyDataError, OutputExistsError
from dinorad_rt.files import only_writer
from dinorad_rt.prediction.bundle import Bundle
from dinorad_rt.prediction.inputs import find_items
from dinorad_rt.prediction.predict import predict
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.studies.read import read_study

Make = Callable[..., Bundle]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven pictures, a volume, and a file that is no image."""
    root = tmp_path / "in" / "Doe^John"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(11):
        Image.fromarray(rng.integers(0, 20 * (index + 1), (20, 24)).astype(np.uint8)).save(
            root / f"{index:02d}.png"
        )
    (root / "05.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    volume = rng.standard_normal((12, 10, 6)).astype(np.float32) + np.linspace(0, 3, 6)
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4)), root / "v.nii.gz")
    return tmp_path / "in"


def expected_logits(bundle: Bundle, path: Path) -> np.ndarray:
    study = read_study(path).displayed()
    rows = [Preprocessor(bundle.preprocessing)(study.slice(i)) for i in range(study.num_slices)]
    mean = np.asarray(rows, np.float64).reshape(len(rows), -1).mean(axis=1)
    count = len(bundle.class_names)
    return np.stack([mean * (i - 0.5 * (count - 1)) for i in range(count)], axis=1).mean(axis=0)


def test_probabilities_are_those_of_each_file(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(classes=("no", "yes"), calibration={"temperature": [0.5]})
    done = predict_with(bundle, folder, tmp_path / "out", keep_identifiers=True)
    assert (done.answered, done.failed) == (11, 1)
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert [row["file"] for row in rows] == [item.name for item in find_items(folder)]
    for row in rows:
        if row["file"].endswith("05.png"):
            assert row["status"] == "failed" and row["reason"] and row["predicted"] is None
            continue
        truth = softmax(expected_logits(bundle, folder / row["file"]) / 0.5)
        assert row["probability_yes"] == pytest.approx(truth[1], abs=1e-5)
        assert row["predicted"] == ("yes" if truth[1] >= 0.5 else "no")
        assert row["slices"] == (6 if row["file"].endswith("nii.gz") else 1)
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["item"] for row in table] == [row["item"] for row in rows]


def test_volumes_without_spacing_are_empty_cells(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(kind="segmentation", task="segmentation", classes=("background", "organ"))
    predict_with(bundle, folder, tmp_path / "out", keep_identifiers=True)
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        cells = {row["file"]: row["volume_ml_organ"] for row in csv.DictReader(file)}
    assert cells["Doe^John/00.png"] == "" and float(cells["Doe^John/v.nii.gz"]) > 0


def test_an_operating_point_decides(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    point = {"threshold": 0.35, "sensitivity": 1.0, "specificity": 0.5, "rule": "test"}
    bundle = bundle_of(operating_points={"yes": point})
    predict_with(bundle, folder, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    for row in rows:
        if row["status"] == "ok":
            assert row["predicted"] == ("yes" if row["probability_yes"] >= 0.35 else "no")
    assert {row["predicted"] for row in rows} == {"yes", "no", None}


def test_several_labels_may_be_positive(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(task="multilabel", classes=("a", "b", "c"))
    predict_with(bundle, folder, tmp_path / "out", keep_identifiers=True)
    for row in pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist():
        if row["status"] == "ok":
            truth = expit(expected_logits(bundle, folder / row["file"]))
            names = [n for n, p in zip("abc", truth, strict=True) if p >= 0.5]
            assert row["predicted"] == "|".join(names)


def test_an_interrupted_run_goes_on_and_equals_an_uninterrupted_one(
    bundle_of: Make,
    predict_with: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dinorad_rt.prediction.predict.PART_ITEMS", 3)
    bundle = bundle_of()
    predict_with(bundle, folder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        predict_with(bundle, folder, tmp_path / "cut", fail_after=8)
    done = predict_with(bundle, folder, tmp_path / "cut")
    assert 0 < done.earlier < 12 and predict_with.runner.rows < 16
    whole, cut = (
        pq.read_table(tmp_path / name / "predictions.parquet").to_pylist()
        for name in ("whole", "cut")
    )
    for one, other in zip(whole, cut, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            close = isinstance(value, float) and value == pytest.approx(other[name], rel=1e-6)
            assert close or value == other[name]
    again = predict_with(bundle, folder, tmp_path / "cut")
    assert again.earlier == 12 and predict_with.runner.rows == 0


def test_other_questions_and_foreign_folders_are_left_alone(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of()
    predict_with(bundle, folder, tmp_path / "out")
    with pytest.raises(OutputExistsError, match="keep_identifiers"):
        predict_with(bundle, folder, tmp_path / "out", keep_identifiers=True)
    (folder / "new.png").write_bytes((folder / "Doe^John" / "00.png").read_bytes())
    with pytest.raises(OutputExistsError, match="items"):
        predict_with(bundle, folder, tmp_path / "out")
    (folder / "new.png").unlink()
    for facts in ({"calibration": {"temperature": [2.0]}}, {"class_names": ["benign", "cancer"]}):
        with pytest.raises(OutputExistsError, match="classes_and_calibration"):
            predict_with(bundle_of(**facts), folder, tmp_path / "out")
    (folder / "Doe^John" / "v.nii.gz").write_bytes(
        (folder / "Doe^John" / "v.nii.gz").read_bytes()[:-8] + b"8 others"
    )
    with pytest.raises(OutputExistsError, match="items"):
        predict_with(bundle, folder, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years")
    with pytest.raises(OutputExistsError, match="something else"):
        predict_with(bundle, folder, tmp_path / "other")


def test_a_foreign_folder_is_refused_before_an_engine_is_built(
    bundle_of: Make, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: object, **__: object) -> None:
        pytest.fail("an engine was built first")

    monkeypatch.setattr("dinorad_rt.prediction.predict.build_engine", built)
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(OutputExistsError, match="something else"):
        predict(bundle_of(), folder, tmp_path)


def test_masks_are_written_in_the_image_grid_and_named_by_keys(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of("segmentation", "segmentation", ("background", "bright"))
    out = tmp_path / "out"
    done = predict_with(bundle, folder / "Doe^John" / "v.nii.gz", out, overlays=True)
    assert (done.answered, done.failed) == (1, 0)
    (row,) = pq.read_table(out / "predictions.parquet").to_pylist()
    image = nibabel.load(folder / "Doe^John" / "v.nii.gz")
    mask = nibabel.load(out / row["mask"])
    np.testing.assert_array_equal(mask.affine, image.affine)
    found, values = np.asarray(mask.dataobj), image.get_fdata()
    assert found.shape == values.shape and 0 < found.mean() < 1
    assert values[found == 1].mean() > values[found == 0].mean() + 0.5
    assert row["volume_ml_bright"] == pytest.approx(found.sum() / 1000)
    assert (out / "overlays" / f"{row['item']}.png").is_file()


def test_a_volume_that_is_no_dicom_has_its_nifti_mask_where_both_forms_are_asked_for(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of("segmentation", "segmentation", ("background", "bright"))
    volume = folder / "Doe^John" / "v.nii.gz"
    choice = {"keep_identifiers": True}
    out = tmp_path / "both"
    done = predict_with(bundle, volume, out, masks=("nifti", "dicom-seg"), **choice)
    (row,) = pq.read_table(out / "predictions.parquet").to_pylist()
    assert done.answered == 1 and row["mask"].endswith(".nii.gz") and (out / row["mask"]).is_file()
    alone = predict_with(bundle, volume, tmp_path / "seg", masks=("dicom-seg",), **choice)
    assert (alone.answered, alone.failed) == (0, 1)
    (row,) = pq.read_table(tmp_path / "seg" / "predictions.parquet").to_pylist()
    assert row["reason"].endswith("Write NIfTI: --masks nifti")


def test_a_time_series_fails_with_the_advice_in_its_row(
    bundle_of: Make, predict_with: Any, tmp_path: Path
) -> None:
    bundle = bundle_of("segmentation", "segmentation", ("background", "bright"))
    values = np.random.default_rng(0).random((9, 8, 3, 2), np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "Doe.nii.gz")
    done = predict_with(bundle, tmp_path / "Doe.nii.gz", tmp_path / "out")
    assert (done.answered, done.failed) == (0, 1)
    (row,) = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert "(9, 8, 3, 2)" in row["reason"] and "Doe" not in row["reason"]
    assert row["reason"].endswith("split a time series first.")


def test_overlays_of_classes_are_refused(
    bundle_of: Make, predict_with: Any, tmp_path: Path
) -> None:
    bundle = bundle_of("classification", "binary", ("no", "yes"))
    with pytest.raises(DataError, match="Overlays show masks"):
        predict_with(bundle, tmp_path, tmp_path / "out", overlays=True)
    assert not (tmp_path / "out").exists()


def test_dicom_seg_is_refused_without_leave_for_identifiers(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of("segmentation", "segmentation", ("background", "bright"))
    with pytest.raises(DataError, match="carries name"):
        predict_with(bundle, folder, tmp_path / "out", masks=("dicom-seg",))
    assert not (tmp_path / "out").exists()


def test_no_identifier_reaches_the_results(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    predict_with(bundle_of(), folder, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        assert "Doe" not in path.name
        if path.suffix == ".parquet":
            assert "Doe" not in str(pq.read_table(path).to_pylist())
        elif path.is_file():
            assert b"Doe" not in path.read_bytes()


def test_a_slow_answer_is_written_at_once(
    bundle_of: Make,
    predict_with: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dinorad_rt.prediction.predict.PART_SECONDS", -1.0)
    predict_with(bundle_of(), folder, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows
    assert len(list((tmp_path / "out" / "parts").iterdir())) == rows


def test_a_part_that_was_damaged_is_named_and_answered_again(
    bundle_of: Make,
    predict_with: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dinorad_rt.prediction.predict.PART_ITEMS", 4)
    bundle, out = bundle_of(), tmp_path / "out"
    predict_with(bundle, folder, out)
    whole = (out / "predictions.csv").read_bytes()
    part = out / "parts" / "000001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match=r"000001\.parquet") as caught:
        predict_with(bundle, folder, out)
    assert caught.value.fix.endswith(f"rm {part}")
    part.unlink()
    predict_with(bundle, folder, out)
    assert (out / "predictions.csv").read_bytes() == whole
    (out / "predict.json").write_text("")
    with pytest.raises(DataError, match=r"predict\.json"):
        predict_with(bundle, folder, out)


def test_a_second_process_is_refused(
    bundle_of: Make, predict_with: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with only_writer(out), pytest.raises(OutputExistsError, match="Another process"):
        predict_with(bundle_of(), folder, out)
    assert predict_with(bundle_of(), folder, out).earlier == 0


def test_items_without_an_answer_decide_the_exit_code(
    bundle_of: Make,
    predict_with: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = bundle_of()
    predict_with(bundle, folder, tmp_path / "other")  # puts the stand-in engine in place
    monkeypatch.setattr(Bundle, "open", lambda _: bundle)
    some = CliRunner().invoke(app, ["predict", "b", str(folder), f"--out={tmp_path / 'some'}"])
    assert some.exit_code == 0 and "1 of 12 items got no answer" in some.stderr
    none = CliRunner().invoke(
        app, ["predict", "b", str(folder / "Doe^John" / "05.png"), f"--out={tmp_path / 'none'}"]
    )
    assert isinstance(none.exception, EmptyDataError) and none.exception.exit_code == 2
    (row,) = pq.read_table(tmp_path / "none" / "predictions.parquet").to_pylist()
    assert row["status"] == "failed" and row["reason"].rstrip(".") in none.exception.problem
    assert "dinorad-rt inspect" in none.exception.fix and "answered" in none.stdout


def test_items_of_another_modality_are_told(
    bundle_of: Make, predict_with: Any, tmp_path: Path
) -> None:
    from dinorad_rt.phantoms.write import write_phantoms

    root = write_phantoms(tmp_path / "phantoms", patients=12, image_size=64)
    bundle = bundle_of(training={"data": {"modalities": ["CT"]}})
    said: list[str] = []
    done = predict_with(bundle, root / "xray", tmp_path / "out", say=said.append)
    assert done.strange in said and re.match(r"trained on CT; \d+ of \d+ items are ", done.strange)
    assert not predict_with(bundle, root / "ct", tmp_path / "other").strange
    silent = bundle_of()
    assert not predict_with(silent, root / "xray", tmp_path / "unknown").strange


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ([1, 1], "calibrated on single images; 1 of 11 answers is a volume"),
        ([4, 9], "calibrated on volumes; 10 of 11 answers are single images"),
        ([1, 9], ""),
    ],
)
def test_thresholds_of_another_extent_are_told(
    slices: list[int],
    words: str,
    bundle_of: Make,
    predict_with: Any,
    folder: Path,
    tmp_path: Path,
) -> None:
    """A series is answered by the mean of its slices, whatever the model was calibrated on."""
    bundle = bundle_of(calibration={"temperature": [1.0], "slices": slices})
    done = predict_with(bundle, folder, tmp_path / "out")
    assert done.strange.startswith(words) if words else not done.strange
