"""What is told of a folder: right, complete, and free of identifiers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.errors import EmptyDataError, UnreadableFileError
from dinorad_rt.studies.inspect import contact_sheet, inspect_path

SECRETS = ("MRN-4711", "Doe", "1.2.3.4", "hospital")


def test_a_mixed_folder(write_stack: Any, tmp_path: Path) -> None:
    folder = write_stack("hospital/Doe^Jane", [0.0, 5.0, 10.0], WindowCenter=40, WindowWidth=400)
    root = folder.parent
    for side in (8, 9):
        Image.fromarray(np.zeros((side, 8), np.uint8)).save(root / f"Doe {side}.png")
    (root / "readme of Doe.txt").write_text("no image")
    (root / "Doe broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    inspection = inspect_path(root)
    ct, png = inspection.rows()
    assert (ct["modality"], ct["files"], ct["size"]) == ("CT", "3", "4 × 6")
    assert ct["spacing mm"] == "5 × 0.5 × 0.75" and ct["windows"] == "40/400"
    assert png["size"] == "8 × 8 to 9 × 8 (2 sizes)" and png["values"] == "uint8, display"
    assert inspection.others == 1 and "cannot be read: 1" in inspection.problems[-1]
    text = json.dumps([inspection.as_dict(), inspection.rows()]) + repr(inspection)
    assert not [secret for secret in SECRETS if secret in text]


def test_one_file(shared_data: Path, cache: Path) -> None:
    (row,) = inspect_path(shared_data / "dicom_odd" / "RG3_J2KI.dcm").rows()
    assert row["syntax"] == "JPEG 2000 Image Compression" and row["photometric"] == "MONOCHROME1"
    with pytest.raises(UnreadableFileError):
        inspect_path(shared_data / "dicom_odd" / "rtplan.dcm")


def test_every_odd_file_is_accounted_for(shared_data: Path, cache: Path) -> None:
    inspection = inspect_path(shared_data / "dicom_odd")
    copies = sum(int(p.split()[-1]) for p in inspection.problems if "copies" in p)
    assert sum(int(row["files"]) for row in inspection.rows()) + copies >= 30
    assert "cannot be read: 1" in inspection.problems[-1]


def test_nothing_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataError, match="no files"):
        inspect_path(tmp_path)
    with pytest.raises(EmptyDataError, match="does not exist"):
        inspect_path(tmp_path / "x")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(EmptyDataError, match="no image"):
        inspect_path(tmp_path)


def test_damaged_files_are_told_with_counts_and_reasons(write_stack: Any, tmp_path: Path) -> None:
    folder = write_stack("hospital/Doe^Jane", [0.0, 5.0, 10.0, 15.0])
    first, *others = sorted(folder.iterdir())
    whole = first.read_bytes()
    for path in others:
        path.write_bytes(path.read_bytes()[:-200])  # within the header
    assert "files that cannot be read: 3: " in inspect_path(folder).problems[-1]
    first.write_bytes(whole[:100])
    with pytest.raises(UnreadableFileError, match="4 files, and no image") as caught:
        inspect_path(folder)
    assert "read: 3: the file is DICOM without pixel data" in caught.value.problem
    assert "read: 1: " in caught.value.problem and "fetch it again" in caught.value.problem
    assert "the file" in caught.value.problem


def test_contact_sheet(write_stack: Any, tmp_path: Path) -> None:
    folder = write_stack("series", [0.0, 5.0, 10.0])
    target = contact_sheet(inspect_path(folder), tmp_path / "sheet.png", image_size=56)
    with Image.open(target) as image:
        assert image.size == (3 * 56, 56 + 16)
        tiles = np.asarray(image)[:56]
    assert tiles.shape == (56, 168, 3)
