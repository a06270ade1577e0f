"""Our DICOM bytes against pydicom's writer, its validation, and dciodvfy where installed."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import config

from dinorad_rt.phantoms.part10 import encoded, write_part10


@pytest.fixture
def one_of_each(phantoms: Path, rows_of: Callable[[str], list[dict[str, str]]]) -> list[Path]:
    """A file of each kind: CR, DX, signed and unsigned CT, MR."""
    files = {row["modality"]: phantoms / row["image"] for row in rows_of("labels.csv")}
    slices = rows_of("ct/slices.csv")
    parity = {int(row["patient"][1:]) % 2: phantoms / "ct" / row["image"] for row in slices}
    assert set(files) == {"CR", "DX"} and set(parity) == {0, 1}
    return [
        *files.values(),
        *parity.values(),
        phantoms / "mr" / rows_of("mr/labels.csv")[0]["image"],
    ]


def test_pydicom_writes_the_same_bytes(one_of_each: list[Path]) -> None:
    for path in one_of_each:
        again = io.BytesIO()
        pydicom.dcmwrite(again, pydicom.dcmread(path), enforce_file_format=True)
        assert again.getvalue() == path.read_bytes(), path


def test_every_value_is_valid_for_its_vr(
    one_of_each: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    for path in one_of_each:
        for element in pydicom.dcmread(path).iterall():
            assert element.value is not None or element.VM == 0


def test_the_standard_is_kept(one_of_each: list[Path]) -> None:
    checker = shutil.which("dciodvfy")
    if checker is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    for path in one_of_each:
        done = subprocess.run([checker, "-new", str(path)], capture_output=True, text=True)
        assert "Error" not in done.stderr + done.stdout, done.stderr


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_pixels_signs_and_sequences(tmp_path: Path, dtype: type) -> None:
    stored = np.arange(-3 if dtype is np.int16 else 0, 12).astype(dtype)[:12].reshape(3, 4)
    series = encoded(
        {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "BitsStored": 16,
            "HighBit": 15,
            "PhotometricInterpretation": "MONOCHROME2",
            "PixelPaddingValue": -2 if dtype is np.int16 else 2,
            "ViewCodeSequence": [{"CodeValue": "1", "ViewModifierCodeSequence": []}],
            "WindowCenter": ["40", "-600"],
        },
        signed=dtype is np.int16,
    )
    write_part10(tmp_path / "a.dcm", series, {"SOPInstanceUID": "2.25.7"}, stored)
    read = pydicom.dcmread(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read.pixel_array, stored)
    assert read.PixelPaddingValue == (-2 if dtype is np.int16 else 2)
    assert read.ViewCodeSequence[0].ViewModifierCodeSequence == []
    assert [float(value) for value in read.WindowCenter] == [40.0, -600.0]
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == "2.25.7"
