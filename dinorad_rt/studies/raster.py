"""PNG, JPEG, TIFF and other raster images.

What is made of each kind: grey stays grey with its stored depth (8, 16, 32 bit, float); palettes
and CMYK become RGB; RGB whose channels are equal becomes grey; transparency is laid over black
and said; the EXIF orientation is applied; pages of one size are slices.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import MissingPackageError, UnreadableFileError
from dinorad_rt.optional import is_installed, require
from dinorad_rt.studies.colour import over_black, without_colour
from dinorad_rt.studies.png import SIGNATURE, XMP_ORIENTATION, decode_png, may_be_turned
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.read import check_frame
from dinorad_rt.studies.study import Study, Units

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 179_000_000
"""Largest image that is decoded (height × width): what Pillow takes for an attack, too."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
_STORED_GREY = ("L", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")


@dataclass(frozen=True)
class _Page:
    """One decoded page: (height, width) or (height, width, 3), and what was done to it."""

    pixels: np.ndarray
    problems: tuple[str, ...] = ()


def read_raster(path: Path, frame: int | None = None) -> Study:
    """Read a raster image; its pages or animation frames are the slices.

    Args:
        path: PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000 or portable grey/pixel map.
        frame: one page, counted from 0; None for all.

    Returns:
        units `display` for 8 and 16 bit grey, `colour` for RGB, `stored` for wider numbers.

    Raises:
        UnreadableFileError: damaged, or larger than MAX_PIXELS.
    """
    data = path.read_bytes()
    plain = decode_png(data, MAX_PIXELS)
    page = _layered(plain) if plain is not None else _deep_png(data, path)
    if page is None and (fast := _fast_jpeg(data, path)) is not None:
        page = _Page(fast)
    if page is not None:
        check_frame(frame or 0, 1, path)
        return _study([page], {"format": "PNG" if data[:4] == b"\x89PNG" else "JPEG"})
    with quiet():
        return _with_pillow(data, path, frame)


def _with_pillow(data: bytes, path: Path, frame: int | None) -> Study:
    image_module = require("PIL.Image", "reading raster images")
    try:
        image = image_module.open(io.BytesIO(data), formats=_FORMATS)
    except image_module.UnidentifiedImageError:
        deep = _decode_deep(data) if data[:2] in (b"II", b"MM") else None
        if deep is not None:
            return _study([deep], {"format": "TIFF"})
        raise UnreadableFileError(
            f"Cannot read {path}: it begins like an image, but cannot be decoded.",
            "Fetch it again, or save it as PNG.",
        ) from None
    except image_module.DecompressionBombError as error:
        raise _too_large(path) from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(path)
        if image.mode in ("RGB", "RGBA") and _bits_per_sample(image) > 8:
            deep = _decode_deep(data)
            if deep is not None:
                return _study([deep], {"format": image.format})
        facts = {"format": image.format, "mode": image.mode}
        inverted = image.mode.startswith("I;16") and _is_white_zero(image)
        return _study(_pages(image, path, frame), facts, inverted=inverted)


def _pages(image: Image, path: Path, frame: int | None) -> list[_Page]:
    count = int(getattr(image, "n_frames", 1))
    if frame is not None:
        check_frame(frame, count, path)
        image.seek(frame)
        return [_page(image)]
    if count * image.width * image.height > MAX_PIXELS * 16:
        raise _too_large(path)
    pages = [_page(image)]
    for index in range(1, count):
        image.seek(index)
        pages.append(_page(image))
    same = [page for page in pages if page.pixels.shape[:2] == pages[0].pixels.shape[:2]]
    if len(same) < len(pages):
        left = f"{len(pages) - len(same)} of {len(pages)} pages have another size: left out"
        same[0] = _Page(same[0].pixels, (*same[0].problems, left))
    return same


def _page(image: Image) -> _Page:
    problems: tuple[str, ...] = ()
    mode = image.mode
    if mode in _STORED_GREY and "transparency" not in image.info:
        pixels = np.asarray(image)
        pixels = _with_sign(pixels.astype(pixels.dtype.newbyteorder("="), copy=False), image)
    elif mode == "1":
        pixels = np.asarray(image.convert("L"))
    elif mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        target = "LA" if mode in ("LA", "La", "L") else "RGBA"
        page = _layered(np.asarray(image.convert(target)))
        pixels, problems = page.pixels, page.problems
    else:
        pixels = without_colour(np.asarray(image if mode == "RGB" else image.convert("RGB")))
    return _turned(_Page(pixels, problems), image)


def _with_sign(pixels: np.ndarray, image: Image) -> np.ndarray:
    """TIFF SampleFormat, which Pillow leaves aside: signed bytes, unsigned numbers of 32 bits."""
    tags = getattr(image, "tag_v2", None) or {}
    signed = tags.get(339, (1,))[0] == 2
    if pixels.dtype == np.uint8 and signed:
        return pixels.view(np.int8)
    if pixels.dtype == np.int32 and not signed and _bits_per_sample(image) == 32:
        return pixels.view(np.uint32)
    return pixels


def _turned(page: _Page, image: Image) -> _Page:
    """The page as the image's EXIF or XMP turn it."""
    orientation = int(image.getexif().get(0x0112, 1))
    return _Page(_upright(page.pixels, orientation), page.problems)


def _layered(pixels: np.ndarray) -> _Page:
    """Grey, grey + alpha, RGB or RGBA → grey or RGB over black."""
    problems: tuple[str, ...] = ()
    if pixels.ndim == 2:
        return _Page(pixels)
    if pixels.shape[2] in (2, 4):
        pixels, seen = over_black(pixels)
        problems = ("transparent parts were laid over black",) if seen else ()
    return _Page(pixels[..., 0] if pixels.shape[2] == 1 else without_colour(pixels), problems)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply the EXIF orientation (CIPA DC-008, tag 0x0112) to (height, width, ...)."""
    turned = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }
    return np.ascontiguousarray(turned[orientation](pixels)) if orientation in turned else pixels


def _study(pages: list[_Page], facts: dict[str, Any], *, inverted: bool = False) -> Study:
    arrays = [page.pixels for page in pages]
    if len({array.ndim for array in arrays}) > 1:
        arrays = [a if a.ndim == 3 else np.repeat(a[..., None], 3, axis=2) for a in arrays]
    pixels = arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
    units: Units = "colour" if pixels.ndim == 4 else "display"
    if pixels.dtype.itemsize > 2 or pixels.dtype.kind == "i":
        units = "stored"
    problems = dict.fromkeys(problem for page in pages for problem in page.problems)
    return Study(
        pixels=pixels, units=units, inverted=inverted, problems=tuple(problems), facts=facts
    )


def _bits_per_sample(image: Image) -> int:
    """Bits per channel that a TIFF declares; 8 for all other formats."""
    tags = getattr(image, "tag_v2", None)
    return 8 if tags is None else max(tags.get(258, (8,)), default=8)


def _is_white_zero(image: Image) -> bool:
    """TIFF PhotometricInterpretation 0; Pillow turns 8-bit data itself, but not 16-bit data."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(262) == 0


def _too_large(path: Path) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} holds an image of more than {MAX_PIXELS / 1e6:.0f} megapixels.",
        "Such sizes are whole-slide images or attacks; cut the file into tiles first.",
    )


