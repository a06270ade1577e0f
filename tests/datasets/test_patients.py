"""Patients that no column names: from studies, and from what folders are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import LabelError, LeakageError

WriteImages = Callable[..., None]
WriteTable = Callable[..., Path]


@pytest.mark.parametrize(
    ("folder", "patients"),
    [
        ("patient{0:05d}/study{1}", 10),
        ("sub-OAS3{0}/ses-{1}/anat", 10),
        ("XR_{1}/Patient_{0}", 10),
        ("hospital{1}/case{0}", 20),
        ("patients2020/case{0}", 20),
    ],
)
def test_folders_called_after_patients(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable, folder: str, patients: int
) -> None:
    names = [f"{folder.format(i // 2, i % 2)}/{i}.png" for i in range(20)]
    write_images(*names)
    dataset = open_dataset(
        write_table("path,label", [(n, i // 2 % 2) for i, n in enumerate(names)])
    )
    assert len({sample.patient for sample in dataset.samples}) == patients
    said = any("patients by the names of folders, 10 patients" in note for note in dataset.notes)
    assert said == (patients == 10)


def test_a_folder_of_a_patient_in_two_splits_is_refused(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable
) -> None:
    names = [f"patient{i // 2}/{i}.png" for i in range(20)]
    write_images(*names)
    rows = [(n, i // 2 % 2, ("train", "test")[i % 7 == 0]) for i, n in enumerate(names)]
    with pytest.raises(LeakageError, match="3 of 10 patients"):
        open_dataset(write_table("path,label,split", rows))


@pytest.mark.parametrize(
    ("column", "value", "patients"),
    [
        ("study_id", "s{0}", 5),
        ("SeriesInstanceUID", "1.2.840.11362{0}", 5),
        ("study", "CT thorax", 20),
        ("series", "T{0}", 20),
    ],
)
def test_images_of_a_study_stay_together(
    tmp_path: Path,
    write_images: WriteImages,
    write_table: WriteTable,
    column: str,
    value: str,
    patients: int,
) -> None:
    """Where the column identifies studies or series, and names no kinds of them."""
    names = [f"{i}.png" for i in range(20)]
    write_images(*names)
    rows = [(n, value.format(i // 4), i // 4 % 2) for i, n in enumerate(names)]
    dataset = open_dataset(write_table(f"image,{column},label", rows))
    assert len({sample.patient for sample in dataset.samples}) == patients
    said = any("counts as a patient of its own" in note for note in dataset.notes)
    assert said and any("each image" in note for note in dataset.notes) == (patients == 20)


def test_folders_of_patients_are_no_classes(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"patient{p}/{i}.png" for p in range(6) for i in range(3)))
    with pytest.raises(LabelError, match="the folders are patients, not classes"):
        open_dataset(tmp_path)
