"""The numbers, in NumPy and float64: what the native kernel must reproduce.

Slow on purpose where that is clearer: a resize is two dense matrix products. It is also what an
installation without the native kernel runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.preprocessing.geometry import Geometry
from dinorad_rt.preprocessing.intensity import GreyMap, Padding

if TYPE_CHECKING:
    from dinorad_rt.preprocessing.spec import PreprocessSpec


class ReferenceStatistics:
    """Extrema and percentiles by NumPy."""

    def extrema(self, pixels: np.ndarray, padding: Padding | None) -> tuple[float, float]:
        """Least and greatest finite stored value outside the padding; (0, 0) if there is none."""
        values = _valid(pixels, padding)
        return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)

    def percentiles(
        self, pixels: np.ndarray, percent: tuple[float, float], padding: Padding | None
    ) -> tuple[float, float]:
        """Percentiles (linear interpolation) of the same values; (0, 0) if there is none."""
        values = _valid(pixels, padding).astype(np.float64)
        if not values.size:
            return 0.0, 0.0
        low, high = np.percentile(values, percent)
        return float(low), float(high)


def grey(pixels: np.ndarray, mapping: GreyMap) -> np.ndarray:
    """Grey in [0, 1] of stored values, float64.

    Args:
        pixels: (height, width) stored values.
        mapping: from `intensity.grey_map`.
    """
    stored = pixels.astype(np.float64)
    if mapping.table is not None:
        values = mapping.table[pixels.astype(np.int64) - mapping.first].astype(np.float64)
    elif mapping.low == mapping.high:
        return np.zeros_like(stored)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.clip((stored - mapping.low) / (mapping.high - mapping.low), 0.0, 1.0)
    values[np.isnan(values)] = 0.0
    if mapping.padding is not None:
        values[(stored >= mapping.padding[0]) & (stored <= mapping.padding[1])] = 0.0
    return values


def resize(image: np.ndarray, plan: Geometry) -> np.ndarray:
    """Resize, crop and pad a (height, width) image to (size, size), float64.

    Source: Pillow's Resample.c; torch's `interpolate(..., mode="bicubic", antialias=...)`.
    """
    rows, columns = plan.rows, plan.columns
    inner = rows.matrix() @ image @ columns.matrix().T
    outer = np.zeros((plan.image_size, plan.image_size))
    outer[_span(rows.offset, inner.shape[0]), _span(columns.offset, inner.shape[1])] = inner
    return outer


def channel(pixels: np.ndarray, mapping: GreyMap, plan: Geometry) -> np.ndarray:
    """One channel of the network's input before normalisation: (size, size) grey in [0, 1]."""
    resized = resize(grey(pixels, mapping), plan)
    return stretched(resized, plan) if mapping.stretch else np.clip(resized, 0.0, 1.0)


def stretched(image: np.ndarray, plan: Geometry) -> np.ndarray:
    """Map the minimum and maximum inside the padding to 0 and 1; a constant image to 0."""
    inside = (
        _span(plan.rows.offset, len(plan.rows.first)),
        _span(plan.columns.offset, len(plan.columns.first)),
    )
    low, high = image[inside].min(), image[inside].max()
    result = np.zeros_like(image)
    if high - low > CONSTANT:
        result[inside] = (image[inside] - low) / (high - low)
    return result


def normalise(
    image: np.ndarray, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> np.ndarray:
    """(x - mean) / std per channel of a (3, size, size) or (1, size, size) image, float32."""
    centre, scale = (np.asarray(value).reshape(3, 1, 1) for value in (mean, std))
    result: np.ndarray = ((image - centre) / scale).astype(np.float32)
    return result


def picture_of(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """`normalise` undone for people to look at: (3, H, W) → (H, W, 3) in [0, 1]."""
    std, mean = (np.asarray(value).reshape(3, 1, 1) for value in (spec.std, spec.mean))
    picture: np.ndarray = np.clip(pixels * std + mean, 0.0, 1.0).transpose(1, 2, 0)
    return picture


def luma(pixels: np.ndarray) -> np.ndarray:
    """Brightness of (height, width, 3) RGB as float32: ITU-R BT.601, as PIL's mode L unrounded."""
    weighted: np.ndarray = pixels.astype(np.float64) @ np.asarray(LUMA)
    return weighted.astype(np.float32)


CONSTANT = 1e-6
"""Grey range below which a resized image counts as constant: what rounding alone can make."""

LUMA = (0.299, 0.587, 0.114)


def _span(start: int, length: int) -> slice:
    return slice(start, start + length)


def _valid(pixels: np.ndarray, padding: Padding | None) -> np.ndarray:
    """Finite values outside the padding, flat."""
    keep = np.isfinite(pixels)
    if padding is not None:
        keep &= (pixels < padding[0]) | (pixels > padding[1])
    values: np.ndarray = pixels[keep]
    return values
