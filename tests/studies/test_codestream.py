"""Declared sizes of real compressed frames, and files whose frames lie about theirs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.codestream import JPEG, JPEG_2000, declared_size
from dinorad_rt.studies.read import read_study


@pytest.mark.parametrize(("kind", "syntax"), [("JPEG", JPEG[0]), ("JPEG2000", JPEG_2000[0])])
def test_size_is_that_of_pillow(kind: str, syntax: str) -> None:
    buffer = io.BytesIO()
    options = {"no_jp2": True} if kind == "JPEG2000" else {"progressive": True}
    Image.fromarray(np.zeros((37, 53, 3), np.uint8)).save(buffer, kind, **options)
    assert declared_size(buffer.getvalue(), syntax) == (37, 53)
    assert declared_size(buffer.getvalue(), "1.2.840.10008.1.2.5") is None
    assert declared_size(b"\0" * 100, syntax) is None


def test_real_frames_declare_what_their_headers_say(shared_data: Path) -> None:
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    with (shared_data / "dicom_odd" / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    checked = 0
    for row in rows:
        if row["decoded"] == "1" and row["transfer_syntax_uid"] in (*JPEG, *JPEG_2000):
            dataset = dcmread(shared_data / "dicom_odd" / row["file"])
            (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
            expected = int(row["Rows"]), int(row["Columns"])
            assert declared_size(frame, row["transfer_syntax_uid"]) == expected
            checked += 1
    assert checked >= 10


def test_a_frame_that_claims_gigabytes_is_refused_at_once(
    shared_data: Path, tmp_path: Path, cache: Path
) -> None:
    data = bytearray((shared_data / "dicom_odd" / "HTJ2K_08_RGB.dcm").read_bytes())
    size = data.index(b"\xff\x4f\xff\x51") + 8
    for place, value in ((size, b"\x7f\0\0\1"), (size + 16, b"\0\0\0\0")):  # width; tile width
        damaged = bytearray(data)
        damaged[place : place + 4] = value
        (tmp_path / "a.dcm").write_bytes(damaged)
        with pytest.raises(UnreadableFileError, match="a compressed frame declares"):
            read_study(tmp_path / "a.dcm")
