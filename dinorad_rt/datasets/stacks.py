"""Folders of image files as volumes: slices of several sizes are framed to one, in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.grid import grid_of
from dinorad_rt.datasets.locate import could_be_image
from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.files import atomic_path
from dinorad_rt.paths import cache_dir
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.series import natural_key, visible_files


def volumes_of_folders(folders: Sequence[Path], facts: FileFacts) -> list[Path]:
    """What `read_study` can open for each folder of slices.

    Returns:
        The folder itself where its slices have one size (or cannot be read), else a stack of
        them in the cache, the smaller ones in the middle of a black frame.
    """
    slices = [_slices(folder) for folder in folders]
    flat = [path for paths in slices for path in paths]
    shapes = dict(zip(flat, facts.of("sizes of slices", flat, _shape), strict=True))
    places = []
    for folder, paths in zip(folders, slices, strict=True):
        sizes = [shapes[path] for path in paths]
        mixed = len({tuple(size) for size in sizes}) > 1 and all(sizes)
        places.append(_stacked(folder, paths) if mixed else folder)
    return places


def _slices(folder: Path) -> list[Path]:
    return sorted(filter(could_be_image, visible_files(folder)), key=natural_key)


def _shape(path: Path) -> list[int]:
    """Rows and columns; empty if the file cannot be read, which its reader tells later."""
    try:
        return list(grid_of(path).shape[1:])
    except UnreadableFileError:
        return []


def _stacked(folder: Path, paths: Sequence[Path]) -> Path:
    """One array of all slices, written once; the folder itself if a slice cannot be read."""
    digest = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape"))
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name}\x1f{status.st_size}\x1f{status.st_mtime_ns}".encode())
    name = pseudonym("stack", digest.hexdigest())
    target = cache_dir("datasets") / "stacks" / f"{name}.npy"
    if target.is_file():
        return target
    try:
        pixels = _framed([read_study(path).pixels[0] for path in paths])
    except UnreadableFileError:
        return folder
    with atomic_path(target) as part, part.open("wb") as file:
        np.save(file, pixels)
    return target


def _framed(slices: Sequence[np.ndarray]) -> np.ndarray:
    """(slices, height, width[, 3]): the largest height and width, each slice in the middle."""
    height = max(one.shape[0] for one in slices)
    width = max(one.shape[1] for one in slices)
    colour = (3,) if any(one.ndim == 3 for one in slices) else ()
    kind = np.result_type(*(one.dtype for one in slices))
    result = np.zeros((len(slices), height, width, *colour), kind)
    for target, one in zip(result, slices, strict=True):
        top, left = (height - one.shape[0]) // 2, (width - one.shape[1]) // 2
        inner = target[top : top + one.shape[0], left : left + one.shape[1]]
        inner[...] = one[..., None] if colour and one.ndim == 2 else one
    return result
