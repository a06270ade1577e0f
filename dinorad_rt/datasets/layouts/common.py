"""What layouts share: the folder that is meant, and systematic samples of sorted names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dinorad_rt.errors import EmptyDataError
from dinorad_rt.studies.series import natural_key
from dinorad_rt.types import Split

DEPTH = 3
"""Levels below the root that an unpacked download may lie."""


def base_of(root: Path, *marks: str) -> Path:
    """The folder, the root or one below it, that holds one of the marks (files or folders).

    Raises:
        EmptyDataError: none does.
    """
    need_folder(root)
    for folder in _near(root):
        if any((folder / mark).exists() for mark in marks):
            return folder
    raise EmptyDataError(
        f"{root} does not hold the download: neither it nor a folder in it has "
        f"{' or '.join(marks)}.",
        "Unpack the official download there, as it is.",
    )


def need_folder(root: Path) -> None:
    """Refuse a root that is no folder.

    Raises:
        EmptyDataError: it is not there, or is a file.
    """
    if not root.is_dir():
        raise EmptyDataError(f"{root} is no folder.", "Give the folder of the download as --root.")


def _near(root: Path) -> Iterator[Path]:
    """The root and the folders below it, level by level."""
    level = [root]
    for _ in range(DEPTH):
        yield from level
        level = [sub for folder in level for sub in sub_folders(folder)]


def sub_folders(folder: Path) -> list[Path]:
    """Visible folders in natural order."""
    found = (
        entry
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )
    return sorted(found, key=natural_key)


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """Visible files of some suffixes in one folder, in natural order; none if it is missing."""
    if not folder.is_dir():
        return []
    found = (
        entry
        for entry in folder.iterdir()
        if entry.name.lower().endswith(suffixes) and not entry.name.startswith(".")
    )
    return sorted(found, key=natural_key)


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Positions of a systematic sample: multiples of count / wanted, rounded half to even.

    Source: the study's `arange(0, n, n/k).round()` (PROTOCOLS 1.1).
    """
    step = count / wanted
    positions = [round(index * step) for index in range(math.ceil(count / step))]
    return list(dict.fromkeys(at for at in positions if at < count))


def drawn(
    count: int, official: int, draws: Mapping[Split, int], rest: Split | None
) -> list[Split | None]:
    """The split of each of `count` sorted units: systematic samples, one after the other.

    Args:
        count: units that are listed.
        official: units of the full download, for which the draws are meant; of another number
            the same shares are drawn.
        draws: split → units drawn from those still left, in this order.
        rest: split of those that are left; None if they are not used.
    """
    splits: list[Split | None] = [rest] * count
    left = list(range(count))
    for split, number in draws.items():
        wanted = number if count == official else max(1, round(number * count / official))
        chosen = evenly_spaced(len(left), wanted) if wanted < len(left) else range(len(left))
        for at in chosen:
            splits[left[at]] = split
        taken = set(chosen)
        left = [unit for at, unit in enumerate(left) if at not in taken]
    return splits


def other_count(count: int, official: int, unit: str) -> list[str]:
    """What to say where a listing has not the official length."""
    if count == official:
        return []
    return [
        f"{count:,} {unit} are listed, officially {official:,}: the splits have the same shares, "
        "not the same members"
    ]


def relative(path: Path, base: Path) -> str:
    """Name of a record."""
    return path.relative_to(base).as_posix()


def existing(paths: Sequence[Path]) -> set[Path]:
    """Those of the paths that exist; each folder is listed once."""
    known: dict[Path, set[str]] = {}
    found = set()
    for path in paths:
        parent = path.parent
        if parent not in known:
            known[parent] = set(_names(parent))
        if path.name in known[parent]:
            found.add(path)
    return found


def _names(folder: Path) -> list[str]:
    import os

    try:
        return os.listdir(folder)
    except OSError:
        return []
