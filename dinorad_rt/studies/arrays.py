"""NumPy `.npy` / `.npz` (never pickles) and MATLAB 7.3 `.mat` files as images."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.optional import require
from dinorad_rt.studies.colour import over_black, without_colour
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.read import check_frame
from dinorad_rt.studies.study import Study

MAX_BYTES = 8 << 30
"""Largest array that is read at once."""

_IMAGE_NAMES = ("image", "images", "pixels", "img", "volume", "data", "arr_0")
_SHAPES = "Allowed: (height, width), (slices, height, width), either with 1, 3 or 4 channels last."


def read_npy(path: Path, frame: int | None = None) -> Study:
    """Read a `.npy` file; `frame` reads that slice only from disk.

    Raises:
        UnreadableFileError: a pickle, or an array that is no image.
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except ValueError as error:
        raise _not_numeric(path, error) from error
    return _study(array, path, frame, {"format": "npy"})


def read_npz(path: Path, frame: int | None = None) -> Study:
    """Read the image of a `.npz` file: the array called image (pixels, ...), or the only one.

    Raises:
        UnreadableFileError: no such array, several, a pickle, or a zip file of another kind.
    """
    try:
        shapes = _npz_shapes(path)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError) as error:
        raise _not_numeric(path, error) from error
    name = _choose(list(shapes), path)
    if shapes[name] > MAX_BYTES:
        raise _too_large(path, shapes[name])
    with np.load(path, allow_pickle=False) as archive:
        try:
            array = archive[name]
        except ValueError as error:
            raise _not_numeric(path, error) from error
    return _study(array, path, frame, {"format": "npz"})


def read_mat(path: Path, frame: int | None = None) -> Study:
    """Read a MATLAB 7.3 file: `cjdata/image`, or the only array called image, or the only one.

    A patient key is taken from `cjdata/PID` (the brain tumour set of Cheng 2015).

    Raises:
        UnreadableFileError: an older MATLAB format, HDF5 of another program, or no single image in
            the file.
    """
    with path.open("rb") as file:
        begins = file.read(10)
    if begins == b"MATLAB 5.0":
        raise UnreadableFileError(
            f"{path} is a MATLAB file older than 7.3.", "In MATLAB: save(name, '-v7.3')."
        )
    if begins != b"MATLAB 7.3" and path.suffix.lower() != ".mat":
        raise UnreadableFileError(
            f"{path} is an HDF5 file of a program that is not known: the order of its axes would "
            "be a guess.",
            "Save the image as NIfTI or .npy; mnc2nii or nibabel turn MINC into NIfTI.",
        )
    h5py = require("h5py", "reading MATLAB 7.3 files")
    with h5py.File(path, "r") as file:
        found = _numeric_datasets(h5py, file, "", 4)
        node = (
            found["cjdata/image"] if "cjdata/image" in found else found[_choose(list(found), path)]
        )
        if node.size * node.dtype.itemsize > MAX_BYTES:
            raise _too_large(path, node.size * node.dtype.itemsize)
        array = np.asarray(node).T  # MATLAB stores columns first
        patient = _text(found.get("cjdata/PID"))
    if array.ndim == 3 and not _is_coloured(array):
        array = np.moveaxis(array, -1, 0)
    study = _study(array, path, frame, {"format": "MATLAB 7.3"})
    if patient is None:
        return study
    from dataclasses import replace

    return replace(study, patient=pseudonym("patient", patient))


def _study(array: np.ndarray, path: Path, frame: int | None, facts: dict[str, Any]) -> Study:
    """Interpret the axes, cut the frame out, and copy what is left into memory."""
    if array.dtype.kind not in "iufb":
        raise UnreadableFileError(
            f"{path} holds values of type {array.dtype}.", "Save integers or real numbers."
        )
    if array.ndim >= 3 and array.shape[-1] == 1 < array.shape[0]:
        array = array[..., 0]  # one grey channel, as Keras keeps it
    coloured = _is_coloured(array)
    planes = array if array.ndim == (4 if coloured else 3) else array[None]
    if planes.ndim != (4 if coloured else 3):
        raise UnreadableFileError(f"{path} holds an array of shape {array.shape}.", _SHAPES)
    if frame is not None:
        check_frame(frame, planes.shape[0], path)
        planes = planes[frame : frame + 1]
    if planes.nbytes > MAX_BYTES:
        raise _too_large(path, planes.nbytes)
    pixels = np.array(planes, dtype=planes.dtype.newbyteorder("="), order="C")
    problems: tuple[str, ...] = ()
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * 255
    if coloured and pixels.shape[-1] == 4:
        pixels, seen = over_black(pixels)
        problems = ("transparent parts were laid over black",) if seen else ()
    if coloured:
        pixels = without_colour(pixels)
    eight = pixels.dtype == np.uint8
    return Study(
        pixels=pixels,
        units="colour" if pixels.ndim == 4 else "display" if eight else "stored",
        problems=problems,
        facts=facts,
    )


def _is_coloured(array: np.ndarray) -> bool:
    """True if the last axis can only be RGB or RGBA."""
    return array.ndim >= 3 and array.shape[-1] in (3, 4) and array.dtype in (np.uint8, np.uint16)


def _npz_shapes(path: Path) -> dict[str, int]:
    """Name → bytes of each array that could be an image, from the headers alone."""
    sizes = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if not entry.endswith(".npy"):
                continue
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(member)
            if len(shape) >= 2:
                sizes[entry[:-4]] = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return sizes


def _choose(names: list[str], path: Path) -> str:
    """The array that is the image."""
    for wanted in _IMAGE_NAMES:
        matching = [name for name in names if name.split("/")[-1].lower() == wanted]
        if len(matching) == 1:
            return matching[0]
    if len(names) == 1:
        return names[0]
    listed = ", ".join(names[:8]) or "none"
    raise UnreadableFileError(
        f"{path} holds no single image: its arrays are {listed}.",
        "Name one of them `image`, or save each image to a file of its own.",
    )


def _numeric_datasets(h5py: Any, group: Any, prefix: str, depth: int) -> dict[str, Any]:
    """Numeric arrays of a file by path. Links to other files are not followed."""
    found: dict[str, Any] = {}
    for name in group:
        if name.startswith("#") or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        node = group[name]
        if isinstance(node, h5py.Group):
            if depth:
                found |= _numeric_datasets(h5py, node, f"{prefix}{name}/", depth - 1)
        elif _is_array(node) and (min(node.shape, default=0) > 1 or name == "PID"):
            found[prefix + name] = node
    return found


def _is_array(node: Any) -> bool:
    """True for numbers that lie in the file itself."""
    return node.external is None and not node.is_virtual and node.dtype.kind in "iufb"


def _text(node: Any) -> str | None:
    """A MATLAB string: UTF-16 codes in a numeric array."""
    if node is None or node.size > 256:
        return None
    codes = np.asarray(node).reshape(-1)
    return "".join(chr(int(code)) for code in codes if 0 < code < 0x10000) or None


def _not_numeric(path: Path, error: Exception) -> UnreadableFileError:
    return UnreadableFileError(
        f"Cannot read {path}: {' '.join(str(error).split())[:200]}",
        "Give arrays of plain numbers; pickled objects are never loaded, as they can run code.",
    )


def _too_large(path: Path, size: int) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} holds an array of {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} GiB are read.",
        "Save it in parts.",
    )
