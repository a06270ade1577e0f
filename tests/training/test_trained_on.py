"""Other data than a run's: nobody whom it was trained on is tested unless the user says so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import LeakageError, RunError
from dinorad_rt.training.trained_on import TRAINED_ON_FILE, without_seen, write_trained_on


@pytest.fixture
def dataset(images: Any, tmp_path: Path, cache: Path) -> Dataset:
    """30 images of as many patients: p0 to p29, of which 18 train and 6 are for validation."""
    return open_dataset(images(tmp_path / "images"))


@pytest.fixture
def run(dataset: Dataset, tmp_path: Path) -> Path:
    """What a run's folder says of whom it was trained on."""
    (tmp_path / "run").mkdir()
    write_trained_on(tmp_path / "run", dataset)
    return tmp_path / "run"


def facts(dataset: Dataset) -> dict[str, Any]:
    return {"name": dataset.name, "fingerprint": dataset.fingerprint}


def table(folder: Path, rows: list[str], header: str = "image,class,patient,split") -> Dataset:
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return open_dataset(folder)


def others(images: Any, folder: Path, named: str = "q") -> Path:
    """Images of other content."""
    import cv2
    import numpy as np

    images(folder)
    for index, path in enumerate(sorted(folder.glob("*.png"))):
        pixels = np.random.default_rng(1000 + index).integers(0, 250, (40, 36))
        cv2.imwrite(str(path), pixels.astype(np.uint8))
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace(",p", f",{named}"))
    return folder


def test_the_runs_own_data_need_no_word(run: Path, dataset: Dataset) -> None:
    assert without_seen(run, facts(dataset), dataset) == (dataset, [])


def test_another_split_of_the_same_data_is_refused(
    run: Path, dataset: Dataset, tmp_path: Path
) -> None:
    resplit = open_dataset(tmp_path / "images", splits="patient", seed=5)
    known = {sample.patient for sample in dataset.of_split("train", "val")}
    test = resplit.of_split("test")
    leaking = sum(sample.patient in known for sample in test)
    assert 0 < leaking < len(test)
    with pytest.raises(LeakageError, match=f"^{leaking} of {len(test)} test patients") as told:
        without_seen(run, facts(dataset), resplit)
    assert "--trained-on leave-out" in told.value.fix and told.value.exit_code == 2

    said: list[str] = []
    left, notes = without_seen(run, facts(dataset), resplit, "leave-out", said.append)
    assert said == notes and "left out" in notes[0]
    kept = left.of_split("test")
    assert len(kept) == len(test) - leaking and not known & {one.patient for one in kept}
    assert left.of_split("train", "val") == resplit.of_split("train", "val")
    assert left.fingerprint != resplit.fingerprint and left.split_hash != resplit.split_hash

    whole, notes = without_seen(run, facts(dataset), resplit, "keep")
    assert whole == resplit and "LEAKAGE?" in notes[0]


def test_a_patient_is_known_by_other_images(
    run: Path, dataset: Dataset, images: Any, tmp_path: Path
) -> None:
    """A follow-up has another file and the same name."""
    other = open_dataset(others(images, tmp_path / "later", "p"))
    tested = len(other.of_split("test"))
    with pytest.raises(LeakageError, match=rf"{tested} by the patient's key, 0 images by a file"):
        without_seen(run, facts(dataset), replace(other, samples=_as_test(other, "train", tested)))
    new = open_dataset(others(images, tmp_path / "new"))
    found, notes = without_seen(run, facts(dataset), new)
    assert found == new and "None of its 6 test patients" in notes[0]


def _as_test(dataset: Dataset, split: str, count: int) -> Any:
    return tuple(replace(one, split="test") for one in dataset.of_split(split)[:count])  # type: ignore[arg-type]


@pytest.mark.parametrize("column", [True, False], ids=["other names", "no names"])
def test_a_file_is_known_by_its_content(
    column: bool, run: Path, dataset: Dataset, images: Any, tmp_path: Path
) -> None:
    folder = others(images, tmp_path / "other")
    first = dataset.of_split("train")[0].path
    shutil.copy(first, folder / "004.png")
    shutil.copy(dataset.of_split("test")[0].path, folder / "005.png")  # of nobody trained on
    rows = [f"{i:03d}.png,c{i % 2},q{i},{'test' if i > 1 else 'train'}" for i in range(1, 9)]
    header = "image,class,patient,split"
    if not column:
        rows = [",".join(row.split(",")[:2] + row.split(",")[3:]) for row in rows]
        header = "image,class,split"
    other = table(folder, rows, header)
    with pytest.raises(LeakageError, match=r"^1 of 7 .* 0 by the patient's key, 1 image by"):
        without_seen(run, facts(dataset), other)
    left, _ = without_seen(run, facts(dataset), other, "leave-out")
    assert {one.path.name for one in left.of_split("test")} == {
        f"{i:03d}.png" for i in (2, 3, 5, 6, 7, 8)
    }


def test_images_of_equal_names_are_no_patients(images: Any, tmp_path: Path, cache: Path) -> None:
    """Without a patient column an image counts as a patient called after its file."""
    sets = [images(tmp_path / "a"), others(images, tmp_path / "b")]
    rows = [f"{i:03d}.png,c{i % 2},{'test' if i % 3 else 'train'}" for i in range(20)]
    first, second = (table(folder, rows, "image,class,split") for folder in sets)
    (tmp_path / "run").mkdir()
    write_trained_on(tmp_path / "run", first)
    swapped = {"train": "test", "test": "train"}
    second = replace(
        second,
        samples=tuple(replace(one, split=swapped[one.split]) for one in second.samples),  # type: ignore[arg-type]
    )
    found, (note,) = without_seen(tmp_path / "run", facts(first), second)
    assert found == second
    assert "7 of 7 test images name no patient" in note and "names no patients" in note


def test_what_cannot_be_known_is_said(
    run: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resplit = open_dataset(tmp_path / "images", splits="patient", seed=5)
    with monkeypatch.context() as patch:
        patch.setenv("DINORAD_RT_KEY", "another key of more than sixteen characters")
        _, (note,) = without_seen(run, facts(dataset), resplit)
        assert "is not known" in note and "another key" in note
    (run / TRAINED_ON_FILE).write_bytes(b"cut")
    with pytest.raises(RunError, match="cannot be read"):
        without_seen(run, facts(dataset), resplit)
    (run / TRAINED_ON_FILE).unlink()
    _, (note,) = without_seen(run, facts(dataset), resplit)
    assert "is not known" in note and "earlier versions" in note


def test_a_test_split_of_known_patients_alone_is_refused_in_any_case(
    run: Path, dataset: Dataset
) -> None:
    other = replace(dataset, samples=_as_test(dataset, "train", 5), fingerprint="other")
    with pytest.raises(LeakageError, match="no others"):
        without_seen(run, facts(dataset), other, "leave-out")


def test_the_file_names_nobody(run: Path, dataset: Dataset) -> None:
    rows = pq.read_table(run / TRAINED_ON_FILE).to_pylist()
    assert [row["split"] for row in rows].count("train") == 18 and len(rows) == 24
    data = (run / TRAINED_ON_FILE).read_bytes()
    assert b"p12" not in data and b".png" not in data
    assert all(len(row["patient"]) == len(row["content"]) == 32 for row in rows)
