"""Sniffing: the content decides; what is no image is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.read import read_study

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize("name", ["x.dcm", "x.nii", "x.mat", "x", "x.PNG", ".png", "a b.tiff"])
def test_a_png_is_a_png_whatever_its_name(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name, format="PNG")
    assert np.array_equal(read_study(tmp_path / name).pixels[0], GREY)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is text " * 50, "no image format"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "Cannot read"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "Cannot read"),
        (b"\x1f\x8b" + b"\0" * 100, "Cannot read"),
        (b"PK\x03\x04" + b"\0" * 100, "Cannot read"),
        (b"\x93NUMPY\x01\x00" + b"\xff" * 100, "Cannot read"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 500, "DICOM"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=reason):
        read_study(tmp_path / "file")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="does not exist"):
        read_study(tmp_path / "nothing.png")


def test_frames_are_counted_from_zero(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert read_study(tmp_path / "a.png", frame=0).num_slices == 1
    with pytest.raises(UnreadableFileError, match="has 1 frame; frame 1"):
        read_study(tmp_path / "a.png", frame=1)
