"""Volumes on another grid: the same field of view in voxels of another size."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.preprocessing.geometry import resample_taps
from dinorad_rt.studies.study import Study, Window

Spacing = tuple[float, float, float]


def resample(study: Study, spacing: Spacing, *, labels: bool = False) -> Study:
    """Resample a volume to voxels of about `spacing` mm.

    The field of view is kept, so the number of voxels is rounded and the spacing of the result is
    the exact one. Linear, and antialiased where an axis shrinks; values beyond the border are those
    of the border. Padding takes the place of the lowest value.

    Args:
        study: a volume, or a slice whose own slice axis is left alone.
        spacing: (slice, row, column) in mm.
        labels: take the nearest voxel, keeping the type, for masks.

    Raises:
        DataError: the study says no spacing, or one asked for is not positive.
    """
    sizes = _sizes(study, spacing)
    if sizes == study.pixels.shape[:3]:
        return study
    pixels = study.pixels if labels else _filled(study)
    for axis, size in enumerate(sizes):
        pixels = _along(pixels, axis, size, labels=labels)
    assert study.spacing is not None
    had = study.pixels.shape
    now = tuple(
        old * count / size for old, count, size in zip(study.spacing, had[:3], sizes, strict=True)
    )
    return replace(
        study,
        pixels=pixels,
        padding=study.padding if labels else None,
        spacing=(now[0], now[1], now[2]),
        origin=_origin(study, now),
        slice_windows=_windows(study, sizes[0]),
        problems=(*study.problems, f"resampled from {_text(study.spacing)} to {_text(now)} mm"),
    )


def _sizes(study: Study, spacing: Spacing) -> tuple[int, int, int]:
    known = study.spacing
    if known is None or not all(0 < value < math.inf for value in spacing):
        raise DataError(
            f"Resampling to {spacing} mm: the study's own spacing is {known}; both must be "
            "positive numbers.",
            "Leave the spacing out, or give files that say it.",
        )
    if study.num_slices > 1 and math.isnan(known[0]):
        raise DataError(
            "Resampling a volume whose distance of slices is unknown.", "Resample single slices."
        )
    counts = study.pixels.shape[:3]
    scaled = [
        count if count == 1 or math.isnan(old) else max(1, round(count * old / new))
        for count, old, new in zip(counts, known, spacing, strict=True)
    ]
    return scaled[0], scaled[1], scaled[2]


def _filled(study: Study) -> np.ndarray:
    """Float pixels; padding becomes the lowest value, as blending it with tissue makes no sense."""
    pixels = study.pixels.astype(np.float32)
    if study.padding is not None:
        empty = (study.pixels >= study.padding[0]) & (study.pixels <= study.padding[1])
        if empty.any() and not empty.all():
            pixels[empty] = pixels[~empty].min()
    return pixels


def _along(pixels: np.ndarray, axis: int, size: int, *, labels: bool) -> np.ndarray:
    count = pixels.shape[axis]
    if count == size:
        return pixels
    if labels:
        nearest = ((np.arange(size) + 0.5) * count / size).astype(np.intp)
        taken: np.ndarray = np.take(pixels, nearest, axis=axis)
        return taken
    matrix = resample_taps(count, size).matrix().astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(np.tensordot(matrix, pixels, (1, axis)), 0, axis))


def _origin(study: Study, now: tuple[float, ...]) -> tuple[float, float, float] | None:
    """Centre of the first voxel of the new grid: half a voxel inwards from the same corner."""
    if study.origin is None or study.orientation is None or study.spacing is None:
        return study.origin
    old = np.nan_to_num(study.spacing)
    shift = study.orientation @ ((np.nan_to_num(now) - old) / 2)
    x, y, z = np.asarray(study.origin) + shift
    return float(x), float(y), float(z)


def _windows(study: Study, slices: int) -> tuple[tuple[Window, ...], ...]:
    own = study.slice_windows
    if not own:
        return ()
    return tuple(own[int((index + 0.5) * len(own) / slices)] for index in range(slices))


def _text(spacing: tuple[float, ...]) -> str:
    return " × ".join(f"{value:.3g}" for value in spacing)
