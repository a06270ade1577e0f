"""Segmentation masks: read as class indices that lie on their image, and checked against it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from dinorad_rt.datasets.axes import (
    has_no_place,
    mask_on_image,
    placed_as,
    remembered_grid,
    turned_grids,
)
from dinorad_rt.datasets.dataset import Sample
from dinorad_rt.datasets.dicom_seg import difference_of, is_seg, mixed_kinds, read_seg
from dinorad_rt.errors import DinoradError, LabelError, MaskError, MissingPackageError
from dinorad_rt.optional import require
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.study import Study

MAX_CLASSES = 255
THRESHOLD = 128
"""Half of the range of an 8-bit mask."""
GREY = (32, 224)
MAX_GREY = 0.02
"""An 8-bit mask of two classes may have this part of its pixels between these values: edges that
were smoothed when it was resized or compressed."""
READERS = 8
_WITH_PALETTE = ("PNG", "GIF", "TIFF", "BMP")


def read_mask(sample: Sample, *, displayed: bool = False) -> np.ndarray:
    """Read the mask of a sample.

    Args:
        sample: of a dataset of the task `segmentation`.
        displayed: turn the axes as `Study.displayed` turns the image's; False for the order of
            `read_study(sample.path, frame=sample.frame)`, whatever kinds of file the two are.

    Returns:
        (slices, height, width) uint8 indices into `Dataset.class_names`, 0 being background.

    Raises:
        MaskError: the sample has no mask, or its parts differ in shape.
        LabelError: a value that stands for no class, or fractions.
        UnreadableFileError: the file cannot be read.
    """
    study = read_mask_study(sample)
    if displayed:
        study = study.displayed()
    return np.ascontiguousarray(study.pixels)


def read_mask_study(sample: Sample) -> Study:
    """The mask with its geometry; pixels as `read_mask` gives them."""
    if sample.mask is None:
        raise MaskError(
            "A sample without a mask was asked for its mask.",
            "Use the samples of a dataset of the task segmentation.",
        )
    if not sample.mask_parts:
        study = _on_image(sample, sample.mask)
        if sample.mask_threshold is not None:
            return _plain(study, (_integers(study) >= sample.mask_threshold).astype(np.uint8))
        return _indexed(study, sample.mask_values)
    parts = [_on_image(sample, path) for path in sample.mask_parts]
    shapes = {part.pixels.shape for part in parts}
    if len(shapes) > 1:
        raise MaskError(
            f"The parts of a mask differ in shape: {sorted(shapes)}.", "Export them again."
        )
    pixels = np.zeros(parts[0].pixels.shape, np.uint8)
    held = set()
    for index, part in zip(sample.classes_of_parts, parts, strict=True):
        inside = _foreground(part)
        pixels[inside] = index
        if inside.any():
            held.add(index)
    covered = sorted(held - set(np.unique(pixels).tolist()))
    if covered:
        raise MaskError(
            f"Class {covered[0]} of a mask lies whole under later classes, whose files lie over "
            "earlier ones: nothing is left of it.",
            "Give the files so that what lies inside of another comes later: "
            "--mask-column liver,tumour",
        )
    return _plain(parts[0], pixels)


def _foreground(part: Study) -> np.ndarray:
    """Where the mask of one class has it: not 0, or bright where edges were smoothed."""
    stored = _integers(part)
    peak = int(stored.max(initial=0))
    values = len(np.unique(stored))
    if values < 3:
        return stored > 0
    if peak < THRESHOLD or _grey_part(stored, peak) > MAX_GREY:
        raise LabelError(
            f"A file of one class holds {values} different values: it is an image, "
            "or a mask of several classes.",
            "Give one file per class with two values each, or one mask with all classes.",
        )
    return stored > peak // 2


def values_of(path: Path) -> tuple[int, ...]:
    """The different values in a mask file, sorted.

    Raises:
        LabelError: fractions, negative numbers or colours; a DICOM SEG, whose numbers mean nothing.
    """
    if is_seg(path):
        raise mixed_kinds()
    study = _read(path, None)
    return tuple(int(value) for value in np.unique(_integers(study)))


def grey_share(path: Path) -> float:
    """Part of a mask's pixels that are neither dark nor bright."""
    return _grey_part(_integers(_read(path, None)))


def _grey_part(stored: np.ndarray, peak: int = 255) -> float:
    low, high = (limit * peak / 255 for limit in GREY)
    return float(((stored >= low) & (stored < high)).mean())


def check_grids(pairs: Sequence[tuple[Path, Path]], names: Sequence[str] | None = None) -> None:
    """Refuse images whose masks have another shape or lie elsewhere; headers only are read.

    Args:
        pairs: image and mask; a pair that comes again (slices of a volume) is read once.
        names: what to call the pairs in the message; None for their numbers.

    Raises:
        MaskError: with up to ten of them and their shapes.
    """
    first = {pair: index for index, pair in reversed(list(enumerate(pairs)))}
    unique = sorted(first, key=lambda pair: first[pair])
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(_difference, unique))
    wrong = [(first[pair], text) for pair, text in zip(unique, found, strict=True) if text]
    if not wrong:
        return
    lines = [f"  {names[i] if names else f'pair {i + 1}'}: {text}" for i, text in wrong[:10]]
    if len(wrong) > 10:
        lines.append(f"  ... and {len(wrong) - 10} more")
    listed = "\n".join(lines)
    raise MaskError(
        f"{len(wrong)} of {len(unique)} masks do not lie on their image (image and mask have):\n"
        f"{listed}",
        "Resample these masks onto their images, or take the pairs out. --keep-identifiers names "
        "the files.",
    )


