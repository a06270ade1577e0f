"""DICOM sets: patients from headers, labels joined by SOP instance, series, study, patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dinorad_rt.datasets.header_workers import read_headers
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import LabelError, TableError
from dinorad_rt.identifiers import kept
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.series import read_slice_header

WriteTable = Callable[..., Path]


def write_dicom(path: Path, number: int, **attributes: Any) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.9.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"1.2.9.{number}"
    dataset.PatientID = f"MRN-{number // 2}"
    dataset.StudyInstanceUID = f"1.2.3.{number // 2}"
    dataset.SeriesInstanceUID = f"1.2.4.{number}"
    dataset.Rows = dataset.Columns = 2
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = np.full((2, 2), number, np.uint16).tobytes()
    for key, value in attributes.items():
        setattr(dataset, key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def test_patients_of_class_folders_come_from_the_headers(tmp_path: Path) -> None:
    for number in range(20):
        write_dicom(tmp_path / "ab"[number // 2 % 2] / f"IM{number:04d}", number)
    dataset = open_dataset(tmp_path)
    assert len({sample.patient for sample in dataset.samples}) == 10
    assert dataset.samples[0].patient == pseudonym("patient", "MRN-0")
    assert dataset.samples[0].study == pseudonym("study", "1.2.3.0")
    assert any("10 patients" in note for note in dataset.notes)


def test_one_patient_for_all_means_anonymised(tmp_path: Path) -> None:
    for number in range(20):
        write_dicom(tmp_path / "ab"[number // 2 % 2] / f"{number}.dcm", number, PatientID="ANON")
    dataset = open_dataset(tmp_path)
    assert len({sample.patient for sample in dataset.samples}) == 10
    assert any("each study counts" in note for note in dataset.notes)


def test_patients_of_folders_of_slices_come_from_the_headers(
    tmp_path: Path, write_table: WriteTable
) -> None:
    """Two series of a patient, one row each: without headers they would be two patients."""
    for number in range(40):
        write_dicom(tmp_path / f"series{number // 2}" / f"IM{number}", number // 2)
        (tmp_path / f"series{number // 2}" / "README.txt").write_text("of the archive")
    rows = [(f"series{i}", i // 2 % 2) for i in range(20)]
    dataset = open_dataset(write_table("image,label", rows))
    assert len({sample.patient for sample in dataset.samples}) == 10
    assert dataset.samples[3].patient == pseudonym("patient", "MRN-1")
    assert dataset.samples[3].series == pseudonym("series", "1.2.4.3")


@pytest.mark.parametrize("suffix", [".dc3", ".img", ".anon"])
def test_headers_are_read_whatever_the_suffix(tmp_path: Path, suffix: str) -> None:
    for number in range(20):
        write_dicom(tmp_path / "ab"[number // 2 % 2] / f"im{number}{suffix}", number)
    dataset = open_dataset(tmp_path)
    assert len({sample.patient for sample in dataset.samples}) == 10
    assert dataset.name.startswith("dicom-")


def test_files_that_name_no_patient_stay_with_their_study(tmp_path: Path) -> None:
    """Studies 0 to 4 name none at all; of study 5 only one of the files does."""
    for number in range(24):
        silent = number < 10 or number == 11
        attributes = {"PatientID": ""} if silent else {}
        write_dicom(tmp_path / "ab"[number // 2 % 2] / f"{number}.dcm", number, **attributes)
    dataset = open_dataset(tmp_path)
    patients = {Path(dataset.name_of(one)).stem: one.patient for one in dataset.samples}
    assert len(set(patients.values())) == 12
    assert patients["0"] == patients["1"] == pseudonym("patient", "1.2.3.0")
    assert patients["10"] == patients["11"] == pseudonym("patient", "MRN-5")
    assert any("11 DICOM images name no patient" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("column", "value", "images"),
    [
        ("SOPInstanceUID", "1.2.9.{0}", 10),
        ("SeriesInstanceUID", "1.2.4.{0}", 10),
        ("StudyInstanceUID", "1.2.3.{0}", 20),
        ("PatientID", "MRN-{0}", 20),
    ],
)
def test_labels_join_by_any_identifier(
    tmp_path: Path, write_table: WriteTable, column: str, value: str, images: int
) -> None:
    for number in range(20):
        write_dicom(tmp_path / "files" / f"IM{number}", number)
    rows = [(value.format(i), i % 2) for i in range(10)]
    dataset = open_dataset(write_table(f"{column},label", rows))
    assert len(dataset.samples) == images
    assert dataset.samples[-1].patient == pseudonym("patient", f"MRN-{(images - 1) // 2}")


def test_identifiers_of_other_files_are_told(tmp_path: Path, write_table: WriteTable) -> None:
    write_dicom(tmp_path / "IM0", 0)
    with pytest.raises(TableError, match="column for the image"):
        open_dataset(write_table("SeriesInstanceUID,label", [("9.9", 0), ("9.8", 1)]))


def test_rows_and_files_without_a_partner_are_counted_and_named_on_request(
    tmp_path: Path, write_table: WriteTable
) -> None:
    for number in range(20):
        write_dicom(tmp_path / "files" / f"IM{number}", number)
    table = write_table("SOPInstanceUID,label", [(f"1.2.9.{i}", i % 2) for i in range(4, 24)])
    notes = open_dataset(table).notes
    assert "4 rows name a sop of which no file is here (--keep-identifiers names them)" in notes
    assert any(note.startswith("4 DICOM images have a sop that no row names (") for note in notes)
    assert not any("1.2.9.23" in note or "IM3" in note for note in notes)
    with kept():
        notes = open_dataset(table).notes
    assert any("1.2.9.23" in note for note in notes) and any("IM3" in note for note in notes)


def test_folders_of_one_patient_each_are_no_classes(tmp_path: Path) -> None:
    for number in range(8):
        write_dicom(tmp_path / f"Doe {number // 2}" / f"{number}.dcm", number)
    with pytest.raises(LabelError, match="the folders are patients, not classes"):
        open_dataset(tmp_path)


def test_a_dicom_folder_is_not_called_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^Jane"
    for number in range(20):
        write_dicom(folder / "ab"[number // 2 % 2] / f"{number}.dcm", number)
    dataset = open_dataset(folder)
    assert dataset.name == f"dicom-{dataset.fingerprint[:8]}"
    with kept():
        assert open_dataset(folder).name == "Doe^Jane"


def test_processes_read_the_same_headers(tmp_path: Path) -> None:
    for number in range(30):
        write_dicom(tmp_path / f"Doe, Jane {number}", number)
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "cut").write_bytes((tmp_path / "Doe, Jane 3").read_bytes()[:150])
    paths = sorted(tmp_path.iterdir())
    alone = [read_slice_header(path) for path in paths]
    assert read_headers(paths, workers=3) == alone == read_headers(paths)
    assert sum(header is not None for header in alone) >= 30


def test_a_worker_that_fails_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dinorad_rt.datasets import header_workers

    write_dicom(tmp_path / "a", 1)
    monkeypatch.setattr(header_workers, "_START", "raise SystemExit(3)")
    (header,) = read_headers([tmp_path / "a"], workers=2)
    assert header is not None and header.sop == "1.2.9.1"


def test_identifiers_go_before_folders_of_coarser_ones(
    tmp_path: Path, write_table: WriteTable
) -> None:
    """As RSNA's pulmonary embolism set has them: folders of studies beside the table."""
    rows = []
    for n in range(24):
        write_dicom(tmp_path / f"1.2.3.{n // 4}" / f"1.2.4.{n // 4}" / f"1.2.9.{n}.dcm", n)
        rows.append((f"1.2.3.{n // 4}", f"1.2.4.{n // 4}", f"1.2.9.{n}", n % 2, n // 12))
    header = "StudyInstanceUID,SeriesInstanceUID,SOPInstanceUID,embolism,negative"
    dataset = open_dataset(write_table(header, rows, "train.csv"))
    assert len(dataset.samples) == 24 and dataset.class_names == ("embolism", "negative")


@pytest.mark.parametrize("per_case", [1, 3])
def test_headers_refute_cases_as_classes_whatever_lies_below(tmp_path: Path, per_case: int) -> None:
    """As 3D-IRCADb has them: the folders of each case are kinds of data, no patients."""
    for n in range(24):
        case, kind = n // 4, ("PATIENT_DICOM", "LABELLED_DICOM")[n % 2]
        patient = f"p{case}" if per_case == 1 else f"p{n % per_case}"
        write_dicom(tmp_path / f"db1.{case}" / kind / f"image_{n}", n, PatientID=patient)
    if per_case == 1:
        with pytest.raises(LabelError, match="the folders are patients, not classes"):
            open_dataset(tmp_path)
    else:  # a patient of several classes; headers are no coarser than folders, which stay
        assert len({one.patient for one in open_dataset(tmp_path).samples}) == 2


def test_headers_join_the_folders_of_a_patient(tmp_path: Path) -> None:
    for n in range(32):
        path = tmp_path / "ab"[n % 2] / f"study{n // 4}{'xy'[n % 2]}" / f"{n}.dcm"
        write_dicom(path, n, PatientID=f"p{n // 8}{n % 2}")
    assert len({one.patient for one in open_dataset(tmp_path).samples}) == 8
