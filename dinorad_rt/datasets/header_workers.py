"""DICOM headers of many files: parsing holds Python's lock, so processes share the work.

The workers are plain interpreters that import the readers only, as those of the loader: the
user's `__main__` is not run again. Headers come back through pipes and are never stored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dinorad_rt.machine import usable_cores
from dinorad_rt.studies.series import SliceHeader, read_slice_header

READERS = 8
"""Threads for few files: they hide the wait for network folders."""
FROM_FILES, FROM_CORES = 3_000, 3
"""From how many of both starting interpreters pays."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dinorad_rt.datasets.header_workers import serve; serve()"
)


def read_headers(paths: Sequence[Path], workers: int | None = None) -> list[SliceHeader | None]:
    """`read_slice_header` of every file, in order.

    Args:
        paths: any files.
        workers: processes; None for every usable core, and none for few files.
    """
    cores = usable_cores()
    pays = len(paths) >= FROM_FILES and cores >= FROM_CORES
    count = workers or (cores if pays else 1)
    if count < 2:
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(read_slice_header, paths))
    parts = [list(paths[start::count]) for start in range(count)]
    found: list[SliceHeader | None] = [None] * len(paths)
    with ThreadPoolExecutor(count) as pool:
        for start, headers in enumerate(pool.map(_in_process, parts)):
            found[start::count] = headers
    return found


def serve() -> None:
    """Read paths from the standard input, and answer with their headers."""
    names = [name for name in sys.stdin.buffer.read().split(b"\0") if name]
    headers = [read_slice_header(Path(os.fsdecode(name))) for name in names]
    rows = [None if header is None else _plain(header) for header in headers]
    sys.stdout.write(json.dumps(rows))


def _in_process(paths: list[Path]) -> list[SliceHeader | None]:
    """The headers from a worker; read here if it fails, so that a crash costs time only."""
    done = subprocess.run(
        [sys.executable, "-c", _START, json.dumps(sys.path)],
        input=b"\0".join(os.fsencode(path) for path in paths),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        rows = json.loads(done.stdout)
        if len(rows) == len(paths):
            return [None if row is None else _header(row) for row in rows]
    return [read_slice_header(path) for path in paths]


def _plain(header: SliceHeader) -> dict[str, Any]:
    return asdict(header) | {"path": str(header.path)}


def _header(row: dict[str, Any]) -> SliceHeader:
    """A header from JSON: its lists were tuples."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    values["path"] = Path(row["path"])
    return SliceHeader(**values)