def _difference(pair: tuple[Path, Path]) -> str | None:
    """In what image and mask differ; None if they fit, or if either cannot be read at all:
    such a file stands in the failures, like every other one."""
    try:
        if is_seg(pair[1]):
            return difference_of(pair[1], remembered_grid(pair[0])) or None
        image, mask = turned_grids(*pair)
        text = image.difference(mask)
    except MissingPackageError:
        raise
    except DinoradError:
        return None
    return text or None


def _on_image(sample: Sample, path: Path) -> Study:
    """A mask file on the axes of the sample's image, with the image's place."""
    if is_seg(path):
        grid = remembered_grid(sample.path)
        labels = sample.mask_labels
        classes = None if labels is None else {name: index for index, name in enumerate(labels)}
        study = placed_as(Study(read_seg(path, grid, classes)), grid)
        return study if sample.frame is None else study.slice(sample.frame)
    if has_no_place(sample.path) and has_no_place(path):
        return _read(path, sample.frame)
    grid, turn = mask_on_image(sample.path, path)
    if sample.frame is None or turn.keeps_slices:
        study = _read(path, sample.frame)
        return placed_as(replace(study, pixels=turn.array(study.pixels)), grid)
    study = _read(path, None)
    whole = placed_as(replace(study, pixels=turn.array(study.pixels)), grid)
    return whole.slice(sample.frame)


def _read(path: Path, frame: int | None) -> Study:
    study = read_study(path, frame=frame)
    indices = _indices_of_palette(path) if study.facts.get("format") in _WITH_PALETTE else None
    if indices is None or indices.shape != study.pixels.shape[:3]:
        return study
    return replace(study, pixels=indices, units="stored")


def _indices_of_palette(path: Path) -> np.ndarray | None:
    """(1, rows, columns) indices into a palette of colours: such files hold class numbers.

    None for other files, and for those that show black and white only: their colours tell.
    """
    image_module = require("PIL.Image", "reading raster images")
    with image_module.open(path) as image:
        if image.mode != "P" or getattr(image, "n_frames", 1) > 1:
            return None
        colours = np.asarray(image.getpalette(), np.int64).reshape(-1, 3)
        indices = np.asarray(image)
    used = colours[np.unique(indices)]
    plain = (used == used[:, :1]).all() and set(used[:, 0].tolist()) <= {0, 255}
    if plain or (colours == colours[:, :1]).all():
        return None
    return indices[None]


def _indexed(study: Study, values: tuple[int, ...] | None) -> Study:
    """Stored values → class indices."""
    stored = _integers(study)
    if values is None:
        if int(stored.max(initial=0)) > MAX_CLASSES:
            raise _beyond(stored, tuple(range(MAX_CLASSES + 1)))
        return _plain(study, stored.astype(np.uint8))
    order = np.argsort(values)
    ordered = np.asarray(values)[order]
    place = np.searchsorted(ordered, stored).clip(max=len(ordered) - 1)
    if not np.array_equal(ordered[place], stored):
        raise _beyond(stored, values)
    return _plain(study, order.astype(np.uint8)[place])


def _integers(study: Study) -> np.ndarray:
    """Whole numbers from 0, whatever type the file stores them in."""
    pixels = study.pixels
    if study.is_colour:
        raise LabelError(
            "A mask is a colour image.",
            "Save masks with one number per pixel: 0, 1, 2, ... (a palette may give them colours).",
        )
    if study.rescale != (1.0, 0.0):
        pixels = study.values()
    if pixels.dtype.kind == "f":
        whole = np.rint(pixels)
        if not np.allclose(pixels, whole, rtol=0, atol=1e-3):
            raise LabelError(
                "A mask holds fractions or NaN: it is a probability map, or was resampled "
                "linearly.",
                "Save masks with whole numbers; resample them with nearest neighbours.",
            )
        pixels = whole.astype(np.int64)
    if int(pixels.min(initial=0)) < 0:
        raise LabelError(f"A mask holds {int(pixels.min())}.", "Classes are numbered from 0.")
    return pixels


def _plain(study: Study, pixels: np.ndarray) -> Study:
    return replace(study, pixels=pixels, rescale=(1.0, 0.0), units="stored")


def _beyond(stored: np.ndarray, values: tuple[int, ...]) -> LabelError:
    found = sorted(int(v) for v in set(np.unique(stored).tolist()) - set(values))
    allowed = ", ".join(map(str, values[:20])) + (", ..." if len(values) > 20 else "")
    return LabelError(
        f"A mask holds the values {found[:10]}, which stand for no class. Allowed: {allowed}.",
        "Mend the mask, or name all classes: --class-names background,...",
    )
