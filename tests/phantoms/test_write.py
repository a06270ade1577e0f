"""The data set as a whole: the same bytes, sound tables, invented identifiers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import DataError, OutputExistsError
from dinorad_rt.phantoms import write_phantoms

Rows = list[dict[str, str]]


def digest(folder: Path) -> str:
    """SHA-256 over names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def test_one_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    here = write_phantoms(tmp_path / "here", patients=4, image_size=64, seed=5)
    code = (
        "import sys; from dinorad_rt.phantoms import write_phantoms; "
        "write_phantoms(sys.argv[1], patients=4, image_size=64, seed=5)"
    )
    environment = os.environ | {
        "PYTHONHASHSEED": "77",
        "TZ": "Asia/Tokyo",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    there = tmp_path / "there"
    subprocess.run([sys.executable, "-c", code, str(there)], check=True, env=environment)
    assert digest(here) == digest(there)
    write_phantoms(here, patients=4, image_size=64, seed=5)
    assert digest(here) == digest(there), "written over itself"
    other = write_phantoms(tmp_path / "other", patients=4, image_size=64, seed=6)
    assert digest(other) != digest(here)


@pytest.mark.parametrize(
    ("table", "task", "classes"),
    [
        (".", "binary", ("normal", "abnormal")),
        ("xray", "multilabel", ("nodule", "opacity", "effusion")),
        ("ct", "multiclass", ("normal", "bleed", "lung mass", "liver lesion")),
        ("ct/slices.csv", "binary", ("normal", "finding")),
        ("mr", "binary", ("normal", "tumour")),
    ],
)
def test_every_table_opens_without_being_told_anything(
    phantoms: Path, table: str, task: str, classes: tuple[str, ...]
) -> None:
    dataset = open_dataset(phantoms / table)
    assert dataset.task == task
    assert dataset.class_names == classes
    assert {sample.split for sample in dataset.samples} == {"train", "val", "test"}
    assert all(sample.path.exists() for sample in dataset.samples)
    assert all(sample.mask is None or sample.mask.exists() for sample in dataset.samples)


def test_a_patient_stands_in_one_split_of_all_tables(rows_of: Callable[[str], Rows]) -> None:
    splits: dict[str, set[str]] = {}
    for table in ("labels.csv", "xray/labels.csv", "ct/labels.csv", "mr/labels.csv"):
        for row in rows_of(table):
            splits.setdefault(row["patient"], set()).add(row["split"])
    assert len(splits) == 16
    assert all(len(found) == 1 for found in splits.values())


def test_identifiers_are_there_to_be_found_and_belong_together(
    phantoms: Path, rows_of: Callable[[str], Rows]
) -> None:
    patients: dict[str, set[str]] = {}
    for row in rows_of("labels.csv"):
        header = pydicom.dcmread(phantoms / row["image"], stop_before_pixels=True)
        assert str(header.PatientName).startswith("PHANTOM^")
        assert header.PatientID == f"PHANTOM-{int(row['patient'][1:]):04d}"
        assert header.StudyDate < "2012" and len(header.PatientBirthDate) == 8
        patients.setdefault(row["patient"], set()).add(header.StudyInstanceUID)
    studies = [uid for uids in patients.values() for uid in uids]
    assert len(studies) == len(set(studies)) == len(rows_of("labels.csv"))


def test_study_of_ct_and_xray_is_one(phantoms: Path, rows_of: Callable[[str], Rows]) -> None:
    row = rows_of("ct/slices.csv")[0]
    slice_ = pydicom.dcmread(phantoms / "ct" / row["image"])
    xray = pydicom.dcmread(phantoms / "xray" / row["patient"] / "s1" / "image.dcm")
    assert slice_.StudyInstanceUID == xray.StudyInstanceUID
    assert slice_.SeriesInstanceUID != xray.SeriesInstanceUID
    assert slice_.AccessionNumber == xray.AccessionNumber


def test_progress_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    write_phantoms(tmp_path / "set", patients=4, image_size=64, progress=lines.append)
    assert len(lines) == 4 and "4 of 4" in lines[-1]


def test_foreign_and_different_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match="not empty"):
        write_phantoms(tmp_path, patients=4)
    with pytest.raises(DataError, match="patients"):
        write_phantoms(tmp_path / "new", patients=1)
    assert not (tmp_path / "new").exists()
    out = write_phantoms(tmp_path / "small", patients=4, image_size=64)
    with pytest.raises(OutputExistsError, match="another seed"):
        write_phantoms(out, patients=5, image_size=64)


@pytest.mark.slow
def test_the_default_set_is_small(tmp_path: Path) -> None:
    out = write_phantoms(tmp_path / "set")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert size < 40e6
