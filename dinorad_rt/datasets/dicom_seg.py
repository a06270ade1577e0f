"""DICOM SEG as a mask: its frames are laid on the image's grid, its segments go by their labels.

A SEG (DICOM PS3.3 A.51) holds a frame per segment and slice where something is, in any order, and
counts the segments of each file anew. So frames are placed by their position, and what they mean
is told by the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.datasets.grid import TOLERANCE, Grid, kind_of
from dinorad_rt.errors import LabelError, MaskError, UnreadableFileError
from dinorad_rt.optional import require
from dinorad_rt.words import count_of, error_line

BINARY_OR_FRACTIONAL = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENT_FACT = "segments of masks"
"""What `segment_facts` gives is remembered as."""
_BACKGROUND = "background"
RESAMPLE = "Resample it onto its image and save it as NIfTI, with 3D Slicer or dcmqi."


@dataclass(frozen=True)
class Segment:
    """One segment of a file.

    Attributes:
        number: from 1 on, of this file alone.
        label: what it shows, in the words of whoever drew it.
    """

    number: int
    label: str

    @property
    def is_background(self) -> bool:
        """Some tools declare it as a segment of its own."""
        return self.label.casefold() == _BACKGROUND


class _OffGridError(Exception):
    """A frame does not lie on the image's voxels; says why, in words."""


@dataclass(frozen=True)
class _Frame:
    """Where a frame lies: voxel (row, column) of it is voxel origin + row * down + column * right
    of the image. All zero rows of `down` and `right` but one."""

    segment: int | None
    origin: np.ndarray
    down: np.ndarray
    right: np.ndarray


def is_seg(path: Path) -> bool:
    """True for a DICOM file of one of the two SEG classes."""
    if kind_of(path) != "dicom":
        return False
    pydicom = require("pydicom", "reading DICOM")
    found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return found.get("SOPClassUID") in (BINARY_OR_FRACTIONAL, LABEL_MAP)


def referenced_series(path: Path) -> str | None:
    """The series that a SEG was drawn on; None for other files, and where it does not tell."""
    if not is_seg(path):
        return None
    pydicom = require("pydicom", "reading DICOM")
    found = pydicom.dcmread(
        path, stop_before_pixels=True, specific_tags=["ReferencedSeriesSequence"]
    )
    for one in found.get("ReferencedSeriesSequence") or ():
        if one.get("SeriesInstanceUID"):
            return str(one.SeriesInstanceUID)
    return None


def mixed_kinds() -> LabelError:
    """The error of a set that has masks of this kind and of others."""
    return LabelError(
        "Some masks are DICOM SEG and others are not: what segments mean is told by their labels, "
        "what other masks hold by numbers.",
        "Give masks of one kind.",
    )


def segments_in(path: Path) -> tuple[Segment, ...]:
    """The segments that a file has frames of, by number, without the background.

    Raises:
        UnreadableFileError: it is damaged, or does not tell.
    """
    header = _header(path)
    if header.SOPClassUID == LABEL_MAP:
        there = {int(number) for frame in _pixels(path) for number in np.unique(frame)}
    else:
        shared = _shared(header)
        there = {_segment_of(frame, shared) for frame in _frame_groups(header)}
    return tuple(one for one in _declared(header) if one.number in there and not one.is_background)


def segment_facts(path: Path) -> list[list[Any]] | None:
    """Number and label of each segment in a mask file, as JSON values.

    None for masks of another kind; empty for a file that cannot be read, which will stand in the
    failures like every other one.
    """
    try:
        if not is_seg(path):
            return [] if kind_of(path) is None else None
        return [[one.number, one.label] for one in segments_in(path)]
    except UnreadableFileError:
        return []


def difference_of(path: Path, image: Grid) -> str:
    """Why a SEG does not lie on the grid of an image, in words; empty if it does."""
    try:
        _placed(_header(path), image)
    except _OffGridError as error:
        return str(error)
    return ""


def read_seg(path: Path, image: Grid, classes: Mapping[str, int] | None = None) -> np.ndarray:
    """The mask on the grid of its image.

    Args:
        path: of the SEG.
        image: grid of the whole image.
        classes: class index of each label; None to keep the file's own numbers.

    Returns:
        (slices, rows, columns) uint16 class indices, 0 where no segment is.

    Raises:
        MaskError: it lies off the image's voxels, two segments overlap, or a label is no class.
        UnreadableFileError: the frames cannot be decoded.
    """
    header = _header(path)
    try:
        frames = _placed(header, image)
    except _OffGridError as error:
        raise MaskError(f"A DICOM SEG does not lie on its image: {error}.", RESAMPLE) from error
    index_of = _indices(_declared(header), classes)
    volume = np.zeros(image.shape, np.uint16)
    whole = header.get("MaximumFractionalValue")
    overlap = 0
    for frame, pixels in zip(frames, _pixels(path), strict=True):
        if frame is None:
            continue
        if frame.segment is None:
            values = _mapped(pixels, index_of)
        else:
            least = 1 if whole is None else (int(whole) + 1) // 2
            values = _mapped((pixels >= least) * np.uint16(frame.segment), index_of)
        rows, columns = (np.arange(side) for side in values.shape)
        place = tuple(
            frame.origin[axis] + rows[:, None] * frame.down[axis] + columns * frame.right[axis]
            for axis in range(3)
        )
        there = volume[place]
        overlap += int(((there > 0) & (values > 0) & (there != values)).sum())
        volume[place] = np.where(values > 0, values, there)
    if overlap:
        raise MaskError(
            f"Segments of a DICOM SEG overlap in {count_of(overlap, 'voxel')}; a voxel has one "
            "class here.",
            "Leave out segments that hold others, or give one file per class.",
        )
    return volume


