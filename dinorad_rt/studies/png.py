"""PNG, quickly: ISA-L inflates where it is installed, the native module undoes the row filters.

Both do only what zlib and libpng do, so the numbers are Pillow's; 16-bit colour, which Pillow cuts
to 8 bits, is kept. Whatever is unusual or damaged is left to Pillow.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import Any

import numpy as np

from dinorad_rt.optional import is_installed, require

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Colour type → channels; palettes (3) are Pillow's."""

_LEFT_TO_PILLOW = (b"tRNS", b"eXIf", b"acTL")
"""Chunks that change the meaning: transparent colour, orientation, animation."""

XMP_ORIENTATION = b"tiff:Orientation"
_ORIENTED_TEXT = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Text chunks that may hold an orientation: XMP, and EXIF as ImageMagick writes it."""


def decode_png(data: bytes, max_pixels: int) -> np.ndarray | None:
    """Decode a plain PNG.

    Args:
        data: the whole file.
        max_pixels: more are left to Pillow, which refuses them.

    Returns:
        (height, width) or (height, width, 2 to 4) uint8 or uint16, alpha last; None where Pillow
        must do it: palettes, fewer than 8 bits, interlacing, transparent colours, an orientation,
        damage, or no native module.
    """
    unfilter = _unfilter()
    if unfilter is None or not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        return None
    width, height, bits, colour, *rest = struct.unpack(">IIBBBBB", data[16:29])
    if bits not in (8, 16) or colour not in _CHANNELS or any(rest):
        return None
    if not 0 < width * height <= max_pixels or zlib.crc32(data[12:29]) != _big(data[29:33]):
        return None
    step = _CHANNELS[colour] * bits // 8
    packed = _image_data(data)
    filtered = None if packed is None else _inflated(packed, height * (width * step + 1))
    if filtered is None:
        return None
    rows = np.empty((height, width * step), np.uint8)
    if not unfilter(filtered, rows, step):
        return None
    pixels = rows if bits == 8 else rows.view(">u2").astype(np.uint16)
    return pixels if colour == 0 else pixels.reshape(height, width, _CHANNELS[colour])


def may_be_turned(data: bytes) -> bool:
    """True if a PNG may hold an orientation, which Pillow must then read."""
    return b"eXIf" in data or any(keyword in data for keyword in _ORIENTED_TEXT)


def _image_data(data: bytes) -> bytes | None:
    """The joined IDAT chunks; None if a chunk is cut, or changes the meaning."""
    parts: list[bytes] = []
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = _big(data[at : at + 4]), data[at + 4 : at + 8]
        if kind in _LEFT_TO_PILLOW or at + 12 + length > len(data):
            return None
        if kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(_ORIENTED_TEXT, at + 8):
            return None
        if kind == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        elif kind == b"IEND":
            return b"".join(parts) if len(parts) != 1 else parts[0]
        at += 12 + length
    return None


def _inflated(packed: bytes, size: int) -> bytes | None:
    """Exactly `size` bytes with the right checksum, or None; never allocates much more."""
    module = _inflater()
    stream = module.decompressobj()
    try:
        plain: bytes = stream.decompress(packed, size)
        rest = stream.decompress(stream.unconsumed_tail, 1)
    except (zlib.error, module.error):
        return None
    return plain if len(plain) == size and not rest and stream.eof else None


def _big(four: bytes) -> int:
    return int.from_bytes(four, "big")


@lru_cache(maxsize=1)
def _inflater() -> Any:
    return require("isal.isal_zlib", "inflating PNG") if is_installed("isal") else zlib


@lru_cache(maxsize=1)
def _unfilter() -> Any:
    """The native function, or None in an installation without it."""
    try:
        from dinorad_rt import _native
    except ImportError:
        return None
    return getattr(_native, "unfilter_png", None)
