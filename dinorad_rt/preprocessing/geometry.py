"""Where each output pixel comes from: the taps of a separable resize with crop and padding.

The antialiased filter is PIL's (`ImagingResample`), which is also torch's `antialias=True`; the
plain one is torch's `antialias=False`. Only the rows and columns that survive the crop get taps, so
a crop out of a very long image costs no more than its own size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.preprocessing.spec import Interpolation, PreprocessSpec


@dataclass(frozen=True, eq=False)
class Taps:
    """One axis of a resize: output i = sum over t of weights[i, t] * input[first[i] + t].

    Attributes:
        first: (outputs,) int32, first input index of each output.
        count: (outputs,) int32, number of taps that count; the rest of the row is zero.
        weights: (outputs, taps) float64, each row sums to 1.
        size: length of the input axis.
        offset: where the outputs begin on the axis of the final image; the rest is padding.
        resized: length of the axis after the resize, before the crop.
        start: first position of the resized axis that survives the crop.
    """

    first: np.ndarray
    count: np.ndarray
    weights: np.ndarray
    size: int
    offset: int = 0
    resized: int = 0
    start: int = 0

    def matrix(self) -> np.ndarray:
        """The axis as a dense (outputs, size) float64 matrix."""
        dense = np.zeros((len(self.first), self.size))
        for row, first, count, weights in zip(
            dense, self.first, self.count, self.weights, strict=True
        ):
            row[first : first + count] = weights[:count]
        return dense


@dataclass(frozen=True, eq=False)
class Geometry:
    """Resize, crop and padding of one image size: taps of both axes, and the final side."""

    rows: Taps
    columns: Taps
    image_size: int


def geometry(
    height: int,
    width: int,
    spec: PreprocessSpec,
    spacing: tuple[float, float] | None = None,
) -> Geometry:
    """Taps that bring a (height, width) image to the spec's square input.

    Args:
        height, width: of the image in pixels.
        spec: the choice of resize.
        spacing: (row, column) spacing of the image in mm, for resize `spacing`.

    Raises:
        DataError: resize `spacing`, but the image has none.
    """
    return _geometry(
        (height, width),
        spec.image_size,
        _resized((height, width), spec, spacing),
        (spec.interpolation, spec.antialias),
    )


def resample_taps(size: int, outputs: int) -> Taps:
    """Taps of an axis that keeps its field of view: linear, antialiased where it shrinks."""
    return _axis(size, outputs, outputs, "bilinear", True)


@lru_cache(maxsize=64)
def _geometry(
    shape: tuple[int, int],
    image_size: int,
    resized: tuple[int, int],
    kind: tuple[Interpolation, bool],
) -> Geometry:
    height, width = resized
    return Geometry(
        rows=_axis(shape[0], height, image_size, *kind),
        columns=_axis(shape[1], width, image_size, *kind),
        image_size=image_size,
    )


def _resized(
    shape: tuple[int, int], spec: PreprocessSpec, spacing: tuple[float, float] | None
) -> tuple[int, int]:
    """Height and width after the resize and before crop or padding."""
    height, width = shape
    resize_to = spec.resize_to or spec.image_size
    if spec.resize == "squash":
        return resize_to, resize_to
    if spec.resize == "shortest":
        shorter = min(height, width)
        return int(resize_to * height / shorter), int(resize_to * width / shorter)
    if spec.resize == "pad":
        by = spec.image_size / max(height, width)
        scales = by, by
    else:
        scales = _scales(spec.spacing, spacing)
    return max(1, round(height * scales[0])), max(1, round(width * scales[1]))


def _scales(wanted: float | None, spacing: tuple[float, float] | None) -> tuple[float, float]:
    """Pixels of the result for each pixel of the image, by axis."""
    if wanted is None or spacing is None or not all(0 < value < math.inf for value in spacing):
        raise DataError(
            f"Resampling to {wanted} mm per pixel: the image says no pixel spacing ({spacing}).",
            "Leave the spacing out of the preprocessing, or give files that say it.",
        )
    return spacing[0] / wanted, spacing[1] / wanted


def _axis(size: int, resized: int, final: int, interpolation: Interpolation, aa: bool) -> Taps:
    """Taps of one axis: `size` → `resized`, then the central `final` of it (or centred in it)."""
    outputs = min(resized, final)
    start = round((resized - final) / 2) if resized > final else 0
    positions = np.arange(start, start + outputs)
    make = _antialiased if aa else _plain
    first, weights = make(size, resized, positions, interpolation)
    first, count, weights = _trimmed(first, weights, size)
    offset = (final - outputs) // 2
    return Taps(first, count, weights, size, offset, resized=resized, start=start)


def _antialiased(
    size: int, resized: int, positions: np.ndarray, interpolation: Interpolation
) -> tuple[np.ndarray, np.ndarray]:
    """PIL's coefficients (Resample.c, precompute_coeffs) for the given output positions."""
    scale = size / resized
    widened = max(scale, 1.0)
    support = (2.0 if interpolation == "bicubic" else 1.0) * widened
    centres = (positions + 0.5) * scale
    first = np.maximum(np.floor(centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum(np.floor(centres + support + 0.5).astype(np.int64), size)
    taps = np.arange(int((last - first).max()))
    distance = (taps + first[:, None] - centres[:, None] + 0.5) / widened
    weights = _cubic(distance, -0.5) if interpolation == "bicubic" else _triangle(distance)
    weights[taps >= (last - first)[:, None]] = 0.0
    return first, weights / weights.sum(axis=1, keepdims=True)


def _plain(
    size: int, resized: int, positions: np.ndarray, interpolation: Interpolation
) -> tuple[np.ndarray, np.ndarray]:
    """torch's coefficients without antialias; taps beyond the edge fall on the edge pixel."""
    centres = (positions + 0.5) * (size / resized) - 0.5
    reach = 1 if interpolation == "bicubic" else 0
    base = np.floor(centres).astype(np.int64) - reach
    indices = base[:, None] + np.arange(2 * reach + 2)
    distance = indices - centres[:, None]
    weights = _cubic(distance, -0.75) if interpolation == "bicubic" else _triangle(distance)
    first = np.clip(base, 0, size - 1)
    merged = np.zeros_like(weights)
    for tap in range(weights.shape[1]):
        slot = np.clip(indices[:, tap], 0, size - 1) - first
        merged[np.arange(len(merged)), slot] += weights[:, tap]
    return first, merged


def _trimmed(
    first: np.ndarray, weights: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut trailing zero taps, so that no tap reads beyond the axis."""
    count = np.minimum(weights.shape[1], size - first)
    weights = np.ascontiguousarray(weights[:, : int(count.max())])
    return first.astype(np.int32), count.astype(np.int32), weights


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (1981) with parameter `a`."""
    x = np.abs(distance)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _triangle(distance: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.maximum(1.0 - np.abs(distance), 0.0)
    return weights
