"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) as images of nibabel, read by SimpleITK.

What these formats call LPS becomes the RAS affine of nibabel; from there on they are NIfTI to
everybody. Headers may name a file of voxels: it must lie in the folder of the header or below.
Imported late: nibabel, SimpleITK.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.optional import require

HEADER_BYTES = 1 << 20
"""Largest header that is read: those of segmentations hold a few lines for each segment."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_METAIMAGE_DATA = re.compile(rb"^[ \t]*(ElementDataFile)[ \t]*[=:][ \t]*([^\r\n]*)", re.I | re.M)
_NRRD_DATA = re.compile(rb"^[ \t]*data ?file[ \t]*:=?[ \t]*([^\r\n]*)", re.I | re.M)
_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


class MetaImage(SpatialImage):
    """A MetaImage file; its voxels are read when they are asked for."""


class NrrdImage(SpatialImage):
    """An NRRD file; its voxels are read when they are asked for."""


def open_itk(path: Path) -> SpatialImage:
    """Header of a file; voxels in the order (x, y, z[, time]).

    Raises:
        UnreadableFileError: damaged, no real numbers or colours, or voxels that lie elsewhere.
        MissingPackageError: SimpleITK is not installed.
    """
    sitk = require("SimpleITK", "reading MetaImage and NRRD")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    is_nrrd = header.startswith(b"NRRD")
    for name in _nrrd_files(header) if is_nrrd else _metaimage_files(header, path):
        _refuse_elsewhere(name, path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    kind = NrrdImage if is_nrrd else MetaImage
    return kind(_Voxels(sitk, reader, path), _affine(reader))  # type: ignore[arg-type]


class _Voxels:
    """What nibabel calls an array proxy: shape and dtype known, values read on demand."""

    def __init__(self, sitk: Any, reader: Any, path: Path) -> None:
        self._sitk, self._reader, self._path = sitk, reader, path
        self.shape = tuple(int(size) for size in reader.GetSize())
        self.ndim = len(self.shape)
        parts, code = reader.GetNumberOfComponents(), reader.GetPixelID()
        name = sitk.GetPixelIDValueAsString(code)
        words = re.search(r"(8|16|32|64)-bit (signed|unsigned)? ?(integer|float)", name)
        if words is None or "complex" in name:
            raise UnreadableFileError(
                f"{path} holds voxels of the kind {name!r}.",
                "Give real numbers (a magnitude image).",
            )
        bits, sign, number = words.groups()
        letter = {"float": "f"}.get(number, "u" if sign == "unsigned" else "i")
        self.dtype = np.dtype(f"{letter}{int(bits) // 8}")
        if parts != 1:
            if parts not in (3, 4) or self.dtype != np.uint8:
                raise UnreadableFileError(
                    f"{path} holds {parts} values per voxel ({self.dtype}): a field of vectors, "
                    "several contrasts or overlapping segments.",
                    "Split it into files of one value per voxel.",
                )
            self.dtype = _RGB

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        try:
            array = self._sitk.GetArrayFromImage(self._reader.Execute())
        except RuntimeError as error:
            raise _unreadable(self._path, error) from error
        if self.dtype == _RGB:
            array = np.ascontiguousarray(array[..., :3]).view(_RGB)[..., 0]
        turned: np.ndarray = array.transpose()
        return turned if dtype is None else turned.astype(dtype)


def _affine(reader: Any) -> np.ndarray:
    """(4, 4) from (x, y, z) to RAS millimetres; an image in the plane lies at z = 0."""
    count = reader.GetDimension()
    sides = min(count, 3)
    directions = np.asarray(reader.GetDirection(), np.float64).reshape(count, count)
    axes, origin = np.eye(3), np.zeros(3)
    axes[:sides, :sides] = directions[:sides, :sides] * np.asarray(reader.GetSpacing()[:sides])
    origin[:sides] = reader.GetOrigin()[:sides]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = _LPS_TO_RAS @ axes, _LPS_TO_RAS @ origin
    return affine


def _metaimage_files(header: bytes, path: Path) -> list[str]:
    """Files of voxels that a header names; the key ends the header, whatever its case before."""
    names = []
    for key, value in _METAIMAGE_DATA.findall(header):
        if value.strip().upper() != b"LOCAL":
            names.append(value.strip().decode("utf-8", "replace"))
        if key == b"ElementDataFile":
            return names
    raise UnreadableFileError(
        f"Cannot read {path} as MetaImage: its header has no ElementDataFile.",
        "The file is damaged: fetch it again.",
    )


def _nrrd_files(header: bytes) -> list[str]:
    head = re.split(rb"\r?\n\r?\n", header, maxsplit=1)[0]
    return [value.strip().decode("utf-8", "replace") for value in _NRRD_DATA.findall(head)]


def _refuse_elsewhere(name: str, path: Path) -> None:
    """Refuse voxels outside the header's folder, in a list of files, or in none."""
    if name.upper().startswith("LIST") or "%" in name:
        raise UnreadableFileError(
            f"{path} has its voxels in several files.", "Save it as one file, .mha or .nrrd."
        )
    folder, target = path.parent.resolve(), (path.parent / name).resolve()
    if not target.is_relative_to(folder):
        raise UnreadableFileError(
            f"The header {path} points to voxels outside its folder.",
            "Put header and voxels into one folder, and correct the name in the header.",
        )
    if not target.is_file():
        raise UnreadableFileError(
            f"{path} is a header without its data: the file that it names is missing.",
            "Put both into one folder.",
        )


def _unreadable(path: Path, error: RuntimeError) -> UnreadableFileError:
    """ITK's error without its C++ places: the last words tell what is wrong."""
    words = " ".join(str(error).split()).rsplit("): ", 1)[-1].replace(str(path), path.name)
    return UnreadableFileError(
        f"Cannot read {path}: {words[:200]}", "The file is cut short or damaged: fetch it again."
    )
