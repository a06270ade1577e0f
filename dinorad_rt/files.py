"""Writing without losing anything: whole files or none, valid JSON, content hashes."""

from __future__ import annotations

import atexit
import errno
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from dinorad_rt.errors import DinoradError, NoSpaceError, OutputError, OutputExistsError
from dinorad_rt.parts import folder_of, holder_of, is_in_use, is_part, new_part

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks answer."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; rename it to `target` if the block succeeds.

    A block that fails leaves neither a half-written file nor the temporary one, and an older
    `target` stays as it was. What a process that was killed left of this target is removed.

    Raises:
        NoSpaceError: the disk is full.
        OutputError: the folder cannot be written, or the target is a folder or a device.
    """
    # /dev/stdout may be a link to a file, and would be replaced by one
    if target.absolute().parent == Path("/dev") or target.exists() and not target.is_file():
        raise _not_writable(target, "it is no file that could be replaced")
    with space_errors_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_part(target) as part, space_errors_named(target):
            yield part
            os.chmod(part, 0o666 & ~_umask())
            part.replace(target)


@contextmanager
def atomic_folder(target: Path, marker: str = "") -> Iterator[Path]:
    """Give a temporary folder; it becomes `target` if the block succeeds.

    A block that fails leaves nothing; what a process that was killed left of this target is
    removed.

    Args:
        target: must not exist, or be empty, when the block ends.
        marker: name of the entry that says that all is there. With it a `target` that is there
            stays the folder that it is, be it a mount point, the current folder, or one with
            permissions of its own: the entries go into it, this one last.

    Raises:
        NoSpaceError: the disk is full.
        OutputError: the folder cannot be written.
        OutputExistsError: the folder that was there is not empty any more.
    """
    inside = bool(marker) and target.is_dir()
    named = target / marker if inside else target
    with space_errors_named(named):
        named.parent.mkdir(parents=True, exist_ok=True)
        with new_part(named) as part:
            folder = folder_of(part)
            folder.mkdir(mode=0o700)
            try:
                with space_errors_named(named):
                    yield folder
                    if inside:
                        _move_entries(folder, target, marker)
                    else:
                        _rename_folder(folder, target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def _rename_folder(folder: Path, target: Path) -> None:
    folder.chmod(0o777 & ~_umask())
    if os.name != "posix" and target.is_dir():  # Windows renames over nothing
        target.rmdir()
    folder.rename(target)


def _move_entries(folder: Path, target: Path, last: str) -> None:
    if is_in_use(target):
        raise OutputExistsError(
            f"{target} is not empty any more: something else was written there meanwhile.",
            "Choose an empty or new folder.",
        )
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == last):
        entry.rename(target / entry.name)


def write_once(target: Path, text: str) -> None:
    """Write a file that other processes may be writing too: whoever is first counts.

    Raises:
        NoSpaceError: the disk is full.
        OutputError: the folder cannot be written.
    """
    with space_errors_named(target), new_part(target) as part:
        part.write_text(text, encoding="utf-8")
        os.chmod(part, 0o666 & ~_umask())
        try:
            os.link(part, target)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            part.replace(target)


@contextmanager
def held_lock(path: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold the lock file `path`; who comes second waits, after a call of `waiting`.

    The operating system drops the lock of a process that dies, so none is left behind. Where the
    file system has no locks (some network mounts) nobody waits, and the same work is done twice.

    Raises:
        NoSpaceError: the disk is full.
        OutputError: its folder cannot be written.
    """
    import filelock

    lock = filelock.FileLock(path)
    with space_errors_named(path):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            waiting()
            lock.acquire()
        except NotImplementedError:  # filelock's word for a system call that is not there
            pass
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    try:
        yield
    finally:
        lock.release()


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Refuse a folder that another process of this machine is writing into under this guard.

    The operating system drops the lock of a process that dies; where there are none, as on Windows,
    nobody is refused.

    Raises:
        OutputExistsError: another process is.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = holder_of(handle)
            which = "" if holder is None else f" (process {holder})"
            raise OutputExistsError(
                f"Another process is writing into {folder}{which}.",
                "Wait for it or stop it, then run the same command again; or choose another --out.",
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


@contextmanager
def space_errors_named(target: Path) -> Iterator[None]:
    """Turn a full disk, and a folder that cannot be written, into errors that name the folder.

    Libraries say so in many ways: by the number of the system's error, by its text, by a short
    count, or not at all; for the last, the disk is asked, while the unfinished file is still there.

    Raises:
        NoSpaceError: the disk is full, or the file larger than it may be.
        OutputError: read-only, or without permission.
    """
    try:
        yield
    except DinoradError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, OSError) and number in _NOT_WRITABLE and _is_about(error, target):
            raise _not_writable(target, error.strerror or "no reason given") from error
        if not (_says_full(error, number) or _is_full(target.parent)):
            raise
        raise NoSpaceError(
            f"No space left while writing {target.name} in {target.parent}, or it is larger than "
            "a file may be there; nothing half-written was kept.",
            "Free some space, or choose another folder (--out for results, the variable "
            "DINORAD_RT_CACHE for the cache), and run the same command again.",
        ) from error


