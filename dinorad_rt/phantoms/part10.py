"""DICOM files from plain values: explicit VR little endian, the same bytes every time.

Written here because the bytes must not change with the version of a library; tags and VRs come
from pydicom's dictionary, and the tests read the files with pydicom and SimpleITK.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np

Value: TypeAlias = Union[
    str, int, bytes, "Sequence[str]", "Sequence[int]", "Sequence[Mapping[str, Value]]"
]
Header: TypeAlias = dict[str, Value]
"""Keyword → value: text, number, several of them, or the items of a sequence."""

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLEMENTATION_UID = "2.25.194471190250211923640381904126543210987"
IMPLEMENTATION_NAME = "DINORAD_PHANTOM"

_LONG = frozenset(("OB", "OW", "SQ", "UN", "UT"))
"""VRs with a length of 32 bits (PS3.5 7.1.2)."""

_BINARY = {"US": "<H", "SS": "<h", "UL": "<I", "FD": "<d"}


Elements: TypeAlias = dict[int, bytes]
"""Tag → encoded element."""


def write_part10(path: Path, series: Elements, image: Header, stored: np.ndarray) -> None:
    """Write one image.

    Args:
        path: the file; replaced if it exists.
        series: elements that all images of a series share, encoded once.
        image: this image's own attributes; the size of the pixels is added.
        stored: (rows, columns) uint16 or int16.
    """
    own = encoded(
        {
            **image,
            "SamplesPerPixel": 1,
            "Rows": stored.shape[0],
            "Columns": stored.shape[1],
            "BitsAllocated": 16,
            "PixelRepresentation": int(stored.dtype.kind == "i"),
            "PixelData": stored.astype("<i2" if stored.dtype.kind == "i" else "<u2").tobytes(),
        }
    )
    path.write_bytes(_meta(image["SOPInstanceUID"], series) + _joined(series | own))


def _meta(instance: Value, series: Elements) -> bytes:
    """Preamble and file meta information (PS3.10 7.1)."""
    sop_class = series[_entry("SOPClassUID")[0]][8:].decode("ascii").rstrip("\0")
    meta = encoded(
        {
            "FileMetaInformationVersion": b"\x00\x01",
            "MediaStorageSOPClassUID": sop_class,
            "MediaStorageSOPInstanceUID": instance,
            "TransferSyntaxUID": EXPLICIT_LITTLE,
            "ImplementationClassUID": IMPLEMENTATION_UID,
            "ImplementationVersionName": IMPLEMENTATION_NAME,
        }
    )
    length = encoded({"FileMetaInformationGroupLength": len(_joined(meta))})
    return bytes(128) + b"DICM" + _joined(length) + _joined(meta)


def encoded(header: Mapping[str, Value], *, signed: bool = False) -> Elements:
    """Encode a data set.

    Args:
        header: the elements.
        signed: whether pixels are: decides between US and SS where the dictionary leaves it open.
    """
    elements = {}
    for keyword, value in header.items():
        tag, vr = _entry(keyword)
        elements[tag] = _element(tag, vr, value, signed)
    return elements


def _joined(elements: Elements) -> bytes:
    """The data set's bytes: elements in the order of their tags."""
    return b"".join(elements[tag] for tag in sorted(elements))


def _element(tag: int, vr: str, value: Value, signed: bool) -> bytes:
    if vr == "US or SS":
        vr = "SS" if signed else "US"
    elif vr == "OB or OW":
        vr = "OW"
    data = _bytes_of(vr, value)
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in _LONG:
        return start + struct.pack("<HI", 0, len(data)) + data
    return start + struct.pack("<H", len(data)) + data


def _bytes_of(vr: str, value: Value) -> bytes:
    if isinstance(value, bytes):
        return value + b"\0" * (len(value) % 2)
    if vr == "SQ":
        assert not isinstance(value, str | int)
        items = [_joined(encoded(item)) for item in value if isinstance(item, Mapping)]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(i)) + i for i in items)
    values = [value] if isinstance(value, str | int) else value
    if vr in _BINARY:
        return b"".join(struct.pack(_BINARY[vr], number) for number in values)
    text = "\\".join(str(part) for part in values).encode("latin-1")
    return text + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)


@cache
def _entry(keyword: str) -> tuple[int, str]:
    """Tag and VR of a keyword."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag), dictionary_VR(tag)
