"""Where the stored bits of a DICOM pixel lie in its cell (PS3.5 8.1.1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.studies.read import read_study

WriteDicom = Callable[..., Path]


@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("signed", [False, True])
def test_stored_bits_may_end_at_any_high_bit(
    write_dicom: WriteDicom, high: int, signed: bool
) -> None:
    """What lies outside of them, as overlays once did, is no pixel."""
    values = np.random.default_rng(high).integers(0, 4096, (6, 8)) - 2048 * signed
    beyond = 0 if high == 15 else 1 << (high + 1)
    cells = np.uint16(((values & 0xFFF) << (high - 11)) | beyond)
    path = write_dicom("a.dcm", cells, BitsStored=12, HighBit=high, PixelRepresentation=int(signed))
    pixels = read_study(path).pixels
    assert np.array_equal(pixels[0], values) and pixels.dtype == (np.int16 if signed else np.uint16)


def test_a_high_bit_that_the_values_contradict_is_not_followed(write_dicom: WriteDicom) -> None:
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80
    path = write_dicom("a.dcm", values, BitsStored=12, HighBit=15)
    assert np.array_equal(read_study(path).pixels[0], values)
