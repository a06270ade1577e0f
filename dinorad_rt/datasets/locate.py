"""From what a table calls a file to the file: paths, bare names, identifiers without suffix."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from dinorad_rt.studies.series import visible_files

MAX_PREFIX = 4
"""Leading folders of a listed path that may be missing on this machine."""

VOLUME_SUFFIXES = frozenset(
    ".nii .nii.gz .mgh .mgz .hdr .mha .mhd .nrrd .nhdr .npy .npz .mat".split()
)
IMAGE_SUFFIXES = VOLUME_SUFFIXES | frozenset(
    ".png .jpg .jpeg .jpe .tif .tiff .bmp .gif .webp .jp2 .j2k .pgm .ppm .dcm .dicom .ima".split()
)
OTHER_SUFFIXES = frozenset(
    ".csv .tsv .txt .md .json .xml .html .pdf .py .ipynb .xlsx .xls .doc .docx .zip .tar .tgz .7z "
    ".db .ini .log .yaml .yml .toml .sha256 .img .raw .zraw .raw.gz".split()
)


class Locator:
    """Finds listed files under a root; the tree is indexed once, and only if need be."""

    def __init__(self, root: Path) -> None:
        """Take the folder that relative paths start from."""
        self.root = root

    def find(self, listed: str) -> Path | None:
        """The file or folder that a table means; None if there is none, or no single one.

        Tried in this order: the path itself; relative to the root; without up to four leading
        folders; a file of this name anywhere below; one of this name without its suffix; one of
        this name but for capital letters. Of several, the one in folders of the listed names.
        """
        listed = listed.strip()
        if not listed:
            return None
        found = self._found(listed)
        return None if found is None else _without_detours(found)

    def _found(self, listed: str) -> Path | None:
        parts = _parts(listed)
        native = Path(listed)
        if native.is_absolute():
            if _exists(native):
                return native
        elif _exists(self.root / listed):
            return self.root / listed
        for start in range(min(MAX_PREFIX + 1, len(parts))):
            candidate = self.root.joinpath(*parts[start:])
            if _exists(candidate):
                return candidate
        name = unicodedata.normalize("NFC", parts[-1])
        found = self._names.get(name) or self._stems.get(name) or self._folded.get(name.casefold())
        return None if found is None else _only_one(found, parts)

    def expected(self, listed: str) -> Path:
        """Where a file that is missing should have been."""
        return self.root.joinpath(*_parts(listed.strip()))

    @cached_property
    def files(self) -> list[Path]:
        """Every file under the root that could be an image, in sorted order."""
        return [path for path in visible_files(self.root) if could_be_image(path)]

    @cached_property
    def _names(self) -> dict[str, list[Path]]:
        return _indexed((path.name, path) for path in self.files)

    @cached_property
    def _folded(self) -> dict[str, list[Path]]:
        return _indexed((path.name.casefold(), path) for path in self.files)

    @cached_property
    def _stems(self) -> dict[str, list[Path]]:
        return _indexed((stem_of(path), path) for path in self.files)


def could_be_image(path: Path) -> bool:
    """Judge by the suffix; files without a known one, and `.img`, are looked into."""
    suffix = suffix_of(path)
    if suffix in IMAGE_SUFFIXES:
        return True
    if (suffix in OTHER_SUFFIXES and suffix != ".img") or path.name == "DICOMDIR":
        return False
    from dinorad_rt.studies.read import file_kind, is_image_file

    return file_kind(path) == "dicom" if suffix == ".img" else is_image_file(path)


def suffix_of(path: Path) -> str:
    """Lower-case suffix; `.nii.gz` and `.raw.gz` are one."""
    name = path.name.lower()
    twofold = next((end for end in (".nii.gz", ".raw.gz") if name.endswith(end)), None)
    return twofold or os.path.splitext(name)[1]


def stem_of(path: Path) -> str:
    """Name without a known suffix; dots of identifiers (UIDs) are no suffix."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else path.name


def _only_one(found: list[Path], parts: tuple[str, ...]) -> Path | None:
    """The only file, or the only one whose folders end as the listed path does."""
    for start in range(min(MAX_PREFIX + 1, len(parts) - 1)):
        above = parts[start:-1]
        fitting = [path for path in found if path.parts[-len(above) - 1 : -1] == above]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return found[0] if len(found) == 1 else None


def _parts(listed: str) -> tuple[str, ...]:
    pure = PureWindowsPath(listed) if "\\" in listed else PurePosixPath(listed)
    anchorless = pure.relative_to(pure.anchor) if pure.anchor else pure
    return anchorless.parts or (listed,)


def _without_detours(path: Path) -> Path:
    """`a/../b` → `b`, so that a file has one name; not where a link makes them two files."""
    if ".." not in path.parts:
        return path
    straight = Path(os.path.normpath(path))
    return straight if _exists(straight) and straight.samefile(path) else path


def _exists(path: Path) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a NUL character
        return False


def _indexed(pairs: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    index: dict[str, list[Path]] = defaultdict(list)
    for key, path in pairs:
        index[unicodedata.normalize("NFC", key)].append(path)  # macOS writes umlauts in two parts
    return index
