"""Folders of slices: which series they hold, and each as one volume sorted by geometry."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies import geometry
from dinorad_rt.studies.dicom import load_header
from dinorad_rt.studies.dicom_frames import numbers
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.read import read_study, sniff
from dinorad_rt.studies.study import Study

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

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
    0x00200100,  # TemporalPositionIdentifier
    0x00200032,  # ImagePositionPatient
    0x00200037,  # ImageOrientationPatient
    0x00180081,  # EchoTime
    0x00181060,  # TriggerTime
    0x00189087,  # DiffusionBValue
    0x00280008,  # NumberOfFrames
    0x00280010,  # Rows
    0x00280011,  # Columns
]
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
    splitters: tuple[float | None, ...]

    @property
    def is_image(self) -> bool:
        """True if the file declares rows and columns."""
        return self.shape[1] > 0 and self.shape[2] > 0


@dataclass(frozen=True)
class Series:
    """One volume, or one set of images that belong together.

    Attributes:
        key: pseudonymous key of the series, with `.2`, `.3`, ... where it holds several volumes.
        files: the slices in the order of the volume.
        geometry: None for images without a position.
        problems: found while sorting.
    """

    key: str
    files: tuple[Path, ...]
    modality: str | None = None
    geometry: geometry.Stack | None = None
    problems: tuple[str, ...] = ()


def read_series(folder: Path, *, series: str | None = None) -> Study:
    """Read the one volume of a folder.

    Args:
        folder: DICOM slices of one series (sub-folders included), else raster images of one size,
            in the order of the numbers in their names.
        series: key of one series where there are several.

    Returns:
        All slices sorted along their normal; `rescale` is applied where it differs by slice.

    Raises:
        UnreadableFileError: no images, several volumes, or slices that do not fit together.
    """
    found = find_series(folder)
    if series is not None:
        found = tuple(one for one in found if one.key == series)
    if len(found) == 1:
        return load_series(found[0])
    if not found:
        raise UnreadableFileError(f"{folder} holds no images.", "Give a folder with one series.")
    listed = "; ".join(f"{one.key}: {one.modality}, {len(one.files)} files" for one in found[:6])
    raise UnreadableFileError(
        f"{folder} holds {len(found)} volumes, but one is asked for ({listed}).",
        "Give one folder per series, or choose: read_series(folder, series=KEY).",
    )


def find_series(folder: Path) -> tuple[Series, ...]:
    """Group the images under a folder into volumes; headers only are read.

    A series is split where orientation or size of its slices differ (localisers), and where
    several volumes share their positions (echoes, b-values, time points, acquisitions).
    """
    paths = visible_files(folder)
    headers = [header for header in map(read_slice_header, paths) if header is not None]
    if not headers:
        rasters = tuple(path for path in paths if _kind(path) == "raster")
        key = pseudonym("series", str(folder.resolve()))
        return (Series(key, tuple(sorted(rasters, key=natural_key))),) if rasters else ()
    return group_slices([header for header in headers if header.is_image])


def group_slices(headers: Iterable[SliceHeader]) -> tuple[Series, ...]:
    """Sort slices into volumes, the largest volume of a series first."""
    groups: dict[Hashable, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups[(header.series, header.shape, _rounded(header.orientation))].append(header)
    found: dict[str, list[Series]] = defaultdict(list)
    for members in groups.values():
        found[members[0].series].extend(_volumes(members))
    return tuple(
        one if index == 0 else replace(one, key=f"{one.key}.{index + 1}")
        for volumes in found.values()
        for index, one in enumerate(sorted(volumes, key=lambda one: -len(one.files)))
    )


def load_series(series: Series) -> Study:
    """Read the files of one series into one volume.

    Raises:
        UnreadableFileError: a file is damaged, or the slices do not fit together.
    """
    slices = [read_study(path) for path in series.files]
    first = slices[0]
    if len(slices) == 1:
        return replace(first, problems=(*first.problems, *series.problems))
    shapes = {one.pixels.shape[1:] for one in slices}
    if len(shapes) > 1:
        raise UnreadableFileError(
            f"The slices in {series.files[0].parent} differ in size: {sorted(shapes)[:4]}.",
            "Only slices of one size make a volume.",
        )
    pixels, rescale = _joined(slices)
    problems = dict.fromkeys((*(p for one in slices for p in one.problems), *series.problems))
    place: dict[str, Any] = {}
    stack = series.geometry
    if stack is not None and first.orientation is not None:
        row, column = first.orientation[:, 1], first.orientation[:, 2]
        place["orientation"] = geometry.orientation_matrix(stack.slice_axis, row, column)
        if first.spacing is not None:
            place["spacing"] = (stack.spacing, *first.spacing[1:])
    return replace(first, pixels=pixels, rescale=rescale, problems=tuple(problems), **place)


def read_slice_header(path: Path) -> SliceHeader | None:
    """Header of a DICOM file; None for every other file, damaged ones included."""
    if _kind(path) != "dicom":
        return None
    try:
        with quiet():
            return _slice_header(load_header(path, tags=_TAGS), path)
    except UnreadableFileError:
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
        splitters=tuple(one(name) for name in _SPLITTERS),
    )


def visible_files(folder: Path) -> list[Path]:
    """All files under a folder in sorted order, without hidden ones and hidden folders."""
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def natural_key(path: Path) -> tuple[Any, ...]:
    """Sort key that puts `slice 2` before `slice 10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return (str(path.parent), *((int(p), "") if p.isdigit() else (-1, p) for p in parts))


def _kind(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return sniff(file.read(1024), path)
    except OSError:
        return None


def _rounded(orientation: tuple[float, ...] | None) -> Hashable:
    return None if orientation is None else tuple(round(value, 2) + 0.0 for value in orientation)


def _volumes(members: list[SliceHeader]) -> list[Series]:
    """Split slices of one series, size and orientation into volumes."""
    unique: dict[Hashable, SliceHeader] = {}
    for header in members:
        unique.setdefault(header.sop or header.path, header)
    copies = len(members) - len(unique)
    problems = (f"copies of other files left out: {copies}",) if copies else ()
    return [_sorted_series(group, problems) for group in _separated(list(unique.values()))]


def _separated(members: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Split slices that share positions by the first attribute that tells the volumes apart."""
    if _repeats(members):
        for index in range(len(_SPLITTERS)):
            groups: dict[float | None, list[SliceHeader]] = defaultdict(list)
            for header in members:
                groups[header.splitters[index]].append(header)
            if len(groups) > 1 and not any(map(_repeats, groups.values())):
                return list(groups.values())
    return [members]


def _repeats(members: list[SliceHeader]) -> bool:
    """True if two slices lie at one position."""
    places = [header.position for header in members if header.position is not None]
    return len({tuple(round(x, 2) for x in place) for place in places}) < len(places)


def _sorted_series(members: list[SliceHeader], problems: tuple[str, ...]) -> Series:
    ordered = sorted(members, key=lambda header: (header.instance, natural_key(header.path)))
    key, modality = pseudonym("series", ordered[0].series), ordered[0].modality
    axes = geometry.in_plane_axes(ordered[0].orientation)
    positions = [header.position for header in ordered]
    if axes is None or any(position is None or len(position) != 3 for position in positions):
        if len(ordered) > 1:
            problems = (*problems, "slices without position: kept in the order of their numbers")
        return Series(key, tuple(h.path for h in ordered), modality, None, problems)
    stack = geometry.stack_slices(np.asarray(positions), geometry.normal_of(*axes))
    files = tuple(ordered[index].path for index in stack.order)
    return Series(key, files, modality, stack, (*problems, *stack.problems))


def _joined(slices: list[Study]) -> tuple[np.ndarray, tuple[float, float]]:
    """Stack pixels; where slope or intercept differ by slice (PET), apply them."""
    rescales = {one.rescale for one in slices}
    if len(rescales) == 1:
        return np.concatenate([one.pixels for one in slices]), rescales.pop()
    scaled = [one.values().astype(np.float32) for one in slices]
    return np.concatenate(scaled), (1.0, 0.0)
