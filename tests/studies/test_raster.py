"""Raster images against Pillow's own decoding: every mode, every orientation, every accident."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies import raster
from dinorad_rt.studies.read import read_study

GREY = np.random.default_rng(1).integers(0, 256, (37, 53), np.uint8)
RGB = np.random.default_rng(2).integers(0, 256, (37, 53, 3), np.uint8)
DEEP = np.random.default_rng(3).integers(0, 65536, (37, 53), np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "pgm", "jp2"])
def test_grey_is_kept(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(GREY).save(tmp_path / f"a.{suffix}")
    study = read_study(tmp_path / f"a.{suffix}")
    assert study.units == "display" and np.array_equal(study.pixels, GREY[None])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "LA", "1", "YCbCr", "L"])
def test_every_mode_is_what_pillow_shows(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.tif" if mode in ("CMYK", "YCbCr") else tmp_path / "a.png")
    (path,) = tmp_path.iterdir()
    study = read_study(path)
    with Image.open(path) as again:
        expected = np.asarray(again.convert("L" if mode in ("LA", "1", "L") else "RGB"))
    assert study.units == ("display" if expected.ndim == 2 else "colour")
    assert np.array_equal(study.pixels, expected[None])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_grey_in_disguise_becomes_grey(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(GREY)
    image = grey.convert("P") if mode == "P" else grey.convert("RGB").convert(mode)
    image.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    study = read_study(next(tmp_path.iterdir()))
    expected = np.asarray(image.convert("RGB").convert("L"))
    assert study.units == "display" and np.array_equal(study.pixels, expected[None])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(DEEP).save(tmp_path / f"a.{suffix}")
    study = read_study(tmp_path / f"a.{suffix}")
    assert study.pixels.dtype == np.uint16 and np.array_equal(study.pixels, DEEP[None])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_of_colour_are_kept(tmp_path: Path, suffix: str) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = np.stack([DEEP, DEEP[::-1], DEEP // 2], axis=-1)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep[..., ::-1])
    study = read_study(tmp_path / f"a.{suffix}")
    assert study.pixels.dtype == np.uint16 and np.array_equal(study.pixels, deep[None])


def test_big_endian_tiff_is_native(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", DEEP, byteorder=">")
    study = read_study(tmp_path / "a.tif")
    assert study.pixels.dtype.isnative and np.array_equal(study.pixels, DEEP[None])


def test_white_is_zero_is_said(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="miniswhite")
    study = read_study(tmp_path / "a.tif")
    assert study.inverted and np.array_equal(study.pixels, DEEP[None])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    exif[0x0112] = 1
    Image.fromarray(GREY).save(tmp_path / f"b.{suffix}", exif=exif, quality=95)
    with Image.open(tmp_path / f"b.{suffix}") as image:
        image.load()
        image.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_study(tmp_path / f"a.{suffix}").pixels, expected[None])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_exif_orientation_of_deep_colour(
    tmp_path: Path, orientation: int, suffix: str, channels: int
) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = np.stack([DEEP, DEEP[::-1], DEEP // 2], axis=-1)
    if channels == 4:
        deep = np.concatenate((deep, np.full((*DEEP.shape, 1), 65535, np.uint16)), axis=-1)
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), deep[..., [2, 1, 0, 3][:channels]])
    if suffix == "tif":
        _insert_tag(path, 274, orientation)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        _insert_chunk(path, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    expected = [
        np.asarray(ImageOps.exif_transpose(_oriented(channel, orientation)))
        for channel in np.moveaxis(deep[..., :3], -1, 0)
    ]
    assert np.array_equal(read_study(path).pixels, np.stack(expected, axis=-1)[None])


def _oriented(pixels: np.ndarray, orientation: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return image


def _insert_chunk(path: Path, kind: bytes, content: bytes) -> None:
    """A chunk behind the header of a PNG."""
    data = path.read_bytes()
    check = struct.pack(">I", zlib.crc32(kind + content))
    chunk = struct.pack(">I", len(content)) + kind + content + check
    path.write_bytes(data[:33] + chunk + data[33:])


def _insert_tag(path: Path, tag: int, value: int) -> None:
    """A number in the directory of a little-endian TIFF, which moves to the file's end."""
    data = path.read_bytes()
    assert data[:4] == b"II*\0"
    (at,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[at : at + 2])
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    entries = [one for one in entries if struct.unpack("<H", one[:2])[0] != tag]
    entries.append(struct.pack("<HHIHH", tag, 3, 1, value, 0))
    entries.sort(key=lambda one: struct.unpack("<H", one[:2]))
    moved = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(data[:4] + struct.pack("<I", len(data)) + data[8:] + moved)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_orientation_in_xmp_is_applied_with_and_without_the_quick_ways(
    tmp_path: Path, suffix: str
) -> None:
    text = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text)
    options = {"pnginfo": info} if suffix == "png" else {"xmp": text.encode()}
    Image.fromarray(GREY).save(tmp_path / f"a.{suffix}", **options)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == GREY.shape[::-1]
    assert np.array_equal(read_study(tmp_path / f"a.{suffix}").pixels, expected[None])


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_is_equal_with_and_without_opencv(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subsampling: int,
    progressive: bool,
    colour: bool,
) -> None:
    smooth = Image.fromarray(RGB if colour else GREY).resize((301, 203))
    smooth.save(tmp_path / "a.jpg", subsampling=subsampling, progressive=progressive, quality=87)
    first = read_study(tmp_path / "a.jpg").pixels
    monkeypatch.setattr(raster, "has_opencv", lambda: False)
    assert np.array_equal(first, read_study(tmp_path / "a.jpg").pixels)
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(first[0], np.asarray(image))


