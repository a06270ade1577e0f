"""DICOMDIR: the index of a DICOM medium (CD, USB stick) as a list of its image files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.dicom import load_header
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.words import count_of

LONGEST = 64
"""Characters of a name; the standard allows 8, file systems a few hundred."""


def indexed_images(path: Path) -> tuple[list[Path], int]:
    """Image files that a DICOMDIR names, in its order, and how many of them are missing.

    Names are those of ISO 9660 (PS3.10 8.2): tried as they stand, then in lower case, as some
    systems mount them. A name that leads out of the index's folder is never followed.

    Raises:
        UnreadableFileError: damaged, no images named, or none of them is there.
    """
    with quiet():
        named = _named(path)
    found = [file for one in named if one and (file := _located(path.parent, one)) is not None]
    if not found:
        raise UnreadableFileError(
            f"{path} is a DICOMDIR (an index of files): it names {count_of(len(named), 'image')}, "
            "none of which lies beside it.",
            "Copy the whole medium, folders included, not the index alone.",
        )
    return found, len(named) - len(found)


def _named(path: Path) -> list[str | list[str] | None]:
    """File ID of every image record."""
    try:
        return [
            record.get("ReferencedFileID")
            for record in load_header(path).get("DirectoryRecordSequence") or ()
            if record.get("DirectoryRecordType") == "IMAGE"
        ]
    except UnreadableFileError:
        raise
    except Exception as error:  # parsing goes on with every record that is looked at
        raise UnreadableFileError(
            f"{path} is a damaged DICOMDIR: {' '.join(str(error).split())[:200]}",
            "Fetch it again, or give the folder in which it lies.",
        ) from error


def _located(folder: Path, parts: str | list[str]) -> Path | None:
    names = [parts] if isinstance(parts, str) else [str(part) for part in parts]
    bad = (name in ("", ".", "..") or PurePosixPath(name).name != name for name in names)
    if any(bad) or max(map(len, names), default=0) > LONGEST:
        return None
    for spelled in (names, [name.lower() for name in names]):
        file = folder.joinpath(*spelled)
        if file.is_file():
            return file
    return None
