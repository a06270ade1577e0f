"""Folders of slices: which series they hold, and each as one volume sorted by geometry."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies import geometry
from dinorad_rt.studies.dicom import load_header, slice_windows, without_padding
from dinorad_rt.studies.dicom_frames import numbers
from dinorad_rt.studies.dicomdir import indexed_images
from dinorad_rt.studies.grouping import Series, group_slices
from dinorad_rt.studies.names import natural_key, visible_files
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.read import file_kind, read_study
from dinorad_rt.studies.study import Study
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "Series",
    "SliceHeader",
    "find_series",
    "load_series",
    "natural_key",
    "read_series",
    "read_slice_header",
    "visible_files",
    "volume_files",
]

MAX_BYTES = 8 << 30
"""Largest volume that is read at once, in bytes."""

_TAGS = [
    0x00020010,  # TransferSyntaxUID
    0x00080016,  # SOPClassUID
    0x00080018,  # SOPInstanceUID
    0x00080060,  # Modality
    0x00100020,  # PatientID
    0x0020000D,  # StudyInstanceUID
    0x0020000E,  # SeriesInstanceUID
    0x00200012,  # AcquisitionNumber
    0x00200013,  # InstanceNumber
    0x00200052,  # FrameOfReferenceUID
    0x00200100,  # TemporalPositionIdentifier
    0x00200032,  # ImagePositionPatient
    0x00200037,  # ImageOrientationPatient
    0x00180081,  # EchoTime
    0x00181060,  # TriggerTime
    0x00189087,  # DiffusionBValue
    0x00280008,  # NumberOfFrames
    0x00280010,  # Rows
    0x00280011,  # Columns
    0x00280030,  # PixelSpacing
]
_VOLUMES = ("nifti", "npy", "npz", "mat")
_SPLITTERS = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoTime",
    "DiffusionBValue",
    "TriggerTime",
)
"""Attributes that tell several volumes of one series apart, tried in this order."""


@dataclass(frozen=True)
class SliceHeader:
    """What sorting needs to know of one DICOM file. Holds identifiers: never stored."""

    path: Path
    sop: str
    series: str
    study: str
    patient: str
    modality: str | None
    shape: tuple[int, int, int]
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    instance: float
    splitters: dict[str, float | None]
    pixel_spacing: tuple[float, ...] | None = None
    frame_of_reference: str = ""

    @property
    def is_image(self) -> bool:
        """True if the file declares rows and columns."""
        return self.shape[1] > 0 and self.shape[2] > 0


def read_series(path: Path, *, series: str | None = None) -> Study:
    """Read the one volume of a folder or a DICOMDIR.

    Args:
        path: DICOM slices of one series (sub-folders included), else raster images of one size,
            in the order of the numbers in their names, else one volume file; or a DICOMDIR.
        series: key of one series where there are several.

    Returns:
        All slices sorted along their normal; `rescale` is applied where it differs by slice.

    Raises:
        UnreadableFileError: no images, several volumes, or slices that do not fit together.
    """
    found = find_series(path)
    if series is not None:
        found = tuple(one for one in found if one.key == series)
    if len(found) == 1:
        return load_series(found[0])
    if not found and series is None and path.is_dir():
        return read_study(_only_volume(path))
    if not found:
        raise UnreadableFileError(f"{path} holds no images.", "Give a folder with one series.")
    listed = "; ".join(
        f"{one.key}: {one.modality}, {count_of(len(one.files), 'file')}" for one in found[:6]
    )
    raise UnreadableFileError(
        f"{path} holds {len(found)} volumes, but one is asked for ({listed}).",
        "Give one folder per series, or choose: read_series(path, series=KEY).",
    )


def _only_volume(folder: Path) -> Path:
    """The one volume file in a folder, as `case/ct.nii.gz` beside `case/masks`, else below it."""
    volumes = volume_files(folder)
    if not volumes:
        raise UnreadableFileError(f"{folder} holds no images.", "Give a folder with one series.")
    if len(volumes) > 1:
        raise UnreadableFileError(
            f"{folder} holds {len(volumes)} volume files, but one is asked for.",
            "Give the file that is meant, not its folder.",
        )
    return volumes[0]


def volume_files(folder: Path) -> list[Path]:
    """The volume files (NIfTI, NumPy, MATLAB, ...) that a folder stands for: its own, else those
    below it."""
    files = visible_files(folder)
    for paths in ([one for one in files if one.parent == folder], files):
        volumes = [one for one in paths if file_kind(one) in _VOLUMES]
        volumes = [one for one in volumes if one.suffix.lower() != ".img"]
        if volumes:
            return volumes
    return []


def find_series(path: Path) -> tuple[Series, ...]:
    """Group the images under a folder, or those that a DICOMDIR names, into volumes.

    Headers only are read. See `group_slices` for what is split.
    """
    paths, missing = (visible_files(path), 0) if path.is_dir() else indexed_images(path)
    headers = [header for header in map(read_slice_header, paths) if header is not None]
    if not headers:
        rasters = tuple(one for one in paths if file_kind(one) == "raster")
        key = pseudonym("series", str(path.resolve()))
        return (Series(key, tuple(sorted(rasters, key=natural_key))),) if rasters else ()
    found = group_slices([header for header in headers if header.is_image])
    if not missing:
        return found
    said = f"the DICOMDIR names {missing} more images that are not there"
    return tuple(replace(one, problems=(*one.problems, said)) for one in found)


def load_series(series: Series, *, workers: int | None = None) -> Study:
    """Read the files of one series into one volume, several at once.

    Args:
        series: from `find_series`.
        workers: threads; None for every usable core. Memory: the volume, and one slice for each.

    Raises:
        UnreadableFileError: a file is damaged, or the slices do not fit together.
    """
    first = read_study(series.files[0])
    if len(series.files) == 1:
        return replace(first, problems=(*first.problems, *series.problems))
    pixels, parts = _filled(series.files, first, workers)
    stored = pixels.dtype
    pixels, rescale = _rescaled(pixels, parts)
    problems = dict.fromkeys((*(p for one in parts for p in one.problems), *series.problems))
    if any(not _same_lut(first, one) for one in parts):
        problems["VOI LUT tables differ from slice to slice: that of the first one is used"] = None
    return replace(
        first,
        pixels=pixels,
        rescale=rescale,
        padding=first.padding if pixels.dtype == stored else None,
        problems=tuple(problems),
        **_windows(parts, first.num_slices),
        **_place(series.geometry, first),
    )


def _filled(
    files: Sequence[Path], first: Study, workers: int | None
) -> tuple[np.ndarray, list[Study]]:
    """One array with the pixels of all files, and the studies without their pixels."""
    from dinorad_rt.machine import usable_cores

    each, size = first.num_slices, first.pixels.nbytes * len(files)
    if size > MAX_BYTES:
        raise UnreadableFileError(
            f"The series in {files[0].parent} holds {size / 2**30:.1f} GiB of pixels; at most "
            f"{MAX_BYTES >> 30} GiB are read at once.",
            "Read its files one by one.",
        )
    pixels = np.empty((each * len(files), *first.pixels.shape[1:]), first.pixels.dtype)

    def fill(index: int) -> Study:
        one = read_study(files[index]) if index else first
        _check_fits(one, first, files)
        pixels[index * each : (index + 1) * each] = one.pixels
        return replace(one, pixels=one.pixels[:0].copy())

    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        return pixels, list(pool.map(fill, range(len(files))))


def _check_fits(one: Study, first: Study, files: Sequence[Path]) -> None:
    """Raise UnreadableFileError if a slice cannot lie in one array with the first one."""
    for what, value, expected in (
        ("size", one.pixels.shape, first.pixels.shape),
        ("type of pixels", one.pixels.dtype.name, first.pixels.dtype.name),
        ("meaning of pixels", one.units, first.units),
        ("photometric interpretation (inverted)", one.inverted, first.inverted),
    ):
        if value != expected:
            raise UnreadableFileError(
                f"The slices in {files[0].parent} differ in {what}: {expected} and {value}.",
                "Only slices of one kind make a volume: give each kind a folder of its own.",
            )


def _rescaled(pixels: np.ndarray, parts: list[Study]) -> tuple[np.ndarray, tuple[float, float]]:
    """Apply slope and intercept where they differ by slice (PET); else pass them on."""
    rescales = [one.rescale for one in parts]
    if len(set(rescales)) == 1:
        return pixels, rescales[0]
    each = len(pixels) // len(parts)
    result = np.empty(pixels.shape, np.float32)
    for index, (slope, intercept) in enumerate(rescales):
        part = slice(index * each, (index + 1) * each)
        result[part] = pixels[part].astype(np.float64) * slope + intercept
        without_padding(result[part], pixels[part], parts[index].padding)
    return result, (1.0, 0.0)


def _windows(parts: list[Study], each: int) -> dict[str, Any]:
    found = [own for one in parts for own in (one.slice_windows or (one.windows,) * each)]
    return slice_windows(found)


def _same_lut(first: Study, one: Study) -> bool:
    if first.voi_lut is None or one.voi_lut is None:
        return first.voi_lut is one.voi_lut
    return first.voi_lut[0] == one.voi_lut[0] and np.array_equal(first.voi_lut[1], one.voi_lut[1])


def _place(stack: geometry.Stack | None, first: Study) -> dict[str, Any]:
    """Slice axis and spacing of the stack, in-plane ones of the first slice."""
    if stack is None or first.orientation is None:
        return {}
    row, column = first.orientation[:, 1], first.orientation[:, 2]
    place: dict[str, Any] = {
        "orientation": geometry.orientation_matrix(stack.slice_axis, row, column)
    }
    if first.spacing is not None:
        place["spacing"] = (stack.spacing, *first.spacing[1:])
    return place


def read_slice_header(path: Path) -> SliceHeader | None:
    """Header of a DICOM file; None for every other file, damaged ones included."""
    if file_kind(path) != "dicom":
        return None
    try:
        with quiet():
            return _slice_header(load_header(path, tags=_TAGS), path)
    except Exception:  # parsing goes on with every attribute that is looked at
        return None


def _slice_header(dataset: Dataset, path: Path) -> SliceHeader:
    def one(name: str) -> float | None:
        found = numbers(dataset, name)
        return found[0] if found else None

    return SliceHeader(
        path=path,
        sop=str(dataset.get("SOPInstanceUID") or ""),
        series=str(dataset.get("SeriesInstanceUID") or path.parent),
        study=str(dataset.get("StudyInstanceUID") or ""),
        patient=str(dataset.get("PatientID") or "").strip(),
        modality=str(dataset.get("Modality") or "") or None,
        shape=(int(one("NumberOfFrames") or 1), int(one("Rows") or 0), int(one("Columns") or 0)),
        orientation=numbers(dataset, "ImageOrientationPatient"),
        position=numbers(dataset, "ImagePositionPatient"),
        instance=one("InstanceNumber") or 0.0,
        splitters={name: one(name) for name in _SPLITTERS},
        pixel_spacing=numbers(dataset, "PixelSpacing"),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
    )
