"""Sizes that compressed frames declare: checked before a decoder allocates what they claim."""

from __future__ import annotations

import struct

JPEG_2000 = (
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
)
JPEG = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
)
MAX_TILES = 65535

_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""SOF markers of JPEG (ITU-T T.81 B.1.1.3) and JPEG-LS (T.87 C.1.1)."""


def declared_size(frame: bytes, syntax: str) -> tuple[int, int] | None:
    """(rows, columns) that a compressed frame declares; None if it declares none.

    Args:
        frame: one frame's code stream.
        syntax: transfer syntax UID.
    """
    if syntax in JPEG_2000:
        return _size_of_jpeg_2000(frame)
    return _size_of_jpeg(frame) if syntax in JPEG else None


def _size_of_jpeg_2000(frame: bytes) -> tuple[int, int] | None:
    """SIZ segment (ISO/IEC 15444-1 A.5.1). More tiles than allowed give a size of (0, 0)."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(frame) < at + 40:
        return None
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = struct.unpack(
        ">8I", frame[at + 8 : at + 40]
    )
    if not tile_width or not tile_height:
        return 0, 0
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    return (bottom - top, right - left) if across * down <= MAX_TILES else (0, 0)


def _size_of_jpeg(frame: bytes) -> tuple[int, int] | None:
    at = frame.find(b"\xff\xd8") + 2
    while at >= 2 and at + 9 < len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack(">HH", frame[at + 5 : at + 9])
            return rows, columns
        if marker == 0xFF or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None
