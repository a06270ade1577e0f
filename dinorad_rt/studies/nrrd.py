"""Headers of NRRD files (.nrrd, .nhdr), parsed by pynrrd.

Source: teem.sourceforge.net/nrrd/format.html; geometry as ITK's NrrdImageIO takes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.optional import require
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.voxels import Layout, Packing, damaged, file_beside

_TO_LPS = {
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_PACKINGS: dict[str, Packing] = {
    "raw": "raw",
    "gzip": "zlib",
    "gz": "zlib",
    "bzip2": "bzip2",
    "bz2": "bzip2",
}
_KINDS_IN_SPACE = ("domain", "space", "time", "???", "none")
_BITS = {"char": 8, "short": 16, "int": 32, "longlong": 64}
_END = re.compile(rb"\r?\n\r?\n")


def layout_of_nrrd(header: bytes, path: Path) -> Layout:
    """What a header says of its voxels.

    Args:
        header: the file's beginning.
        path: of the header.

    Raises:
        UnreadableFileError: it is damaged, or its voxels are text or lie elsewhere.
        MissingPackageError: pynrrd is not installed.
    """
    nrrd = require("nrrd", "reading NRRD")
    ends = _END.search(header)
    head = header[: ends.start()] if ends else header
    try:
        with quiet():
            fields = dict(nrrd.read_header(head.splitlines()))
            return _layout(fields, path, ends.end() if ends else len(header))
    except UnreadableFileError:
        raise
    except KeyError as error:
        raise damaged(path, f"its header lacks {error.args[0]}") from error
    except Exception as error:  # pynrrd's own, and those of texts that are no numbers
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise damaged(path, f"its header is no NRRD ({why})") from error


def _layout(fields: Mapping[str, Any], path: Path, end: int) -> Layout:
    sizes = [int(size) for size in fields["sizes"]]
    if len(sizes) != fields["dimension"]:
        raise damaged(path, f"it has {fields['dimension']} dimensions and {len(sizes)} sizes")
    encoding = fields["encoding"].lower()
    if encoding not in _PACKINGS:
        raise UnreadableFileError(
            f"{path} has its voxels as {encoding}.", "Save it as raw or gzip."
        )
    kinds = [str(kind).lower() for kind in fields.get("kinds", ())]
    mixed = [axis for axis, kind in enumerate(kinds) if kind not in _KINDS_IN_SPACE]
    if len(mixed) > 1 or (mixed and mixed != [0]):
        raise UnreadableFileError(
            f"{path} has axes of the kinds {', '.join(kinds)}.", "Save one volume per file."
        )
    first = len(mixed)
    name = fields.get("data file", fields.get("datafile"))
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    if int(fields.get("line skip", fields.get("lineskip", 0))):
        raise UnreadableFileError(f"{path} skips lines before its voxels.", "Save it again.")
    start = skip if name else end + skip
    return Layout(
        shape=tuple(sizes[first:]),
        dtype=_dtype(fields, path),
        channels=sizes[0] if first else 1,
        affine=_affine(fields, first, len(sizes) - first),
        file=file_beside(name, path) if name else path,
        start=None if skip < 0 else start,
        packing=_PACKINGS[encoding],
    )


def _dtype(fields: Mapping[str, Any], path: Path) -> np.dtype[Any]:
    """`unsigned short int`, `ushort`, `uint16_t` and `uint16` are one; so are all the others."""
    kind = str(fields["type"]).lower()
    word = kind.replace(" ", "").replace("signed", "").removesuffix("_t").replace("un", "u")
    word = re.sub(r"(?<=short|.long)int$", "", word)
    unsigned = word.startswith("u")
    size = re.fullmatch(r"u?int(8|16|32|64)", word)
    bits = int(size[1]) if size else _BITS.get(word.removeprefix("u"), 0)
    code = {"float": "f4", "double": "f8"}.get(word)
    if code is None and not bits:
        raise damaged(path, f"its voxels are of the type {kind}")
    dtype = np.dtype(code or f"{'u' if unsigned else 'i'}{bits // 8}")
    if dtype.itemsize > 1 and fields.get("endian") not in ("little", "big"):
        raise damaged(path, "it does not tell its byte order")
    return dtype.newbyteorder(">" if fields.get("endian") == "big" else "<")


def _affine(fields: Mapping[str, Any], first: int, count: int) -> np.ndarray:
    """(4, 4) to LPS; without a space the axes are those of the voxels, as ITK has it."""
    sides, affine = min(count, 3), np.eye(4)
    if "space directions" in fields:
        axes = np.asarray(fields["space directions"], np.float64)[first:][:sides]
        affine[:sides, :sides] = axes[:, :sides].T
    elif "spacings" in fields:
        spacings = np.asarray(fields["spacings"], np.float64)[first:][:sides]
        affine[:sides, :sides] = np.diag(np.where(np.isfinite(spacings), spacings, 1.0))
    if "space origin" in fields:
        affine[:sides, 3] = np.asarray(fields["space origin"], np.float64)[:sides]
    space = str(fields.get("space", "")).lower().removesuffix("-time")
    flips = np.diag([*_TO_LPS.get(space, (1, 1, 1)), 1.0])
    found: np.ndarray = flips @ affine
    return found