def _declared(header: Any) -> tuple[Segment, ...]:
    found = [
        (int(one.SegmentNumber), str(one.get("SegmentLabel") or "").strip())
        for one in header.get("SegmentSequence", ())
    ]
    return tuple(
        Segment(number, label or f"class {number}")
        for number, label in sorted(found)
        if number > 0  # 0 may be the background of a label map
    )


def _header(path: Path) -> Any:
    pydicom = require("pydicom", "reading DICOM")
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, ValueError, pydicom.errors.InvalidDicomError) as error:
        raise UnreadableFileError(f"Cannot read a DICOM SEG: {error_line(error)}") from error


def _pixels(path: Path) -> Any:
    """Frame after frame as stored: 0 and 1, fractions, or segment numbers."""
    pixels = require("pydicom.pixels", "reading DICOM")
    try:
        yield from pixels.iter_pixels(path, raw=True)
    except Exception as error:  # decoders raise whatever they like
        raise UnreadableFileError(f"Cannot decode a DICOM SEG: {error_line(error)}") from error


def _indices(segments: Sequence[Segment], classes: Mapping[str, int] | None) -> dict[int, int]:
    """Class of each number; segments that are no class are left out."""
    if classes is None:
        return {one.number: one.number for one in segments}
    known = {one.number: classes[one.label] for one in segments if one.label in classes}
    return known | {one.number: 0 for one in segments if one.is_background}


def _mapped(pixels: np.ndarray, index_of: Mapping[int, int]) -> np.ndarray:
    """Segment numbers → class indices.

    Raises:
        MaskError: a number that is no class.
    """
    found = np.unique(pixels)
    unknown = sorted({int(number) for number in found} - set(index_of) - {0})
    if unknown:
        raise MaskError(
            f"Segments {unknown[:10]} of a DICOM SEG are no class.",
            "Name all classes as the segments are called: --class-names background,...",
        )
    table = np.zeros(int(found.max(initial=0)) + 1, np.uint16)
    for number in set(index_of) & {int(number) for number in found}:
        table[number] = index_of[number]
    mapped: np.ndarray = table[pixels]
    return mapped


def _frame_groups(header: Any) -> Sequence[Any]:
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        raise UnreadableFileError("A DICOM SEG does not tell where its frames lie.")
    return list(frames)


def _shared(header: Any) -> Any:
    return next(iter(header.get("SharedFunctionalGroupsSequence", ())), None)


def _segment_of(frame: Any, shared: Any) -> int:
    found = _item(frame, shared, "SegmentIdentificationSequence")
    if found is None:
        raise UnreadableFileError("A DICOM SEG does not tell the segments of its frames.")
    return int(found.ReferencedSegmentNumber)


def _placed(header: Any, image: Grid) -> list[_Frame | None]:
    """The place of each frame; None for those beside an image of a single slice.

    Raises:
        _OffGridError: a frame does not lie on the image's voxels.
    """
    frames = _frame_groups(header)
    shared = _shared(header)
    labelled = header.SOPClassUID == LABEL_MAP
    shape = (int(header.Rows), int(header.Columns))
    places = []
    for group in frames:
        segment = None if labelled else _segment_of(group, shared)
        places.append(_place(group, shared, segment, (image, shape)))
    return places


def _place(
    group: Any, shared: Any, segment: int | None, grids: tuple[Grid, tuple[int, int]]
) -> _Frame | None:
    image, shape = grids
    exact = _exact_place(group, shared, image)
    if exact is None:  # neither knows its place: a radiograph and its mask
        if image.shape != (1, *shape):
            raise _OffGridError(f"{_times(image.shape)} and 1 × {_times(shape)} voxels")
        exact = np.asarray([[0.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    single = image.shape[0] == 1
    if single and abs(exact[0, 0]) > TOLERANCE:
        return None
    whole = np.rint(exact).astype(np.int64)
    ends = np.asarray([(1, i, j) for i in (0, shape[0] - 1) for j in (0, shape[1] - 1)])
    off = float(np.abs(ends @ (exact - whole)).max())
    steps = sorted(np.abs(whole[1:]).sum(axis=0).tolist())
    if off > TOLERANCE or steps != [0, 1, 1] or np.abs(whole[1:]).sum(axis=1).tolist() != [1, 1]:
        raise _OffGridError("its frames lie between the voxels of the image, or across them")
    corners = ends @ whole
    if (corners < 0).any() or (corners >= np.asarray(image.shape)).any():
        raise _OffGridError("frames of it lie outside the image")
    return _Frame(segment, whole[0], whole[1], whole[2])


def _exact_place(group: Any, shared: Any, image: Grid) -> np.ndarray | None:
    """(3, 3) rows origin, down and right in voxels of the image; None where neither has a place."""
    position = _item(group, shared, "PlanePositionSequence")
    turn = _item(group, shared, "PlaneOrientationSequence")
    measures = _item(group, shared, "PixelMeasuresSequence")
    known = None not in (position, turn, measures)
    if image.affine is None and not known:
        return None
    if image.affine is None or not known:
        raise _OffGridError(f"{'the image' if known else 'it'} does not tell where it lies")
    right, down = np.reshape(np.asarray(turn.ImageOrientationPatient, np.float64), (2, 3))
    spacing = [float(value) for value in measures.PixelSpacing]
    back = np.linalg.inv(image.affine)
    corner = np.asarray([*position.ImagePositionPatient, 1.0], np.float64)
    axes = back[:3, :3]
    return np.stack([(back @ corner)[:3], axes @ (down * spacing[0]), axes @ (right * spacing[1])])


def _item(group: Any, shared: Any, name: str) -> Any:
    for one in (group, shared):
        found = None if one is None else one.get(name)
        if found:
            return found[0]
    return None


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
