"""`dinorad-rt inspect` as a user runs it: table, JSON, contact sheet, and no identifiers in any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dinorad_rt.cli.verbs import app

SECRETS = ("MRN-4711", "Doe", "1.2.3.4.5", "Hospital", "20200101")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three slices of one patient whose name stands in tags and paths, a report, and a photo."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "Hospital" / "Doe^Jane"
    folder.mkdir(parents=True)
    for number in range(3):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UltrasoundImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.4.5.{number}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = UltrasoundImageStorage
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID = "1.2.3.4.5"
        dataset.PatientID, dataset.PatientName = "MRN-4711", "Doe^Jane"
        dataset.StudyDate, dataset.InstitutionName = "20200101", "Hospital"
        dataset.Modality, dataset.SamplesPerPixel = "US", 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = 30, 40
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.InstanceNumber = number
        dataset.PixelData = np.full((30, 40), 80 * number + 40, np.uint8).tobytes()
        dataset.save_as(folder / f"Doe {number}.dcm", enforce_file_format=True)
    (folder / "Doe report.txt").write_text("Doe")
    (folder / "Doe cut.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    return folder.parent


def test_table_sheet_and_problems(study: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = CliRunner().invoke(app, ["inspect", str(study), "--sheet", str(sheet)])
    assert done.exit_code == 0
    text = done.output.replace(str(sheet), "")
    assert "30 × 40" in text and "burned-in text is not ruled out" in text
    assert "cannot be read: 1" in text
    assert not [secret for secret in SECRETS if secret in text]
    with Image.open(sheet) as image:
        assert image.size == (3 * 224, 224 + 16) and not image.info
        middle = np.asarray(image.convert("L"))[112, 112::224]
    np.testing.assert_allclose(middle, (40, 120, 200), atol=1)  # what the network sees
    assert not [secret for secret in SECRETS if secret.encode() in sheet.read_bytes()]


def test_in_80_columns_words_stay_whole(study: Path) -> None:
    from dinorad_rt.cli.inspect import _SPARE
    from dinorad_rt.reports.table import rows_table, to_text
    from dinorad_rt.studies.inspect import inspect_path

    text = to_text(rows_table("Series", inspect_path(study).rows(), _SPARE), 80)
    assert "modality" in text and "spacing mm" in text and "30 × 40" in text
    assert "Left out, the terminal is narrow:" in text and "photometric" in text


def test_json_holds_no_identifier(study: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", str(study), "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    (series,) = found["series"]
    assert (series["modality"], series["slices"]) == ("US", "3") and found["other_files"] == 1
    assert not [secret for secret in SECRETS if secret in done.stdout]


def test_many_series_are_sampled_and_that_is_said(study: Path, tmp_path: Path) -> None:
    for number in range(30):
        np.save(study / f"{number}.npy", np.full((2, 8, 8), number, np.uint8))
    sheet = tmp_path / "sheet.png"
    done = CliRunner().invoke(app, ["inspect", str(study), "--sheet", str(sheet)])
    assert done.exit_code == 0 and "it shows 24 of 31 series" in done.output


def test_a_preset_with_options_and_one_that_does_not_exist(study: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    command = ["inspect", str(study), "--sheet", str(sheet), "--preprocessing"]
    assert CliRunner().invoke(app, [*command, "dinorad:body"]).exit_code == 0
    wrong = CliRunner().invoke(app, [*command, "dinorad:bodi"])
    assert wrong.exit_code != 0 and "body" in str(wrong.exception) + wrong.output
