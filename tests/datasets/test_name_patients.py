"""Patients that only the names of image files tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import LeakageError

WriteImages = Callable[..., None]


def patients_of(root: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for sample in open_dataset(root).samples:
        found.setdefault(sample.patient, set()).add(sample.path.name)
    return found


def test_names_that_begin_with_a_patient(tmp_path: Path, write_images: WriteImages) -> None:
    """As the pneumonia set of Kermany has them: numbers begin anew in each split."""
    for split, count in (("train", 12), ("test", 8)):
        for n in range(count):
            write_images(f"{split}/NORMAL/IM-{n:04d}-0001.jpeg")
            write_images(*(f"{split}/PNEUMONIA/person{n}_virus_{k}.jpeg" for k in (n, n + 99)))
    dataset = open_dataset(tmp_path)
    patients = {one.path: one.patient for one in dataset.samples}
    assert len(set(patients.values())) == 2 * (12 + 8)
    folder = tmp_path / "train" / "PNEUMONIA"
    one, other = (patients[folder / f"person3_virus_{k}.jpeg"] for k in (3, 102))
    assert one == other != patients[tmp_path / "test" / "PNEUMONIA" / "person3_virus_3.jpeg"]
    notes = " ".join(dataset.notes)
    assert "patients by the names of files, 20 patients" in notes or "names of files" in notes
    assert "8 names of patients stand in several splits: taken for different people" in notes


@pytest.mark.parametrize(("left", "right"), [("L", "R"), ("_left", "_right")])
def test_two_sides_are_one_patient(
    tmp_path: Path, write_images: WriteImages, left: str, right: str
) -> None:
    """Knees and eyes: the sides of a patient may have different grades."""
    for n in range(12):
        write_images(f"{n % 3}/{9003175 + n}{left}.jpg", f"{(n + 1) % 3}/{9003175 + n}{right}.jpg")
    groups = patients_of(tmp_path)
    assert len(groups) == 12
    assert {f"9003175{left}.jpg", f"9003175{right}.jpg"} in groups.values()


def test_sides_in_two_splits_are_refused(tmp_path: Path, write_images: WriteImages) -> None:
    for n in range(12):
        write_images(f"train/{n % 2}/{n}L.jpg", f"{('train', 'test')[n < 6]}/{n % 2}/{n}R.jpg")
    with pytest.raises(LeakageError, match="6 of 12 patients stand in more than one split"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, splits="patient").samples) == 24


def test_sides_that_begin_anew_in_each_class_are_different_people(
    tmp_path: Path, write_images: WriteImages
) -> None:
    for n in range(8):
        for label in "ab":
            write_images(*(f"{label}/{n}_{side}.jpg" for side in ("left", "right")))
    assert sorted(map(len, patients_of(tmp_path).values())) == [2] * 16


def test_names_that_tell_nothing_are_left_alone(tmp_path: Path, write_images: WriteImages) -> None:
    for n in range(12):
        write_images(f"a/{n}r.jpg", f"b/scan{n}.jpg", f"b/personal{n}.jpg", f"a/person{n}_1.jpg")
    dataset = open_dataset(tmp_path)
    assert len({sample.patient for sample in dataset.samples}) == 48
    assert any("each image counts as a patient of its own" in note for note in dataset.notes)
