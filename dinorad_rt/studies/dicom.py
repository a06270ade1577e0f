"""DICOM files: stored values, and everything that is needed to show them right.

The order of the standard (PS3.4 N.2) is kept open for preprocessing: the modality LUT stays a
`rescale`, window or VOI LUT are handed on, MONOCHROME1 is a flag. Nothing that identifies a
patient leaves this module, except as a keyed hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.optional import require
from dinorad_rt.studies import geometry
from dinorad_rt.studies.dicom_frames import FrameView, numbers
from dinorad_rt.studies.dicom_pixels import check_has_pixels, colour_or_grey, decode
from dinorad_rt.studies.frame_order import disorder
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.read import check_frame
from dinorad_rt.studies.study import Study, Units, Window

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset


def read_dicom(path: Path, frame: int | None = None) -> Study:
    """Read one DICOM file; the frames of a multi-frame file are the slices, in stored order.

    Args:
        path: a Part 10 file; without preamble it is tried as well.
        frame: one frame, counted from 0; None for all.

    Raises:
        UnreadableFileError: no image, truncated, damaged, or without a transfer syntax.
        MissingPackageError: no decoder for the transfer syntax is installed.
    """
    with quiet():
        dataset, stored, count = _decoded(path, frame)
        shown = range(count) if frame is None else (frame,)
        views = [FrameView(dataset, index) for index in shown]
        return _study(dataset, stored, views)


def read_place(path: Path) -> tuple[tuple[int, int], dict[str, Any]] | None:
    """Where a single image lies, by its header alone: no pixels are decoded.

    Returns:
        Rows and columns; and `spacing`, `orientation` and `origin` of its `Study`, as far as the
        file tells them. None for several frames, and for a header without rows and columns.

    Raises:
        UnreadableFileError: not DICOM, or cut off within the header.
    """
    with quiet():
        dataset = load_header(path)
        rows, columns = (numbers(dataset, name) for name in ("Rows", "Columns"))
        if not rows or not columns or _frame_count(dataset, path) != 1:
            return None
        place, _ = _place([FrameView(dataset, 0)])
        return (int(rows[0]), int(columns[0])), place


def read_stored(path: Path) -> np.ndarray:
    """Read the stored values alone, palette indices as they are: (frames, height, width[, 3]).

    Raises:
        UnreadableFileError, MissingPackageError: as `read_dicom`.
    """
    with quiet():
        return _decoded(path, None)[1]


def _decoded(path: Path, frame: int | None) -> tuple[FileDataset, np.ndarray, int]:
    """Data set, stored values, and number of frames in the file."""
    dataset = load_header(path, pixels=True, defer=frame is not None)
    check_has_pixels(dataset, path)
    count = _frame_count(dataset, path)
    if frame is not None:
        check_frame(frame, count, path)
    return dataset, decode(dataset, path, frame if count > 1 else None), count


def load_header(
    path: Path, *, pixels: bool = False, defer: bool = False, tags: list[int] | None = None
) -> FileDataset:
    """Parse a file's data set.

    Args:
        path: the file.
        pixels: read the pixel data, too.
        defer: elements over 1 MB only when they are asked for.
        tags: only these, for speed.

    Raises:
        UnreadableFileError: not DICOM, or cut off within the header.
    """
    pydicom = require("pydicom", "reading DICOM")
    try:
        dataset: FileDataset = pydicom.dcmread(
            path,
            force=True,
            stop_before_pixels=not pixels,
            specific_tags=tags,
            defer_size=1 << 20 if defer else None,
        )
    except Exception as error:
        raise UnreadableFileError(
            f"Cannot parse {path} as DICOM: {type(error).__name__}: {str(error)[:200]}",
            "The file is damaged or cut short: fetch it again.",
        ) from error
    return dataset


def _frame_count(dataset: FileDataset, path: Path) -> int:
    try:
        return max(int(dataset.get("NumberOfFrames") or 1), 1)
    except (ValueError, TypeError) as error:
        raise UnreadableFileError(
            f"{path}: the number of frames is not a number ({error}).",
            "The file is damaged: fetch it again.",
        ) from error


def _study(dataset: FileDataset, stored: np.ndarray, views: list[FrameView]) -> Study:
    pixels = colour_or_grey(dataset, stored)
    problems = _warnings_of(dataset)
    padding = _padding(dataset, stored.dtype) if pixels.ndim == 3 else None
    pixels, rescale, more = _modality(pixels, views, padding)
    problems += more
    place, more = _place(views)
    problems += more
    return Study(
        pixels=pixels,
        units=_units(dataset, pixels, views[0]),
        rescale=rescale,
        inverted=dataset.get("PhotometricInterpretation") == "MONOCHROME1",
        **slice_windows([view.windows() for view in views]),
        voi_lut=views[0].voi_lut(),
        padding=padding if pixels.dtype == stored.dtype else None,
        modality=str(dataset.get("Modality") or "") or None,
        patient=_key(dataset, "patient", "PatientID"),
        study=_key(dataset, "study", "StudyInstanceUID"),
        series=_key(dataset, "series", "SeriesInstanceUID"),
        problems=tuple(problems),
        facts=_facts(dataset),
        **place,
    )


def _key(dataset: FileDataset, kind: str, name: str) -> str | None:
    value = str(dataset.get(name) or "").strip()
    return pseudonym(kind, value) if value else None


def _modality(
    pixels: np.ndarray, views: list[FrameView], padding: tuple[float, float] | None
) -> tuple[np.ndarray, tuple[float, float], list[str]]:
    """Apply a modality LUT table, or pass the linear rescale on (PS3.3 C.11.1).

    Where values are mapped here, padding becomes NaN, as the stored value that marked it is lost.
    """
    if pixels.ndim == 4:
        return pixels, (1.0, 0.0), []
    table = views[0].modality_lut()
    if table is not None:
        first, values = table
        index = np.clip(pixels.astype(np.int64) - first, 0, len(values) - 1)
        mapped = without_padding(values[index].astype(np.float32), pixels, padding)
        return mapped, (1.0, 0.0), ["a modality LUT table was applied"]
    rescales = [view.rescale() for view in views]
    if len(set(rescales)) == 1:
        return pixels, rescales[0], []
    slopes, intercepts = np.asarray(rescales, np.float64).T
    scaled = pixels * slopes[:, None, None] + intercepts[:, None, None]
    return without_padding(scaled.astype(np.float32), pixels, padding), (1.0, 0.0), []


def without_padding(
    values: np.ndarray, stored: np.ndarray, padding: tuple[float, float] | None
) -> np.ndarray:
    """Float values with NaN, in place, where the stored ones mark "no data"."""
    if padding is not None:
        values[(stored >= padding[0]) & (stored <= padding[1])] = np.nan
    return values


def slice_windows(found: list[tuple[Window, ...]]) -> dict[str, Any]:
    """`windows` and `slice_windows` of a study whose slices have these."""
    same = len(set(found)) == 1
    return {"windows": found[0], "slice_windows": () if same else tuple(found)}


def _units(dataset: FileDataset, pixels: np.ndarray, view: FrameView) -> Units:
    modality = dataset.get("Modality")
    if pixels.ndim == 4:
        return "colour"
    if modality == "CT" and (view.has_rescale() or view.rescale_type() == "HU"):
        return "HU" if view.rescale_type() in ("HU", "", "US") else "stored"
    if modality == "PT" and dataset.get("Units") == "GML":
        return "SUV"
    bits = int(dataset.get("BitsStored") or 16)
    plain = not view.windows() and view.voi_lut() is None and not view.has_rescale()
    return "display" if bits <= 8 and plain and pixels.dtype.itemsize == 1 else "stored"


def _padding(dataset: FileDataset, dtype: np.dtype) -> tuple[float, float] | None:
    """Stored values that mean "no data" (PS3.3 C.7.5.1.1.2), with the sign of the pixels."""
    value = numbers(dataset, "PixelPaddingValue")
    if not value:
        return None
    limit = numbers(dataset, "PixelPaddingRangeLimit") or value
    low, high = sorted(_signed(item[0], dtype) for item in (value, limit))
    return low, high


def _signed(value: float, dtype: np.dtype) -> float:
    if dtype.kind not in "iu":
        return value
    limits, span = np.iinfo(dtype), 2.0 ** (8 * dtype.itemsize)
    if value > limits.max:
        return value - span
    return value + span if value < limits.min else value


def _place(views: list[FrameView]) -> tuple[dict[str, Any], list[str]]:
    """Spacing, orientation and origin of the frames, and what is wrong with them."""
    spacing = views[0].pixel_spacing()
    axes = geometry.in_plane_axes(views[0].orientation())
    positions = [view.position() for view in views]
    thickness = views[0].thickness()
    place: dict[str, Any] = {"spacing": None if spacing is None else (thickness, *spacing)}
    if axes is None or any(position is None for position in positions):
        return place, []
    normal = geometry.normal_of(*axes)
    place["origin"] = tuple(float(x) for x in positions[0] or ())
    place["orientation"] = geometry.orientation_matrix(normal, *axes)
    if len(views) == 1:
        return place, []
    if "PerFrameFunctionalGroupsSequence" not in views[0].dataset:
        if spacing is not None:
            place["spacing"] = (views[0].frame_distance(), *spacing)
        return place, []
    same = all(view.orientation() == views[0].orientation() for view in views)
    stack = geometry.stack_slices(np.asarray(positions, np.float64), normal)
    order = list(stack.order)
    if not same or stack.left_out or order not in (sorted(order), sorted(order)[::-1]):
        place["spacing"] = None if spacing is None else (float("nan"), *spacing)
        return place, [disorder(views, np.asarray(positions, np.float64) @ normal)]
    axis = stack.slice_axis if order == sorted(order) else -stack.slice_axis
    place["orientation"] = geometry.orientation_matrix(axis, *axes)
    if spacing is not None:
        place["spacing"] = (stack.spacing, *spacing)
    return place, list(stack.problems)


_OFTEN_WITH_TEXT = ("US", "ES", "XC", "SC", "OT")
_NOT_INTENSITIES = {"SEG": "labels of a segmentation", "RTDOSE": "radiation doses"}


def _warnings_of(dataset: FileDataset) -> list[str]:
    problems = []
    burned_in = dataset.get("BurnedInAnnotation")
    if burned_in == "YES":
        problems.append("burned-in annotation: the image itself may show who the patient is")
    elif burned_in != "NO" and dataset.get("Modality") in _OFTEN_WITH_TEXT:
        problems.append("burned-in text is not ruled out by the file: look before you share it")
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        problems.append(
            "a mosaic: all slices of a volume as tiles of one image; dcm2niix takes it apart"
        )
    kind = _NOT_INTENSITIES.get(str(dataset.get("Modality")))
    if kind is not None:
        problems.append(f"values are {kind}, not intensities of an image")
    if dataset.get("Modality") == "PT" and dataset.get("Units") != "GML":
        problems.append(f"PET values are left in {dataset.get('Units') or 'unknown units'}, no SUV")
    if (
        dataset.get("Modality") == "CT"
        and "RescaleSlope" not in dataset
        and not dataset.get("SharedFunctionalGroupsSequence")
    ):
        problems.append("CT without a rescale: the values are not taken for HU")
    return problems


def _facts(dataset: FileDataset) -> dict[str, Any]:
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    return {
        "format": "DICOM",
        "transfer_syntax": str(getattr(syntax, "name", syntax)),
        "photometric": str(dataset.get("PhotometricInterpretation") or ""),
        "bits_stored": int(dataset.get("BitsStored") or 0),
        "frames": int(dataset.get("NumberOfFrames") or 1),
        "sop_class": str(getattr(dataset.get("SOPClassUID"), "name", "")),
        "lossy": dataset.get("LossyImageCompression") == "01",
    }
