"""DICOMDIR: indices written by pydicom's FileSet, and a real one whose files are elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.inspect import inspect_path
from dinorad_rt.studies.read import is_image_file, read_study
from dinorad_rt.studies.series import find_series


@pytest.fixture
def medium(write_stack: Any, tmp_path: Path) -> Path:
    """A folder as on a CD: DICOMDIR, and the slices of one series in coded folders."""
    from pydicom.fileset import FileSet

    series = write_stack(
        "series", [0.0, 10.0, 5.0], StudyDate="20200101", StudyTime="000000", StudyID="1",
        SeriesNumber=1,
    )  # fmt: skip
    index = FileSet()
    for path in series.iterdir():
        index.add(path)
    index.write(tmp_path / "medium")
    index._stage["t"].cleanup()  # else pydicom leaves it to the garbage collector, with a warning
    shutil.rmtree(series)
    return tmp_path / "medium"


def test_the_volume_that_an_index_names(medium: Path) -> None:
    study = read_study(medium / "DICOMDIR")
    assert study.pixels[:, 0, 0].tolist() == [0, 5, 10] and not study.problems
    assert np.array_equal(read_study(medium).pixels, study.pixels)  # the folder says the same
    assert read_study(medium / "DICOMDIR", frame=1).pixels[0, 0, 0] == 5
    (row,) = inspect_path(medium / "DICOMDIR").rows()
    assert row["files"] == "3" and row["spacing mm"] == "5 × 0.5 × 0.75"


def test_missing_files_are_counted(medium: Path) -> None:
    next(path for path in medium.rglob("IM*") if path.is_file()).unlink()
    (one,) = find_series(medium / "DICOMDIR")
    assert len(one.files) == 2
    said = "the DICOMDIR names 1 more images that are not there"
    assert said in one.problems and said in inspect_path(medium / "DICOMDIR").problems


def test_lower_case_names_are_found(medium: Path) -> None:
    for path in sorted(medium.rglob("*"), reverse=True):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))
    assert read_study(medium / "DICOMDIR").num_slices == 3


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_names_that_lead_out_are_not_followed(medium: Path, tmp_path: Path) -> None:
    import pydicom

    dataset = pydicom.dcmread(medium / "DICOMDIR")
    images = [r for r in dataset.DirectoryRecordSequence if r.DirectoryRecordType == "IMAGE"]
    shutil.copy(next(p for p in medium.rglob("IM*") if p.is_file()), tmp_path / "SECRET")
    images[0].ReferencedFileID = ["..", "SECRET"]
    for image in images[1:]:
        image.ReferencedFileID = ["../SECRET"]
    dataset.save_as(medium / "DICOMDIR")
    with pytest.raises(UnreadableFileError, match="none of which"):
        read_study(medium / "DICOMDIR")


def test_an_index_alone_is_told(shared_data: Path, cache: Path) -> None:
    path = shared_data / "dicom_odd" / "DICOMDIR"
    with pytest.raises(UnreadableFileError, match="names 31 images, none of which") as caught:
        read_study(path)
    assert "whole medium" in caught.value.fix
    assert not is_image_file(path)


def test_damaged_indices_are_refused_or_read(medium: Path) -> None:
    """Cut at every few bytes, and with each of them changed: found by fuzzing."""
    path = medium / "DICOMDIR"
    whole = path.read_bytes()
    refused = 0
    for at in range(350, len(whole), 23):
        for damaged in (whole[:at], whole[:at] + b"\xfe" + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                read_study(path)
            except UnreadableFileError:
                refused += 1
    assert refused > 20
