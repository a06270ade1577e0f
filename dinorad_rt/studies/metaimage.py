"""Headers of MetaImage files (.mha, .mhd): lines of `key = value`, the last one ElementDataFile.

Source: the MetaIO documentation of Kitware; geometry as ITK's MetaImageIO takes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.voxels import Layout, damaged, file_beside

_LAST = "ElementDataFile"
_LINE = re.compile(rb"[ \t]*([^\r\n=:]*?)[ \t]*(?:[=:][ \t]*([^\r\n]*?)[ \t]*)?\r?\n")
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def layout_of_metaimage(header: bytes, path: Path) -> Layout:
    """What a header says of its voxels.

    Args:
        header: the file's beginning.
        path: of the header.

    Raises:
        UnreadableFileError: it is damaged, or its voxels are text or lie elsewhere.
    """
    values, end = _values(header, path)
    shape = _numbers(values, ("DimSize",), path).astype(np.int64)
    dims = len(shape)
    if values.get("NDims") != str(dims):
        raise damaged(
            path, f"NDims is {values.get('NDims', 'missing')}, DimSize has {dims} numbers"
        )
    kind = values.get("ElementType", "missing").removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise damaged(path, f"its ElementType is {kind}")
    if _flag(values, "BinaryData", "True") is False:
        raise UnreadableFileError(f"{path} has its voxels as text.", "Save it as binary.")
    big = _flag(values, "BinaryDataByteOrderMSB") or _flag(values, "ElementByteOrderMSB")
    name, skip = values[_LAST], _whole(values, "HeaderSize", 0, path)
    local = name.upper() == "LOCAL"
    start = end if local else skip
    return Layout(
        shape=tuple(int(size) for size in shape),
        dtype=np.dtype(_TYPES[kind]).newbyteorder(">" if big else "<"),
        channels=_whole(values, "ElementNumberOfChannels", 1, path),
        affine=_affine(values, dims, path),
        file=path if local else file_beside(name, path),
        start=None if start < 0 else start,
        packing="zlib" if _flag(values, "CompressedData") else "raw",
    )


def _values(header: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Keys with their values, and where the header ends."""
    values: dict[str, str] = {}
    at = 0
    while line := _LINE.match(header, at):
        key, at = line[1].decode("ascii", "replace"), line.end()
        values[key] = (line[2] or b"").decode("utf-8", "replace").strip()
        if key == _LAST:
            return values, at
    raise damaged(path, f"it is no MetaImage, or its header has no {_LAST}")


def _affine(values: Mapping[str, str], dims: int, path: Path) -> np.ndarray:
    """(4, 4): row n of the matrix is the direction of axis n; an image in the plane is at z = 0."""
    matrix = _numbers(values, ("TransformMatrix", "Rotation", "Orientation"), path, np.eye(dims))
    spacing = _numbers(values, ("ElementSpacing", "ElementSize"), path, np.ones(dims))
    origin = _numbers(values, ("Offset", "Position", "Origin"), path, np.zeros(dims))
    if (matrix.size, spacing.size, origin.size) != (dims * dims, dims, dims):
        raise damaged(path, f"its geometry is not that of {dims} dimensions")
    sides, affine = min(dims, 3), np.eye(4)
    axes = matrix.reshape(dims, dims).T * spacing
    affine[:sides, :sides], affine[:sides, 3] = axes[:sides, :sides], origin[:sides]
    return affine


def _numbers(
    values: Mapping[str, str], keys: tuple[str, ...], path: Path, default: np.ndarray | None = None
) -> np.ndarray:
    """The numbers behind the first of some keys that is there."""
    text = next((values[key] for key in keys if key in values), None)
    if text is None and default is not None:
        return default
    try:
        found = np.asarray([float(word) for word in (text or "").split()])
    except ValueError:
        found = np.empty(0)
    if not found.size or not np.isfinite(found).all():
        raise damaged(path, f"its {keys[0]} is {text or 'missing'}"[:200])
    return found


def _whole(values: Mapping[str, str], key: str, default: int, path: Path) -> int:
    return int(_numbers(values, (key,), path, np.asarray([float(default)]))[0])


def _flag(values: Mapping[str, str], key: str, default: str = "False") -> bool:
    return values.get(key, default)[:1].upper() in ("T", "1")
