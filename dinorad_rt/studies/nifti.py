"""NIfTI 1 and 2, ANALYZE, MGH, MetaImage and NRRD volumes, turned to RAS.

Slices run from inferior to superior, rows from posterior to anterior, columns from left to right:
the canonical RAS order of nibabel, as (slice, row, column). `Study.displayed` turns them for
viewing. Integers stay stored values, with `scl_slope` and `scl_inter` as the rescale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.optional import require
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.read import ITK_SUFFIXES, check_frame, head_of, is_itk
from dinorad_rt.studies.study import Study, Units
from dinorad_rt.words import count_of

MAX_VOXELS = 4 << 30
"""Largest volume (all time points) that is read."""

MAX_UNNAMED = 2 << 30
"""Largest file without one of the suffixes that is read."""

_SUFFIXES = (".nii", ".nii.gz", ".nii.bz2", ".hdr", ".img", ".hdr.gz", ".img.gz", ".mgh", ".mgz")
_GUESSED = (
    "the file does not say where left and right are: its columns are taken to run from right to "
    "left, as ANALYZE has it"
)
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def read_nifti(path: Path, frame: int | None = None) -> Study:
    """Read a volume; the volumes of a time series follow one another in time order.

    Args:
        path: `.nii`, `.nii.gz`, a `.hdr`/`.img` pair (either of the two), `.mgh`, `.mgz`, `.mha`,
            `.mhd`, `.nrrd`, `.nhdr`.
        frame: one slice, counted from 0 from inferior to superior; None for all.

    Returns:
        units `HU` if the values can only be those of CT (said in `problems`), else `stored`.

    Raises:
        UnreadableFileError: damaged, a header without its data, or no spatial image.
    """
    nibabel = require("nibabel", "reading NIfTI")
    with quiet():
        image = open_nifti(path)
        data, rescale = _stored_values(image, path)
        data, affine = _to_ras(nibabel, data, in_millimetres(image))
        if frame is not None:
            check_frame(frame, data.shape[2] * data.shape[3], path)
        return _study(data, affine, rescale, image, frame)


def open_nifti(path: Path) -> Any:
    """The nibabel image of a file, whatever it is called; its voxels are not read yet.

    Raises:
        UnreadableFileError: damaged, or no spatial image.
        MissingPackageError: a format needs a package that is not installed.
    """
    nibabel = require("nibabel", "reading NIfTI")
    head, name = head_of(path), path.name.lower()
    if path.suffix.lower() in ITK_SUFFIXES or is_itk(head):
        from dinorad_rt.studies.voxels import open_volume

        return open_volume(path)
    if path.suffix.lower() == ".img" and not _header_of(path):
        raise UnreadableFileError(
            f"{path} holds bare pixels: the .hdr file with their size is not beside it.",
            "Put the pair into one folder; bare pixels (JSRT, for one) must be saved as PNG, "
            "NIfTI or NumPy first.",
        )
    try:
        packed = head.startswith(b"\x1f\x8b")  # browsers unpack files and keep their names
        named = name.endswith(_SUFFIXES) and packed == name.endswith((".gz", ".mgz"))
        image = nibabel.load(path) if named else _opened_by_content(nibabel, path)
    except UnreadableFileError:
        raise
    except Exception as error:
        raise UnreadableFileError(
            f"Cannot read {path} as NIfTI: {' '.join(str(error).split())[:200]}",
            "The file is damaged, or no volume; what only lies packed in .gz must be unpacked.",
        ) from error
    if not isinstance(image, nibabel.spatialimages.SpatialImage) or image.affine is None:
        raise UnreadableFileError(
            f"{path} is a {type(image).__name__}: no image in space (surfaces, connectivity).",
            "Give volumes of voxels.",
        )
    return image


def _header_of(path: Path) -> bool:
    """True if the header of a pair lies beside its voxels."""
    return any(path.with_suffix(suffix).is_file() for suffix in (".hdr", ".HDR"))


def _opened_by_content(nibabel: Any, path: Path) -> Any:
    """A single-file NIfTI whose name says nothing or a wrong thing, which nibabel would refuse."""
    import gzip

    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        data = file.read(MAX_UNNAMED + 1)
    if len(data) > MAX_UNNAMED:
        raise UnreadableFileError(
            f"{path} holds more than {MAX_UNNAMED >> 30} GiB.", "Name it .nii or .nii.gz."
        )
    for magic, kind in ((data[344:348], nibabel.Nifti1Image), (data[4:8], nibabel.Nifti2Image)):
        if magic in (b"n+1\0", b"n+2\0"):
            return kind.from_bytes(data)
    raise UnreadableFileError(
        f"{path} {'is a gzip file that holds' if packed else 'is'} no NIfTI in one file.",
        "Unpack what lies packed in it; give both files of a .hdr/.img pair their suffixes.",
    )


def _stored_values(image: Any, path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Voxels on disk as (i, j, k, time[, rgb]) in native byte order, and the rescale."""
    shape = tuple(image.shape)
    if not 2 <= len(shape) <= 5 or (len(shape) == 5 and 1 not in shape[3:]):
        raise UnreadableFileError(
            f"{path} has {len(shape)} dimensions, {shape}.", "Give a volume, or a time series."
        )
    if int(np.prod(shape, dtype=np.int64)) > MAX_VOXELS:
        raise UnreadableFileError(f"{path} declares {shape} voxels.", "Cut it into parts first.")
    proxy = image.dataobj
    try:
        stored = proxy.get_unscaled() if hasattr(proxy, "get_unscaled") else proxy
        data = np.asarray(stored)
    except UnreadableFileError:
        raise
    except FileNotFoundError as error:
        raise UnreadableFileError(
            f"{path} is a header without its data: the .img file beside it is missing.",
            "Put the pair into one folder.",
        ) from error
    except Exception as error:
        raise UnreadableFileError(
            f"Cannot read the voxels of {path}: {' '.join(str(error).split())[:200]}",
            "The file is cut short or damaged: fetch it again.",
        ) from error
    if data.dtype.names is not None:  # RGB24 and RGBA32
        data = np.stack([data[name] for name in data.dtype.names[:3]], axis=-1)
        return data.reshape(*_four(shape), 3), (1.0, 0.0)
    if data.dtype.kind not in "iuf":
        raise UnreadableFileError(
            f"{path} holds {data.dtype} voxels.", "Give real numbers (a magnitude image)."
        )
    data = data.astype(data.dtype.newbyteorder("="), copy=False).reshape(_four(shape))
    return data, (float(getattr(proxy, "slope", 1.0)), float(getattr(proxy, "inter", 0.0)))


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    full = (*shape, 1, 1, 1)
    return full[0], full[1], full[2], int(np.prod(shape[3:], dtype=np.int64))