def test_real_images_are_equal_to_pillow(shared_data: Path) -> None:
    paths = [*(shared_data / "mri_brain_tumor_yesno").glob("*/*")]
    paths += sorted((shared_data / "ct_head_hemorrhage" / "images").iterdir())[::5]
    transparent = 0
    for path in paths:
        study = read_study(path)
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"))
        pixels = study.pixels[0]
        if study.problems:
            transparent += 1
            continue
        pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        assert np.array_equal(pixels, expected), path.name
    assert transparent == 1


def test_pages_are_slices(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.roll(GREY, k)) for k in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    study = read_study(tmp_path / "a.tif")
    assert study.num_slices == 4 and np.array_equal(study.pixels[3], np.roll(GREY, 3))
    assert np.array_equal(read_study(tmp_path / "a.tif", frame=2).pixels[0], np.roll(GREY, 2))
    with pytest.raises(UnreadableFileError, match="4 frames; frame 4"):
        read_study(tmp_path / "a.tif", frame=4)


def test_pages_of_other_sizes_are_left_out_and_told(tmp_path: Path) -> None:
    thumbnail = Image.fromarray(GREY[:9, :9])
    Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[thumbnail])
    study = read_study(tmp_path / "a.tif")
    assert study.num_slices == 1 and "1 of 2 pages" in study.problems[0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).resize((200, 200)).save(
        buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix)
    )
    raw = buffer.getvalue()
    (tmp_path / f"a.{suffix}").write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(UnreadableFileError, match="Cannot read"):
        read_study(tmp_path / f"a.{suffix}")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    monkeypatch.setattr(raster, "MAX_PIXELS", 1000)
    for name in ("a.png", "a.jpg"):
        with pytest.raises(UnreadableFileError, match="megapixels"):
            read_study(tmp_path / name)


def test_what_only_begins_like_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xf7" + bytes(200))
    with pytest.raises(UnreadableFileError, match="begins like an image"):
        read_study(tmp_path / "a.jpg")


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32])
def test_the_sign_of_numbers_in_tiff_is_kept(tmp_path: Path, dtype: type[np.integer]) -> None:
    sitk = pytest.importorskip("SimpleITK")
    limits = np.iinfo(dtype)
    pixels = np.linspace(limits.min, limits.max, 35).astype(dtype).reshape(5, 7)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "a.tif"))
    study = read_study(tmp_path / "a.tif")
    assert study.units == "stored" and np.array_equal(study.pixels[0], pixels)