@contextmanager
def steady_file(path: Path) -> Iterator[BinaryIO]:
    """A file for a library that ends the process where a write fails, as PyTorch's archives do.

    It takes every write; the first error is raised when the block ends, whatever that raised.
    """
    with path.open("wb") as file:
        steady = _Steady(file)
        try:
            yield cast(BinaryIO, steady)
        finally:
            if steady.error is not None:
                raise steady.error


class _Steady(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def write(self, data: Any) -> int:
        self._try(lambda: self._file.write(data))
        return memoryview(data).nbytes

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self.error is None:
            try:
                act()
            except OSError as error:
                self.error = error


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = (
    *(f"os error {number}" for number in _FULL),  # safetensors
    "basic_ios::clear: iostream error",  # OpenVINO
    "Failed to write external initializers",  # ONNX Runtime
)
_FULL_BYTES = 2**16


def _says_full(error: Exception, number: int | None) -> bool:
    text = str(error)
    in_words = any(words in text for words in _FULL_WORDS)
    short = isinstance(error, OSError) and " requested and " in text  # NumPy
    return number in _FULL or in_words or short


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:
        return False


_FILE_AS_FOLDER = (errno.ENOTDIR, errno.EEXIST)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, *_FILE_AS_FOLDER)


def _is_about(error: OSError, target: Path) -> bool:
    """True if the file that the error names lies beside `target` or above it."""
    if not isinstance(error.filename, str):
        return False
    named = Path(error.filename)
    return named.is_relative_to(target.parent) or target.is_relative_to(named)


def _not_writable(target: Path, why: str) -> OutputError:
    return OutputError(
        f"Cannot write {target.name} in {target.parent}: {why}.",
        "Choose a folder that you may write to: --out for results, the variable DINORAD_RT_CACHE "
        "for the cache.",
    )


def write_json(target: Path, document: Mapping[str, Any]) -> None:
    """Write valid JSON atomically: NaN and infinities become null, paths become strings."""
    with atomic_path(target) as part:
        part.write_text(json_text(document), encoding="utf-8")


def json_text(document: Mapping[str, Any]) -> str:
    """Valid JSON for people: NaN and infinities become null, paths become strings."""
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def read_json(source: Path) -> dict[str, Any]:
    """Read a JSON object."""
    document = json.loads(source.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{source.name} holds a {type(document).__name__}, not an object")
    return document


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(document: Any) -> str:
    """Hex SHA-256 of a JSON-like value, independent of the order of keys."""
    text = json.dumps(_plain(document), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def claim_output_dir(folder: Path, marker: str, *before: str) -> Path:
    """Make `folder`, or accept it if it is empty or already holds `marker`, a file of ours.

    Another process may be writing `marker` right now, or was killed before it did. A folder that
    is made here and is still empty when the program ends is removed again: a refused question
    leaves nothing.

    Args:
        folder: of the output.
        marker: name of a file of ours.
        before: names of files that are written before it.

    Raises:
        OutputExistsError: the folder holds something else, or is one of the cache's own.
        OutputError: it cannot be written.
    """
    _refuse_cache(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"{folder} is a file, not a folder.", "Choose another --out.")
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        with space_errors_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError) as error:  # a link to nowhere, a place like /proc
        raise _not_writable(folder, error.strerror or "no reason given") from error
    if missing:
        atexit.register(_remove_empty, [one.absolute() for one in missing], os.getpid())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _not_writable(folder, "it is read-only, or you lack the permission")
    if (folder / marker).exists():
        return folder
    names = [entry.name for entry in folder.iterdir()]
    foreign = [name for name in names if name not in before and not is_part(name)]
    if foreign and not (folder / marker).exists():
        raise OutputExistsError(
            f"{folder} is not empty and holds no {marker}: it belongs to something else.",
            "Choose an empty or new folder with --out.",
        )
    return folder


def _refuse_cache(folder: Path) -> None:
    """What lies in the cache's own folders is an entry of the cache: prune would delete it."""
    from dinorad_rt.paths import CACHE_KINDS, CACHE_VARIABLE, cache_root

    place = folder.resolve()
    try:
        own = place.parent == cache_root().resolve() and place.name in CACHE_KINDS
    except OutputError:  # there is no cache
        return
    if own:
        raise OutputExistsError(
            f"{folder} is the cache's own folder of {place.name}: what lies there goes "
            "with dinorad-rt cache prune.",
            f"Choose another --out, or another cache with the variable {CACHE_VARIABLE}.",
        )


@contextmanager
def claimed_dir(folder: Path, marker: str, *before: str) -> Iterator[Path]:
    """`claim_output_dir`, and be its only writer as long as the block lasts."""
    claim_output_dir(folder, marker, *before)
    with only_writer(folder):
        yield folder


def _remove_empty(folders: list[Path], process: int) -> None:
    """Remove folders, the innermost first, up to one in use; forked processes leave them alone."""
    if os.getpid() != process:
        return
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):  # most are: millions of a large set
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
