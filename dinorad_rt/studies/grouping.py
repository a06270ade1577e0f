"""Slices of many series → volumes: what belongs together, what does not, and in which order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.studies import geometry
from dinorad_rt.studies.names import natural_key
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.studies.series import SliceHeader

SAME_DIRECTION = 0.02
"""Direction cosines that differ by less belong to one stack."""


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


def group_slices(headers: Iterable[SliceHeader]) -> tuple[Series, ...]:
    """Sort slices into volumes, the largest volume of a series first.

    A series is split, which is said, where its slices cannot be one volume: patients, sizes, pixel
    spacings, frames of reference or orientations differ (localisers), or several volumes share
    their positions (echoes, b-values, time points, acquisitions).
    """
    by_series: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        by_series[header.series].append(header)
    found: list[Series] = []
    for members in by_series.values():
        volumes = sorted(_volumes_of(members), key=lambda one: -len(one.files))
        found += [
            one if index == 0 else replace(one, key=f"{one.key}.{index + 1}")
            for index, one in enumerate(volumes)
        ]
    return tuple(found)


_MIXES: tuple[tuple[str, Callable[[SliceHeader], Hashable]], ...] = (
    ("patients", lambda header: header.patient),
    ("sizes", lambda header: header.shape),
    ("pixel spacings", lambda header: _rounded(header.pixel_spacing)),
    ("frames of reference", lambda header: header.frame_of_reference),
)
"""What slices of one volume share, in words, and where it stands."""


def _volumes_of(members: list[SliceHeader]) -> list[Series]:
    """The volumes of one series, each with what was mixed in it."""
    kept, problems = _without_copies(members)
    groups = [kept]
    for what, of in _MIXES:
        groups, more = _split_by(groups, what, of)
        problems += more
    groups, more = _split_by(groups, "orientations", _direction_index(kept))
    problems += more
    volumes = []
    for group in groups:
        for part, why in _separated(group):
            volumes.append(_sorted_series(part, (*problems, *why)))
    return volumes


def _without_copies(members: list[SliceHeader]) -> tuple[list[SliceHeader], list[str]]:
    """One file of each SOP instance; files of one UID that differ in place or number are kept.

    Some programs that anonymise give one UID to all slices.
    """
    unique: dict[Hashable, SliceHeader] = {}
    for header in members:
        same = (header.sop or header.path, header.patient, header.shape)
        unique.setdefault((*same, header.position, header.instance), header)
    copies = len(members) - len(unique)
    problems = [f"copies of other files left out: {copies}"] if copies else []
    return list(unique.values()), problems


def _split_by(
    groups: list[list[SliceHeader]], what: str, of: Callable[[SliceHeader], Hashable]
) -> tuple[list[list[SliceHeader]], list[str]]:
    parts = [part for group in groups for part in _parted(group, of).values()]
    if len(parts) == len(groups):
        return groups, []
    values = len({of(header) for group in groups for header in group})
    return parts, [f"the series mixes {values} {what}: one volume for each"]


def _direction_index(members: list[SliceHeader]) -> Callable[[SliceHeader], Hashable]:
    """Number of the orientation of a slice; cosines that differ by rounding have one number."""
    seen: list[np.ndarray] = []
    numbers: dict[tuple[float, ...] | None, int] = {None: -1}
    for header in members:
        cosines = header.orientation
        if cosines is None or cosines in numbers:
            continue
        vector = np.asarray(cosines)
        close = (
            index
            for index, one in enumerate(seen)
            if one.shape == vector.shape and np.abs(one - vector).max() < SAME_DIRECTION
        )
        numbers[cosines] = next(close, len(seen))
        if numbers[cosines] == len(seen):
            seen.append(vector)
    return lambda header: numbers[header.orientation]


def _separated(members: list[SliceHeader]) -> list[tuple[list[SliceHeader], list[str]]]:
    """Split slices that share positions by the first attribute that tells the volumes apart."""
    if _repeats(members):
        for name in members[0].splitters:
            groups = list(_parted(members, _splitter(name)).values())
            if len(groups) > 1 and not any(map(_repeats, groups)):
                said = f"{len(groups)} volumes at one place, told apart by {name}"
                return [(group, [said]) for group in groups]
    return [(members, [])]


def _splitter(name: str) -> Callable[[SliceHeader], Hashable]:
    return lambda header: header.splitters[name]


def _parted(
    members: list[SliceHeader], of: Callable[[SliceHeader], Hashable]
) -> dict[Hashable, list[SliceHeader]]:
    parts: dict[Hashable, list[SliceHeader]] = defaultdict(list)
    for header in members:
        parts[of(header)].append(header)
    return parts


def _repeats(members: list[SliceHeader]) -> bool:
    """True if two slices lie at one position."""
    places = [header.position for header in members if header.position is not None]
    return len({tuple(round(x, 2) for x in place) for place in places}) < len(places)


def _rounded(values: tuple[float, ...] | None) -> Hashable:
    return None if values is None else tuple(round(value, 3) for value in values)


def _sorted_series(members: list[SliceHeader], problems: tuple[str, ...]) -> Series:
    ordered = sorted(members, key=lambda header: (header.instance, natural_key(header.path)))
    key, modality = pseudonym("series", ordered[0].series), ordered[0].modality
    axes = geometry.in_plane_axes(ordered[0].orientation)
    positions = [header.position for header in ordered]
    without = sum(position is None or len(position) != 3 for position in positions)
    if axes is None or without:
        if len(ordered) > 1:
            missing = "orientation" if axes is None else "position"
            count = "" if axes is None else f" in {without} of {count_of(len(ordered), 'file')}"
            problems = (
                *problems,
                f"slices without {missing}{count}: kept in the order of their numbers",
            )
        return Series(key, tuple(h.path for h in ordered), modality, None, problems)
    stack = geometry.stack_slices(np.asarray(positions), geometry.normal_of(*axes))
    files = tuple(ordered[index].path for index in stack.order)
    return Series(key, files, modality, stack, (*problems, *stack.problems))
