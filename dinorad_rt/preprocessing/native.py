"""The native kernel (`engines/native`): the reference's numbers in one pass.

Where the kernel was not compiled (`DINORAD_PURE=1`, or no compiler at the time), `is_available` is
False and `pipeline.Preprocessor` runs the reference.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from dinorad_rt.errors import MissingPackageError
from dinorad_rt.preprocessing.geometry import Geometry, Taps
from dinorad_rt.preprocessing.intensity import GreyMap, Padding
from dinorad_rt.preprocessing.reference import ReferenceStatistics

INTERFACE = 1
"""Version of the calls below; a module left over from an older build has another."""

ILL_CONDITIONED = 256.0
"""Ratio of edge to range of float32 pixels above which the difference is taken in float64."""

_KERNEL_TYPES = ("uint8", "uint16", "int16", "int32", "float32", "float64")
_WIDENED = {"bool": "uint8", "int8": "int16", "float16": "float32"}


@lru_cache(maxsize=1)
def _module() -> ModuleType | None:
    try:
        from dinorad_rt import _native
    except ImportError:
        return None
    module: ModuleType = _native
    return module if getattr(module, "INTERFACE", 0) == INTERFACE else None


def is_available() -> bool:
    """True if this installation holds the compiled kernel."""
    return _module() is not None


def require() -> ModuleType:
    """The compiled module.

    Raises:
        MissingPackageError: it is not in this installation.
    """
    module = _module()
    if module is None:
        raise MissingPackageError(
            "The native preprocessing kernel was asked for, but this installation of dinorad-rt "
            "was built without it (no C++ compiler, or DINORAD_PURE=1).",
            "Install a C++17 compiler, then: pip install --force-reinstall --no-deps dinorad-rt; "
            "in a checkout: pip install -e .",
        )
    return module


def kernels() -> tuple[str, ...]:
    """Instruction sets that the kernel can use on this processor, best first; empty without it."""
    module = _module()
    return tuple(module.kernels()) if module is not None else ()


def describe() -> str:
    """What runs here, in words: for `doctor` and provenance."""
    found = kernels()
    return f"native kernel ({found[0]})" if found else "reference in NumPy (no native kernel)"


class NativeStatistics:
    """Extrema and percentiles by the kernel; exact, so equal to the reference's."""

    def extrema(self, pixels: np.ndarray, padding: Padding | None) -> tuple[float, float]:
        """Least and greatest finite stored value outside the padding; (0, 0) if there is none."""
        low, high = require().extrema(_plain(pixels), padding)
        return float(low), float(high)

    def percentiles(
        self, pixels: np.ndarray, percent: tuple[float, float], padding: Padding | None
    ) -> tuple[float, float]:
        """Percentiles (linear interpolation) of the same values; (0, 0) if there is none."""
        plain = _plain(pixels)
        if plain.dtype.itemsize > 2:
            return ReferenceStatistics().percentiles(pixels, percent, padding)
        low, high = require().percentiles(plain, percent, padding)
        return float(low), float(high)


def preprocess(
    pixels: np.ndarray,
    mapping: GreyMap,
    plan: Geometry,
    out: np.ndarray,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    threads: int = 1,
    kernel: str | None = None,
) -> None:
    """Stored values → normalised channels, in one pass and without the GIL.

    Args:
        pixels: (height, width) stored values, or (height, width, 3) uint8 RGB for its brightness.
        mapping: from `intensity.grey_map`.
        plan: from `geometry.geometry`.
        out: (channels, size, size), C-contiguous, float32, float16 or uint16 (bfloat16 bits).
        normalisation: mean and std, each one value per channel of `out`.
        threads: the numbers do not depend on it.
        kernel: one of `kernels()`; None for the best.
    """
    low, high, padding = edges_of(mapping)
    rows, columns = packed(plan)
    require().preprocess(
        suited(pixels, mapping),
        (low, high),
        padding,
        mapping.table,
        mapping.first,
        rows,
        columns,
        out,
        *normalisation,
        mapping.stretch,
        threads,
        kernel,
    )


def edges_of(mapping: GreyMap) -> tuple[float, float, Padding | None]:
    """Edges and padding as the kernel takes them: a constant slice is all padding."""
    if mapping.table is None and mapping.low == mapping.high:
        return 0.0, 1.0, (-np.inf, np.inf)
    return mapping.low, mapping.high, mapping.padding


def suited(pixels: np.ndarray, mapping: GreyMap) -> np.ndarray:
    """Pixels in a type and layout that the kernel reads with this map."""
    if pixels.ndim == 3:
        return np.ascontiguousarray(pixels)
    if mapping.table is not None:
        return _plain(pixels)
    reach = max(abs(mapping.low), abs(mapping.high))
    if pixels.dtype == np.float32 and reach > ILL_CONDITIONED * abs(mapping.high - mapping.low):
        return pixels.astype(np.float64)
    step = pixels.strides[1] // pixels.itemsize
    if pixels.dtype in (np.uint8, np.uint16) and step == 3 and _aligned(pixels):
        return pixels
    return _plain(pixels)


def _plain(pixels: np.ndarray) -> np.ndarray:
    """(height, width) pixels whose rows are contiguous, in one of the kernel's types."""
    name = pixels.dtype.name
    if name not in _KERNEL_TYPES:
        pixels = pixels.astype(_WIDENED.get(name, "float64"))
    if pixels.strides[1] != pixels.itemsize or not _aligned(pixels):
        pixels = np.ascontiguousarray(pixels)
    return pixels


def _aligned(pixels: np.ndarray) -> bool:
    """True if whole elements lie between rows, as the exchange of arrays demands."""
    return bool(pixels.flags.aligned) and pixels.strides[0] % pixels.itemsize == 0


@lru_cache(maxsize=64)
def packed(plan: Geometry) -> tuple[Any, Any]:
    """Taps of both axes, packed for the kernel."""
    return _packed_axis(plan.rows), _packed_axis(plan.columns)


def _packed_axis(taps: Taps) -> Any:
    """Taps as the kernel wants them: float32, both sides padded with zeros to its lanes."""
    module = require()
    lanes = module.LANE_LIMIT
    outputs, length = taps.weights.shape
    rows, stride = (-(-side // lanes) * lanes for side in (outputs, length))
    weights = np.zeros((rows, stride), np.float32)
    weights[:outputs, :length] = taps.weights
    first, count = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
    first[:outputs], count[:outputs] = taps.first, taps.count
    return module.PackedAxis(first, count, weights, outputs, taps.size, taps.offset)