# --- Quicker or deeper ways than Pillow, with the same numbers -------------------------------


def _fast_jpeg(data: bytes, path: Path) -> np.ndarray | None:
    """Decode a plain JPEG with OpenCV; None where Pillow must do it.

    Both run libjpeg-turbo with the same settings, so the numbers are equal; OpenCV spares a copy.
    Left to Pillow: an EXIF orientation, CMYK, a file that does not end as a JPEG should.
    """
    if not data.startswith(b"\xff\xd8\xff") or data[-2:] != b"\xff\xd9" or not has_opencv():
        return None
    header = _jpeg_header(data)
    if header is None or header[2] not in (1, 3):
        return None
    if header[0] * header[1] > MAX_PIXELS:
        raise _too_large(path)
    cv2 = require("cv2", "reading JPEG")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        return None
    if decoded.ndim == 2:
        return np.asarray(decoded)
    grey = without_colour(decoded)
    return grey if grey.ndim == 2 else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _jpeg_header(data: bytes) -> tuple[int, int, int] | None:
    """(height, width, components) of an 8-bit JPEG without orientation; None for others."""
    at = 2
    while at + 10 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in range(0xD0, 0xD8):
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if marker == 0xE1 and (
            data[at + 4 : at + 8] == b"Exif" or XMP_ORIENTATION in data[at + 4 : at + 2 + length]
        ):
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, components = struct.unpack(">BHHB", data[at + 4 : at + 10])
            return (height, width, components) if bits == 8 and marker <= 0xC2 else None
        at += 2 + length
    return None


def _deep_png(data: bytes, path: Path) -> _Page | None:
    """A PNG with 16 bits per channel and colour or alpha, which Pillow would cut to 8 bits."""
    if data[:8] != SIGNATURE or data[24:25] != b"\x10" or data[25:26] == b"\x00":
        return None
    width, height = struct.unpack(">II", data[16:24])
    if width * height > MAX_PIXELS:
        raise _too_large(path)
    page = _decode_deep(data)
    if page is None or not may_be_turned(data):
        return page
    image_module = require("PIL.Image", "reading raster images")
    with quiet(), image_module.open(io.BytesIO(data), formats=("PNG",)) as image:
        return _turned(page, image)


def _decode_deep(data: bytes) -> _Page | None:
    """16 bits per channel through OpenCV, which turns TIFFs itself, but no PNGs."""
    if not has_opencv():
        raise MissingPackageError(
            "Colour images of 16 bits per channel need OpenCV, which is not installed.",
            "Install it: pip install opencv-python-headless",
        )
    cv2 = require("cv2", "reading deep colour")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        return None
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}  # OpenCV has blue first
    grey = decoded.ndim == 2
    return _layered(np.asarray(decoded if grey else decoded[..., order[decoded.shape[2]]]))


@lru_cache(maxsize=1)
def has_opencv() -> bool:
    """True if OpenCV is installed; without it Pillow decodes, to the same numbers."""
    return is_installed("cv2")