def _to_ras(nibabel: Any, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip and swap axes to the closest RAS order; no resampling."""
    orientations = nibabel.orientations
    found = orientations.io_orientation(affine)
    if np.isnan(found).any():
        return data, affine
    turned = orientations.apply_orientation(data, found)
    return turned, affine @ orientations.inv_ornt_aff(found, data.shape[:3])


def in_millimetres(image: Any) -> np.ndarray:
    """The affine of an image of nibabel in mm: NIfTI may count in metres or micrometres."""
    affine = np.array(image.affine, np.float64)
    units = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "mm"
    affine[:3] *= {"meter": 1e3, "micron": 1e-3}.get(units, 1.0)
    return affine


def _slices_of(data: np.ndarray, frame: int | None) -> np.ndarray:
    """(i, j, k, time[, rgb]) → (slices, rows, columns[, rgb]) of all slices or one, a copy."""
    turned = np.moveaxis(data, (3, 2, 1, 0), (0, 1, 2, 3))
    if frame is None:
        return np.array(turned.reshape(-1, *turned.shape[2:]), order="C")
    return np.array(turned[divmod(frame, data.shape[2])][None], order="C")


def _study(
    data: np.ndarray,
    affine: np.ndarray,
    rescale: tuple[float, float],
    image: Any,
    frame: int | None,
) -> Study:
    depth, times = data.shape[2:4]
    pixels = _slices_of(data, frame)
    problems = []
    if times > 1:
        problems.append(f"{times} volumes of {count_of(depth, 'slice')}, one after another in time")
    problems += _orientation_problems(image)
    units, why = _units(data, rescale)
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, 2] * ((frame or 0) % depth)
    place, more = _place(shifted)
    problems += [*why, *more]
    header = image.header
    kind = {"format": type(image).__name__.removesuffix("Image"), "volumes": times}
    kind["stored_dtype"] = str(header.get_data_dtype().name)
    if pixels.ndim == 4:
        units = "colour"
    return Study(
        pixels=pixels,
        units=units,
        rescale=rescale,
        modality="CT" if units == "HU" else None,
        problems=tuple(problems),
        facts=kind,
        **place,
    )


def _place(affine: np.ndarray) -> tuple[dict[str, Any], list[str]]:
    """Geometry of Study (LPS; slice, row, column) from a RAS affine (column, row, slice)."""
    axes = _RAS_TO_LPS @ affine[:3, 2::-1]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or (spacing <= 0).any():
        return {}, ["the affine is singular: no spacing, no orientation"]
    orientation = axes / spacing
    place = {
        "spacing": tuple(float(value) for value in spacing),
        "orientation": orientation,
        "origin": tuple(float(value) for value in _RAS_TO_LPS @ affine[:3, 3]),
    }
    sheared = not np.allclose(orientation.T @ orientation, np.eye(3), atol=0.01)
    return place, ["the voxel axes are not at right angles"] if sheared else []


def _orientation_problems(image: Any) -> list[str]:
    """Why left and right may be swapped: no orientation in the file, or two that contradict."""
    if not hasattr(image, "get_sform"):
        if "Analyze" not in type(image).__name__:
            return []
        matrix = image.file_map.get("mat")  # of SPM
        return [] if matrix and Path(str(matrix.filename)).is_file() else [_GUESSED]
    try:
        forms = [image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]]
    except ValueError:  # a quaternion of no rotation, which is not asked for where sform is there
        return []
    told = [form for form in forms if form is not None]
    if not told:
        return [_GUESSED]
    codes = require("nibabel", "reading NIfTI").aff2axcodes
    first, *others = [codes(form) for form in told]
    if others in ([], [first]) or None in first:
        return []
    axes = "".join(first), "".join(code or "?" for code in others[0])
    return [
        f"sform and qform contradict: axes {axes[0]} and {axes[1]}. The sform is followed; other "
        "programs may swap left and right"
    ]


def _units(data: np.ndarray, rescale: tuple[float, float]) -> tuple[Units, list[str]]:
    """NIfTI does not name the modality; air at -1024 or -1000 gives CT away."""
    if data.ndim == 5 or data.dtype.kind == "u" and rescale == (1.0, 0.0):
        return "stored", []
    low, high = float(np.nanmin(data)), float(np.nanmax(data))
    low, high = sorted((low * rescale[0] + rescale[1], high * rescale[0] + rescale[1]))
    if -4096.0 <= low <= -900.0 and 100.0 <= high <= 32767.0:
        return "HU", [f"taken for CT in HU, because its lowest value is {low:g}"]
    return "stored", []
