"""Voxels of MetaImage and NRRD as images of nibabel: NIfTI to everybody who reads on.

The two formats differ in their headers (`metaimage`, `nrrd`). Below them lies the same: one block
of voxels, packed or not, behind the header or in a file beside it. Nothing is taken from a header
unchecked: voxels outside its folder are refused, and not more is unpacked than it declares.
(SimpleITK, which reads both, ends the process on damaged headers.) Imported late: nibabel.
"""

from __future__ import annotations

import bz2
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nibabel.spatialimages import SpatialImage

from dinorad_rt.errors import UnreadableFileError

HEADER_BYTES = 1 << 20
"""Largest header that is read: those of segmentations hold a few lines for each segment."""
Packing = Literal["raw", "zlib", "bzip2"]
_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AGAIN = "The file is cut short or damaged: fetch it again."


@dataclass(frozen=True)
class Layout:
    """What a header says of its voxels.

    Attributes:
        shape: (x, y[, z[, time]]).
        dtype: of one value, in the byte order of the file.
        channels: values per voxel, one after another.
        affine: (4, 4) from (x, y, z) to LPS millimetres.
        file: that holds the voxels.
        start: their first byte; None if they end with the file.
        packing: how they are stored; zlib stands for gzip, too.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels: int
    affine: np.ndarray
    file: Path
    start: int | None
    packing: Packing


class MetaImage(SpatialImage):
    """A MetaImage file; its voxels are read when they are asked for."""


class NrrdImage(SpatialImage):
    """An NRRD file; its voxels are read when they are asked for."""


def open_volume(path: Path) -> SpatialImage:
    """An image of a MetaImage or NRRD file, from its header.

    Raises:
        UnreadableFileError: damaged, no real numbers or colours, or voxels that lie elsewhere.
        MissingPackageError: pynrrd is not installed.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if header.startswith(b"NRRD"):
        from dinorad_rt.studies.nrrd import layout_of_nrrd

        layout = layout_of_nrrd(header, path)
        return NrrdImage(_Voxels(layout, path), _LPS_TO_RAS @ layout.affine)  # type: ignore[arg-type]
    from dinorad_rt.studies.metaimage import layout_of_metaimage

    layout = layout_of_metaimage(header, path)
    return MetaImage(_Voxels(layout, path), _LPS_TO_RAS @ layout.affine)  # type: ignore[arg-type]


def file_beside(name: str, path: Path) -> Path:
    """The file of voxels that a header names, in its folder or below.

    Raises:
        UnreadableFileError: it lies elsewhere, is missing, or is a list of files.
    """
    if name.upper().startswith("LIST") or "%" in name:
        raise UnreadableFileError(
            f"{path} has its voxels in several files.", "Save it as one file, .mha or .nrrd."
        )
    try:
        target = (path.parent / name).resolve()
        inside, found = target.is_relative_to(path.parent.resolve()), target.is_file()
    except (OSError, ValueError):  # a name that no system takes
        inside, found = True, False
    if not inside:
        raise UnreadableFileError(
            f"The header {path} points to voxels outside its folder.",
            "Put header and voxels into one folder, and correct the name in the header.",
        )
    if not found:
        raise UnreadableFileError(
            f"{path} is a header without its data: the file that it names is missing.",
            "Put both into one folder.",
        )
    return target


def damaged(path: Path, why: str) -> UnreadableFileError:
    """The error for a header or for voxels that are not what they should be."""
    return UnreadableFileError(f"Cannot read {path}: {why}.", _AGAIN)


class _Voxels:
    """What nibabel calls an array proxy: shape and dtype known, values read on demand."""

    def __init__(self, layout: Layout, path: Path) -> None:
        self._layout, self._path = layout, path
        self.shape, self.ndim = layout.shape, len(layout.shape)
        if not 2 <= self.ndim <= 4 or min(self.shape) < 1:
            raise damaged(path, f"its header declares the shape {self.shape}")
        self.dtype = layout.dtype.newbyteorder("=")
        if layout.channels != 1:
            if layout.channels not in (3, 4) or self.dtype != np.uint8:
                raise UnreadableFileError(
                    f"{path} holds {layout.channels} values per voxel ({self.dtype}): vectors, "
                    "complex numbers, several contrasts or overlapping segments.",
                    "Split it into files of one value per voxel.",
                )
            self.dtype = _RGB

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        layout = self._layout
        count = math.prod(self.shape) * layout.channels
        data = self._bytes(count * layout.dtype.itemsize)
        array = np.frombuffer(data, layout.dtype).astype(layout.dtype.newbyteorder("="), copy=False)
        if layout.channels == 1:
            array = array.reshape(self.shape[::-1])
        else:
            array = array.reshape(*self.shape[::-1], layout.channels)
            array = np.ascontiguousarray(array[..., :3]).view(_RGB)[..., 0]
        turned: np.ndarray = array.transpose()
        return turned if dtype is None else turned.astype(dtype)

    def _bytes(self, size: int) -> bytes:
        """The voxels, unpacked: exactly as many bytes as the header declares."""
        layout = self._layout
        there = layout.file.stat().st_size
        start = there - size if layout.start is None else layout.start
        data = b""
        if 0 <= start <= there:
            with layout.file.open("rb") as file:
                file.seek(start)
                if layout.packing == "raw":
                    data = file.read(min(size, there - start))
                else:
                    data = self._unpacked(file.read(), size)
        if len(data) < size:
            raise damaged(self._path, f"it holds {len(data)} of {size} bytes of voxels")
        return data

    def _unpacked(self, packed: bytes, size: int) -> bytes:
        try:
            if self._layout.packing == "bzip2":
                return bz2.BZ2Decompressor().decompress(packed, size)
            return zlib.decompressobj(47).decompress(packed, size)  # zlib or gzip, by its head
        except (zlib.error, OSError, EOFError) as error:
            raise damaged(self._path, f"its voxels cannot be unpacked ({error})") from error
