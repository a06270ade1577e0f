"""What the cache holds: list it, hash it again, and make room by kind, age or size.

Keys of pseudonyms and frozen splits are no cache: they are never listed and never deleted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dinorad_rt.engines.manifest import MANIFEST, Engine
from dinorad_rt.errors import DinoradError, OutputError
from dinorad_rt.files import NO_LOCKS, read_json
from dinorad_rt.parts import remove_dead_parts
from dinorad_rt.paths import CACHE_KINDS, CACHE_VARIABLE, cache_root
from dinorad_rt.progress import Say

HASHED = ("graphs", "engines")
"""Kinds whose manifests hold the SHA-256 of every file."""


@dataclass(frozen=True)
class Entry:
    """One cached thing.

    Attributes:
        kind: one of `CACHE_KINDS`.
        name: of its file or folder: a key.
        path: where it lies.
        files: device and inode of each file → bytes.
        used: when it was last written or loaded, seconds since 1970.
        about: model, precision and backend, where a manifest tells.
    """

    kind: str
    name: str
    path: Path
    files: Mapping[tuple[int, int], int]
    used: float
    about: str = ""

    @property
    def size(self) -> int:
        """Bytes of its files, shared ones too."""
        return sum(self.files.values())


def entries(kinds: Iterable[str] = CACHE_KINDS) -> list[Entry]:
    """Everything of these kinds; locks and what is being written are left out."""
    return [_entry(kind, path) for kind in kinds for path in _paths(kind)]


def disk_bytes(found: Iterable[Entry]) -> int:
    """Bytes on disk of all together: a file that several engines link to counts once."""
    return sum({file: size for entry in found for file, size in entry.files.items()}.values())


def find_damage(kinds: Iterable[str] = HASHED) -> Iterator[tuple[Entry, str]]:
    """Hash every file of every graph and engine again.

    Yields:
        Each entry with what is wrong with it; empty if nothing is.
    """
    for entry in entries(kinds):
        try:
            _open(entry)
        except DinoradError as error:
            yield entry, error.problem
        else:
            yield entry, ""


def surplus(
    found: Iterable[Entry], *, older_than: float | None = None, keep_bytes: int | None = None
) -> list[Entry]:
    """What must go, the longest unused first.

    Args:
        found: entries to choose from.
        older_than: seconds; those not used for longer go.
        keep_bytes: so much may stay; the longest unused go until it fits. Without both, all go.
    """
    ordered = sorted(found, key=lambda entry: (entry.used, entry.name))
    if older_than is None and keep_bytes is None:
        return ordered
    limit = time.time() - older_than if older_than is not None else float("-inf")
    chosen = [entry for entry in ordered if entry.used < limit]
    left = [entry for entry in ordered if entry.used >= limit]
    if keep_bytes is not None:
        size = disk_bytes(left)
        links = Counter(file for entry in left for file in entry.files)
        for entry in left:
            if size <= keep_bytes:
                break
            chosen.append(entry)
            links.subtract(entry.files.keys())
            size -= sum(bytes_ for file, bytes_ in entry.files.items() if not links[file])
    return chosen


def remove(chosen: Iterable[Entry], say: Say) -> int:
    """Delete entries that nobody is building; with them what dead builders left behind.

    Returns:
        Bytes that were freed.

    Raises:
        OutputError: the cache may only be read.
    """
    freed = 0
    for entry in chosen:
        try:
            freed += _remove(entry, say)
        except OSError as error:
            raise OutputError(
                f"{entry.kind} {entry.name[:12]} cannot be deleted from {entry.path.parent}: "
                f"{error.strerror}.",
                "Delete it as a user who may write there, or choose another cache with the "
                f"variable {CACHE_VARIABLE}.",
            ) from error
    return freed


def _remove(entry: Entry, say: Say) -> int:
    import filelock

    lock_path = entry.path.parent / f"{entry.name}.lock"
    if not lock_path.exists():
        return _delete(entry.path)
    try:
        with filelock.FileLock(lock_path, timeout=0):
            return _delete(entry.path)
    except filelock.Timeout:
        say(f"{entry.kind} {entry.name[:12]} is being built: left alone")
        return 0
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return _delete(entry.path)


def remove_leftovers() -> int:
    """Delete what processes that are dead were writing; bytes freed."""
    return sum(remove_dead_parts(cache_root() / kind) for kind in CACHE_KINDS)


def touch(file: Path) -> None:
    """Note that what a file belongs to, an engine, a graph, weights, was used now."""
    try:
        file.touch()
    except OSError:  # a cache that may only be read
        return


def _paths(kind: str) -> list[Path]:
    folder = cache_root() / kind  # not made here: a cache may be read-only
    return [
        path
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if not path.name.startswith(".") and path.suffix not in (".lock", ".part")
    ]


def _entry(kind: str, path: Path) -> Entry:
    files = _stats(path)
    return Entry(
        kind=kind,
        name=path.name,
        path=path,
        files={(item.st_dev, item.st_ino): item.st_size for item in files},
        used=max((item.st_mtime for item in files), default=time.time()),
        about=_about(kind, path),
    )


def _about(kind: str, path: Path) -> str:
    if kind not in HASHED:
        return ""
    try:
        facts = read_json(path / (MANIFEST if kind == "engines" else "graph.json"))
    except (OSError, ValueError):
        return "damaged"
    names = ("model", "precision", "backend", "weights_kind")
    return " ".join(str(facts[name]) for name in names if name in facts)


def _open(entry: Entry) -> None:
    if entry.kind == "engines":
        engine = Engine.open(entry.path)
        engine.verify()
        return
    from dinorad_rt.export.manifest import Graph

    Graph.open(entry.path, verify=True)


def _delete(path: Path) -> int:
    """Bytes that were freed: a file that is linked to from elsewhere frees none."""
    files = _stats(path)
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:  # somebody else is deleting it
        return 0
    return sum(item.st_size for item in files if item.st_nlink == 1)


def _stats(path: Path) -> list[os.stat_result]:
    """Facts of a file, or of the files in a folder; what vanishes meanwhile is left out."""
    inside = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    found = []
    for item in [path] if path.is_file() else inside:
        with suppress(FileNotFoundError):
            found.append(item.stat())
    return found
