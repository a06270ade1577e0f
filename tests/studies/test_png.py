"""The quick way through PNG is Pillow's way, number by number, or it steps aside."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dinorad_rt.studies import png
from dinorad_rt.studies.png import decode_png
from dinorad_rt.studies.read import read_study

LIMIT = 10**7
RNG = np.random.default_rng(0)

needs_native = pytest.mark.skipif(png._unfilter() is None, reason="no native module")


def filtered_png(pixels: np.ndarray, filters: list[int]) -> bytes:
    """Encode (height, width[, channels]) with the given filter per row (ISO 15948, clause 9)."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    bits, step = pixels.dtype.itemsize * 8, channels * pixels.dtype.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    out = bytearray()
    above = np.zeros(rows.shape[1], np.int64)
    for row, kind in zip(rows.astype(np.int64), filters, strict=True):
        left = np.concatenate([np.zeros(step, np.int64), row[:-step]])
        corner = np.concatenate([np.zeros(step, np.int64), above[:-step]])
        p = left + above - corner
        distances = np.stack([abs(p - left), abs(p - above), abs(p - corner)])
        paeth = np.stack([left, above, corner])[distances.argmin(axis=0), np.arange(len(row))]
        guess = [0 * row, left, above, (left + above) // 2, paeth][kind]
        out += bytes([kind]) + ((row - guess) & 255).astype(np.uint8).tobytes()
        above = row
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    packed = zlib.compress(bytes(out))
    chunks = [(b"IHDR", header), (b"IDAT", packed[:40]), (b"IDAT", packed[40:]), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@needs_native
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("first", range(5))
def test_every_filter_and_pixel_size(dtype: type, channels: int, first: int) -> None:
    shape = (23, 17) if channels == 1 else (23, 17, channels)
    pixels = RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    data = filtered_png(pixels, [(first + k) % 5 for k in range(23)])
    decoded = decode_png(data, LIMIT)
    assert decoded is not None and np.array_equal(decoded, pixels)
    if dtype == np.uint8 or channels == 1:
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(decoded, np.asarray(image))


@needs_native
@pytest.mark.parametrize("inflater", ["isal.isal_zlib", "zlib"])
def test_both_inflaters_agree(monkeypatch: pytest.MonkeyPatch, inflater: str) -> None:
    module = pytest.importorskip(inflater)
    monkeypatch.setattr(png, "_inflater", lambda: module)
    pixels = RNG.integers(0, 256, (50, 60, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    decoded = decode_png(buffer.getvalue(), LIMIT)
    assert decoded is not None and np.array_equal(decoded, pixels)


def test_the_unusual_is_left_to_pillow() -> None:
    grey = Image.fromarray(RNG.integers(0, 256, (9, 9), np.uint8))
    info = PngImagePlugin.PngInfo()
    cases = {
        "palette": (grey.convert("P"), {}),
        "one bit": (grey.convert("1"), {}),
        "transparent value": (grey, {"transparency": 7}),
        "orientation": (grey, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
    }
    for name, (image, options) in cases.items():
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info, **options)
        assert decode_png(buffer.getvalue(), LIMIT) is None, name


@needs_native
def test_damage_is_left_to_pillow() -> None:
    data = filtered_png(RNG.integers(0, 256, (9, 9), np.uint8), [1] * 9)
    assert decode_png(data, LIMIT) is not None
    assert decode_png(data, 80) is None
    for place in (17, 20, 45, 60, len(data) - 30):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        assert decode_png(bytes(damaged), LIMIT) is None, place
    for cut in (10, 40, 70, len(data) - 5):
        assert decode_png(data[:cut], LIMIT) is None, cut
    bad_filter = filtered_png(np.zeros((3, 3), np.uint8), [0, 0, 0])
    raw = zlib.compress(b"\x07\0\0\0" * 3)
    header, rest = bad_filter[:33], struct.pack(">I", len(raw)) + b"IDAT" + raw
    end = b"\0\0\0\0" + b"\0\0\0\0IEND" + b"\0\0\0\0"
    assert decode_png(header + rest + end, LIMIT) is None


def test_real_images_are_equal_without_the_native_module(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((shared_data / "ct_head_hemorrhage" / "images").iterdir())[::9]
    paths += sorted((shared_data / "cxr_montgomery_tb_lung" / "images").iterdir())[::20]
    quick = [read_study(path).pixels for path in paths]
    monkeypatch.setattr(png, "_unfilter", lambda: None)
    for path, pixels in zip(paths, quick, strict=True):
        assert np.array_equal(read_study(path).pixels, pixels), path.name
