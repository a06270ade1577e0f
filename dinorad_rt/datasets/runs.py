"""Masks as runs of pixels in cells of a table: run-length encoding (RLE), as Kaggle's sets have.

A cell holds pairs of numbers, the start and the length of each run of foreground. Starts are
absolute, counted from 1, or relative: the pixels since the end of the previous run (SIIM-ACR).
Pixels are counted down the columns or along the rows. The masks are drawn once, into the cache.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dinorad_rt.datasets.table import simple_name
from dinorad_rt.errors import MaskError, TableError
from dinorad_rt.files import atomic_path
from dinorad_rt.optional import require
from dinorad_rt.paths import cache_dir

KINDS = ("columns", "rows", "relative-columns", "relative-rows")
"""Words behind the column: `--mask-column EncodedPixels:rows`."""
WRITERS = 8

_RUNS = re.compile(r"\d{1,12}\s+\d{1,12}(\s+\d{1,12}\s+\d{1,12})*")
_NOTHING = ("", "-1")
_BY_COLUMNS = ("encodedpixels",)
"""Columns of which every published set counts down the columns."""
_PROBED_CELLS = 200

Shape = tuple[int, int]
"""Rows and columns of an image."""


@dataclass(frozen=True)
class Drawn:
    """The mask of one image.

    Attributes:
        path: of the file that holds it.
        present: classes in it, from 1 on.
        shared: pixels that several classes claim.
    """

    path: Path
    present: tuple[int, ...]
    shared: int


Cells = Sequence[tuple[int, str]]
"""Class, from 1 on, and runs of one image."""


def without_kind(column: str | None, header: Sequence[str]) -> tuple[str | None, str | None]:
    """A wanted column and the kind of its runs, where one stands behind it: `rle:rows`."""
    if column is None:
        return None, None
    name, colon, kind = column.rpartition(":")
    if not colon or column in header or kind not in KINDS:
        return column, None
    return name, kind


def hold_runs(cells: Sequence[str]) -> bool:
    """Whether cells are runs, each of them that is looked at, or nothing at all."""
    told = [cell for cell in cells if cell not in _NOTHING]
    return bool(told) and all(_RUNS.fullmatch(cell) for cell in told[:_PROBED_CELLS])


def has_any(cell: str) -> bool:
    """Whether a cell holds a run of one pixel at least."""
    return cell not in _NOTHING and any(int(length) for length in cell.split()[1::2])


def kind_of(
    column: str, wanted: str | None, cells: Sequence[tuple[str, Shape]], source: str
) -> str:
    """How the runs of a column are meant.

    Args:
        column: its name.
        wanted: what the user said, None to find out.
        cells: all of them, each with the shape of its image.
        source: name of the table, for messages.

    Returns:
        One of `KINDS`.

    Raises:
        TableError: cells that are no runs, or it cannot be told.
        MaskError: runs beyond the image.
    """
    fits = {"": True, "relative-": True}
    outside = 0
    for cell, shape in cells:
        if cell in _NOTHING:
            continue
        if not _RUNS.fullmatch(cell):
            raise TableError(
                f"{source}: column {column!r} holds runs, but not in every row.",
                "A cell is `start length start length ...`, or -1 or blank for nothing.",
            )
        inside = [_fits(cell, shape, relative) for relative in (False, True)]
        outside += not any(inside)
        fits = {word: fit and one for (word, fit), one in zip(fits.items(), inside, strict=True)}
    allowed = [word for word, fit in fits.items() if fit]
    if wanted is not None:
        allowed = [word for word in allowed if word == wanted[: -len(wanted.split("-")[-1])]]
    if not allowed:
        which = f"{wanted} " if wanted else ""
        raise MaskError(
            f"{source}: the runs of column {column!r} are no {which}runs of these images: "
            f"{outside or 'some'} of {len(cells)} go beyond the image, or over one another.",
            "Runs count the pixels of the images that they were drawn on: give these images in "
            "their own size. Absolute starts count from 1.",
        )
    if wanted is not None:
        return wanted
    if len(allowed) > 1:
        raise _unclear(column, "these few runs may be absolute or relative")
    if allowed == ["relative-"] or simple_name(column) in _BY_COLUMNS:
        return f"{allowed[0]}columns"
    raise _unclear(column, "nothing tells whether pixels are counted down columns or along rows")


def draw(
    masks: Mapping[Path, Cells],
    kind: str,
    shapes: Mapping[Path, Shape],
    tell: Callable[[str, int, int], None] | None = None,
) -> dict[Path, Drawn]:
    """Write the mask of each image into the cache, where it is not there yet.

    Args:
        masks: image → its cells; cells of one class are joined, of several the later class lies
            over the earlier one.
        kind: one of `KINDS`.
        shapes: image → rows and columns.
        tell: called with what is done, the number done and the total.
    """
    found = {}
    with ThreadPoolExecutor(WRITERS) as pool:
        work = pool.map(partial(_drawn, kind), masks.values(), (shapes[path] for path in masks))
        for path, one in zip(masks, work, strict=True):
            found[path] = one
            if tell is not None:
                tell("drawing masks", len(found), len(masks))
    return found


def decode(cell: str, shape: Shape, kind: str) -> np.ndarray:
    """Decode one cell.

    Returns:
        (rows, columns) bool.
    """
    return _filled(_intervals(cell, "relative" in kind), shape, kind)


def trace_of_drawn(path: Path) -> str | None:
    """The content of a mask that was drawn, the same on every machine; None for other files.

    Compressed bytes differ between versions of zlib; the name is a digest of the runs.
    """
    return path.stem if path.parent == _folder() else None


def _drawn(kind: str, cells: Cells, shape: Shape) -> Drawn:
    by_class: dict[int, list[np.ndarray]] = {}
    for number, cell in cells:
        runs = _intervals(cell, "relative" in kind)
        runs = runs[runs[:, 1] > runs[:, 0]]
        if len(runs):
            by_class.setdefault(number, []).append(runs)
    joined = {number: np.concatenate(by_class[number]) for number in sorted(by_class)}
    sizes = [_covered(runs) for runs in joined.values()]
    shared = sum(sizes) - _covered(np.concatenate(list(joined.values()))) if len(sizes) > 1 else 0
    digest = hashlib.sha256(f"{shape} {kind.endswith('rows')}".encode())
    for number, runs in joined.items():
        ordered = runs[np.lexsort((runs[:, 1], runs[:, 0]))]
        digest.update(f" {number}:".encode() + ordered.astype("<i8").tobytes())
    target = _folder() / f"{digest.hexdigest()[:32]}.png"
    if not target.is_file():
        pixels = np.zeros(shape, np.uint8)
        for number, runs in joined.items():
            pixels[_filled(runs, shape, kind)] = number
        with atomic_path(target) as part:
            require("PIL.Image", "writing masks").fromarray(pixels).save(part, format="PNG")
    return Drawn(target, tuple(joined), shared)


def _intervals(cell: str, relative: bool) -> np.ndarray:
    """(runs, 2) first pixel and the one behind the last, from 0."""
    if cell in _NOTHING:
        return np.zeros((0, 2), np.int64)
    starts, lengths = np.asarray(cell.split(), np.int64).reshape(-1, 2).T
    first = np.cumsum(starts + lengths) - lengths if relative else starts - 1
    return np.stack([first, first + lengths], axis=1)


def _fits(cell: str, shape: Shape, relative: bool) -> bool:
    """Whether runs lie in the image, one behind the other."""
    runs = _intervals(cell, relative)
    ordered = runs[0, 0] >= 0 and bool((runs[1:, 0] >= runs[:-1, 1]).all())
    return ordered and bool(runs[-1, 1] <= shape[0] * shape[1])


def _filled(runs: np.ndarray, shape: Shape, kind: str) -> np.ndarray:
    steps = np.zeros(shape[0] * shape[1] + 1, np.int32)
    np.add.at(steps, runs[:, 0], 1)
    np.add.at(steps, runs[:, 1], -1)
    flat = np.cumsum(steps[:-1]) > 0
    return flat.reshape(shape) if kind.endswith("rows") else flat.reshape(shape[::-1]).T


def _covered(runs: np.ndarray) -> int:
    """Pixels in any of the runs."""
    first, behind = runs[np.argsort(runs[:, 0], kind="stable")].T
    reached = np.concatenate([[0], np.maximum.accumulate(behind)[:-1]])
    return int(np.maximum(behind - np.maximum(first, reached), 0).sum())


def _unclear(column: str, why: str) -> TableError:
    return TableError(
        f"Column {column!r} holds masks as runs (RLE), and {why}.",
        f"Say which behind the column: --mask-column {column}:rows, or one of "
        f"{', '.join(KINDS)}. Most of Kaggle's sets count down the columns.",
    )


def _folder() -> Path:
    return cache_dir("datasets") / "masks"
