"""DICOM series as images: paired with masks by folder, by UID, or by what a SEG refers to.

A mask belongs to the series that its DICOM SEG names; else to that whose folder (or the only one
below a folder) is called like it; else to that whose series, study or patient identifier it bears.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorad_rt.datasets.beside import MASK_WORDS, unpaired
from dinorad_rt.datasets.dicom_seg import referenced_series
from dinorad_rt.datasets.header_workers import read_headers
from dinorad_rt.datasets.headers import is_maybe_dicom
from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.errors import MaskError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.series import SliceHeader, visible_files
from dinorad_rt.words import count_of, verb_of

_STRUCTURES = "RTSTRUCT"


@dataclass(frozen=True)
class _Series:
    """One series: the folder that holds nothing else, or its only file; None for neither."""

    header: SliceHeader
    path: Path | None


def pairs_of_series(
    images: Path, masks: Path | None
) -> tuple[list[tuple[Path, Path]], list[str]] | None:
    """Pair DICOM series with their masks.

    Args:
        images: folder that holds the series, each in a folder of its own.
        masks: folder of the masks; None for SEG files among the series.

    Returns:
        Path of each series and its mask, and what to say; None if nothing there is such a pair.

    Raises:
        MaskError: several masks of one series, series that share a folder, or structure sets.
    """
    headers = [one for one in read_headers(_maybe_dicom(images)) if one is not None]
    series = _series_of(one for one in headers if one.is_image and one.modality != "SEG")
    if masks is None:
        files = [one.path for one in headers if one.modality == "SEG"]
    else:
        files = sorted(filter(could_be_image, visible_files(masks)))
    found: dict[str, list[Path]] = defaultdict(list)
    names = _names(images, series.values())
    for path in files:
        uid = referenced_series(path) or _named(path, masks, names)
        if uid in series:
            found[uid].append(path)
    if not found:
        _refuse_structures(headers, files)
        return None
    _refuse_unclear(found, series)
    paired = [(series[uid].path or paths[0], paths[0]) for uid, paths in found.items()]
    alone = len(files) - len(paired)
    notes = ["masks are paired with DICOM series by what they refer to, or by folder or identifier"]
    return sorted(paired), notes + unpaired(len(series) - len(paired), alone)


def _maybe_dicom(folder: Path) -> list[Path]:
    return sorted(filter(is_maybe_dicom, visible_files(folder)))


def _series_of(headers: Iterable[SliceHeader]) -> dict[str, _Series]:
    by_series: dict[str, list[SliceHeader]] = defaultdict(list)
    inside: dict[Path, set[str]] = defaultdict(set)
    for one in headers:
        by_series[one.series].append(one)
        inside[one.path.parent].add(one.series)
    found = {}
    for uid, members in by_series.items():
        folders = {one.path.parent for one in members}
        folder = members[0].path.parent
        own = len(folders) == 1 and inside[folder] == {uid}
        path = folder if own else None
        found[uid] = _Series(members[0], members[0].path if len(members) == 1 else path)
    return found


def _names(root: Path, series: Iterable[_Series]) -> dict[str, str]:
    """What a mask may be called → series, for what names one alone."""
    bearers: dict[str, set[str]] = defaultdict(set)
    for one in series:
        header = one.header
        for name in (header.series, header.study, header.patient):
            bearers[name.lower()].add(header.series)
        for folder in _folders(root, header.path.parent):
            bearers[folder.name.lower()].add(header.series)
            bearers[folder.relative_to(root).as_posix().lower()].add(header.series)
    return {name: uids.pop() for name, uids in bearers.items() if name and len(uids) == 1}


def _folders(root: Path, folder: Path) -> Iterator[Path]:
    while folder != root and folder.is_relative_to(root):
        yield folder
        folder = folder.parent


def _named(path: Path, masks: Path | None, names: dict[str, str]) -> str | None:
    """The series that a mask, or a folder that it lies in, is called after."""
    if masks is None:
        return None
    own = path.with_name(MASK_WORDS.sub("", stem_of(path)))
    for place in (own, *_folders(masks, path.parent)):
        for name in (place.relative_to(masks).as_posix(), place.name):
            if name.lower() in names:
                return names[name.lower()]
    return None


def _refuse_unclear(found: dict[str, list[Path]], series: dict[str, _Series]) -> None:
    several = [paths for paths in found.values() if len(paths) > 1]
    if several:
        raise MaskError(
            f"{count_of(len(several), 'DICOM series', 'DICOM series')} "
            f"{verb_of(len(several), 'has', 'have')} several masks (up to "
            f"{max(map(len, several))}); one is read"
            f"{listed([str(path) for paths in several for path in paths])}.",
            "Take the others out, or give a CSV with the columns image and mask that names one "
            "mask of each series (its folder is the image).",
        )
    shared = [str(series[uid].header.path.parent) for uid in found if series[uid].path is None]
    if shared:
        raise MaskError(
            f"{count_of(len(shared), 'DICOM series', 'DICOM series')} with a mask "
            f"{verb_of(len(shared), 'lies', 'lie')} in one folder with others, or in several"
            f"{listed(shared)}.",
            "Sort them so that each series has a folder of its own, such as with dcm2niix or "
            "dicomsort.",
        )


def _refuse_structures(headers: Sequence[SliceHeader], masks: Sequence[Path]) -> None:
    count = sum(one.modality == _STRUCTURES for one in headers)
    if count and not masks:
        raise MaskError(
            f"{count_of(count, 'DICOM structure set')} (RTSTRUCT) "
            f"{verb_of(count, 'holds', 'hold')} contours, no masks.",
            "Turn them into DICOM SEG or NIfTI, such as with 3D Slicer or plastimatch.",
        )
