"""What was read from files once is remembered, so that opening a large set again is quick.

The memory lies in the cache, one file per folder of data, and holds no names: files are known by
keyed hashes, and count as unchanged while size and time of change are the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dinorad_rt.errors import OutputError
from dinorad_rt.files import atomic_path
from dinorad_rt.paths import cache_dir
from dinorad_rt.studies.pseudonym import pseudonym

FORMAT = 1
READERS = 8
TOGETHER = 16
"""Files of one task of a reader: a task for each of 224,000 files takes longer than reading it."""
MIN_REMEMBERED = 8
"""Fewer files are read again as quickly as they are remembered."""

Progress = Callable[[str, int, int], None]
"""Called with what is read, the number done and the total."""


class FileFacts:
    """Facts of the files of one folder, JSON values each."""

    def __init__(self, root: Path, progress: Progress | None = None) -> None:
        """Nothing is read before the first question."""
        self._root = root
        self._progress = progress
        self._known: dict[str, dict[str, list[Any]]] | None = None

    def of(self, kind: str, paths: Sequence[Path], read: Callable[[Path], Any]) -> list[Any]:
        """The fact of each file: remembered, or read now, several files at once.

        Args:
            kind: what is asked, such as "mask values".
            paths: the files.
            read: gives a JSON value without identifiers; its errors end the job.
        """
        known = self._memory().setdefault(kind, {})
        keys = [pseudonym("file", self._name(path)) for path in paths]
        stamps = [_stamp(path) for path in paths]
        wanted = {
            key: path
            for key, path, stamp in zip(keys, paths, stamps, strict=True)
            if stamp is None or known.get(key, [None])[0] != stamp
        }
        fresh = self._read(kind, wanted, read)
        for key, stamp in zip(keys, stamps, strict=True):
            if key in fresh and stamp is not None:
                known[key] = [stamp, fresh[key]]
        if len(fresh) >= MIN_REMEMBERED:
            self._save()
        return [fresh[key] if key in fresh else known[key][1] for key in keys]

    def _read(
        self, kind: str, wanted: dict[str, Path], read: Callable[[Path], Any]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        keys = list(wanted)
        size = min(TOGETHER, -(-len(keys) // (4 * READERS))) or 1
        parts = [keys[start : start + size] for start in range(0, len(keys), size)]

        def values(part: Sequence[str]) -> list[Any]:
            return [read(wanted[key]) for key in part]

        with ThreadPoolExecutor(READERS) as pool:
            for part, read_now in zip(parts, pool.map(values, parts), strict=True):
                found.update(zip(part, read_now, strict=True))
                if self._progress is not None:
                    self._progress(kind, len(found), len(wanted))
        return found

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root) if path.is_relative_to(self._root) else path)

    def _file(self) -> Path:
        name = pseudonym("root", str(self._root.resolve()))
        return cache_dir("datasets") / f"{name}.json"

    def _memory(self) -> dict[str, dict[str, list[Any]]]:
        if self._known is None:
            try:
                document = json.loads(self._file().read_text())
                self._known = document["facts"] if document["format"] == FORMAT else {}
            except (OSError, ValueError, KeyError, TypeError):
                self._known = {}  # absent or damaged: read again
        assert self._known is not None
        return self._known

    def _save(self) -> None:
        """Whole or not at all; a full or read-only cache only costs time."""
        text = json.dumps({"format": FORMAT, "facts": self._known}, separators=(",", ":"))
        with contextlib.suppress(OSError, OutputError), atomic_path(self._file()) as part:
            part.write_text(text)


def _stamp(path: Path) -> list[int] | None:
    """Size and time of change; None for folders, whose files change unseen, and missing files."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return None
    return [found.st_size, found.st_mtime_ns]
