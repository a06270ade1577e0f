"""Byte-identical files: the same image in two splits is a leak that no patient column shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dinorad_rt.files import sha256_file

READERS = 8


def identical_files(paths: Sequence[Path], traces: Sequence[str]) -> list[list[int]]:
    """Groups of files with the same bytes, as indices.

    Only files whose traces (size, head, middle, tail) are equal are read whole.

    Args:
        paths: files; a path that comes twice (frames of one file) counts once.
        traces: of each, see `traces.trace_of`; empty for one that is missing.
    """
    first: dict[Path, int] = {}
    for index, path in enumerate(paths):
        if traces[index] and not traces[index].startswith("0-"):
            first.setdefault(path, index)
    suspects = _alike(first.values(), lambda index: traces[index])
    members = [index for group in suspects for index in group]
    with ThreadPoolExecutor(READERS) as pool:
        digests = dict(zip(members, pool.map(_digest, (paths[i] for i in members)), strict=True))
    return [
        part
        for group in suspects
        for part in _alike((i for i in group if digests[i]), digests.__getitem__)
    ]


def _alike(indices: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Groups of at least two with equal keys, in order of appearance."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index in indices:
        groups[key(index)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _digest(path: Path) -> str:
    """Of a file; empty for folders and what cannot be read."""
    try:
        return sha256_file(path)
    except OSError:
        return ""
