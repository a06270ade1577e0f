"""Parts: what a file or folder is until it is whole, and what dead processes left of them.

`.NAME.N.part` is the file that becomes NAME, or stands for the folder `.NAME.N.parts` that does.
Its process has it locked as long as it lives; the system drops the lock of a killed one, so the
next writer of NAME knows what is dead and removes it, without listing the folder. Where files
cannot be locked (Windows, some network file systems) nothing is removed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_part(target: Path) -> Iterator[Path]:
    """A new file `.NAME.N.part` beside `target`, removed at the end unless it was renamed.

    It is locked while its process lives, so the next writer of `target` knows the dead ones.
    """
    part, handle = _locked_part(target)
    try:
        yield part
    finally:
        if handle is None or _is_at(part, handle):
            part.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def folder_of(part: Path) -> Path:
    """The folder that a part stands for; only files can be locked on every file system."""
    return part.with_name(part.name + "s")


def is_part(name: str) -> bool:
    """Whether a file or folder of this name is something that is not whole yet."""
    return name.startswith(".") and name.endswith((".part", ".parts"))


def is_in_use(folder: Path) -> bool:
    """Whether a folder holds anything but parts."""
    return any(not is_part(entry.name) for entry in folder.iterdir())


def remove_dead_parts(folder: Path) -> int:
    """Remove what killed processes left of files and folders in `folder`; what lives stays.

    Returns:
        Bytes that were freed.
    """
    freed = 0
    for part in folder.glob(".*.part"):
        inside = [path for path in folder_of(part).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in [part, *inside] if path.is_file())
        freed += size if _removed_if_dead(part) else 0
    return freed


def _locked_part(target: Path) -> tuple[Path, int | None]:
    """A part and the handle that locks it; None on Windows, which renames no open file."""
    if os.name != "posix":
        handle, name = tempfile.mkstemp(".part", f".{target.name}.", target.parent)
        os.close(handle)
        return Path(name), None
    numbers = itertools.count()
    for number in numbers:
        part = _part_path(target, number)
        _removed_if_dead(part)
        try:
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # of a living process
            continue
        _lock(handle, wait=True)
        if _is_at(part, handle):
            break
        os.close(handle)  # taken for dead before it was locked
    while _removed_if_dead(_part_path(target, next(numbers))):
        pass
    return part, handle


def _part_path(target: Path, number: int) -> Path:
    return target.with_name(f".{target.name}.{number}.part")


def _removed_if_dead(part: Path) -> bool:
    """Remove a part, and its folder, if no process has it locked; True if it is gone now."""
    try:
        handle = os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # there is none, or it is not ours
        return False
    try:
        if not _lock(handle) or not _is_at(part, handle):
            return False
        shutil.rmtree(folder_of(part), ignore_errors=True)
        part.unlink()
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _is_at(path: Path, handle: int) -> bool:
    """True if `path` still is the file that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


def _lock(handle: int, *, wait: bool = False) -> bool:
    """True if the file is locked by us now; False if another has it, or there are no locks here."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def holder_of(handle: int) -> int | None:
    """The process that has an open file or folder locked, as Linux tells it; None if unknown."""
    ours = os.fstat(handle)
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF
            if words[1] != "FLOCK" or not words[5].endswith(f":{ours.st_ino}"):
                continue
            for link in Path(f"/proc/{words[4]}/fd").iterdir():
                if os.path.samestat(link.stat(), ours):
                    return int(words[4])
    except (OSError, IndexError, ValueError):
        pass
    return None
