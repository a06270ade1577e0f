"""Chance that is the same on every machine: named streams of numbers from one seed.

Only the raw bits of PCG64 are used, which NumPy promises never to change (NEP 19); its own
distributions may change from version to version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_HALVES = 12.0 / 4.0
"""1 / variance of the sum of four uniform numbers."""


class Draws:
    """A stream of random numbers that belongs to a seed and a name."""

    def __init__(self, seed: int, *name: object) -> None:
        """Take the seed and what the numbers are for, such as ("xray", 3, "noise")."""
        text = "\x1f".join(str(part) for part in (seed, *name))
        digest = hashlib.sha256(text.encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "big"))

    def uniform(self, low: float, high: float) -> float:
        """A number between two limits."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def uniforms(self, count: int, low: float, high: float) -> np.ndarray:
        """Several numbers between two limits."""
        raw = self._bits.random_raw(count) >> np.uint64(11)
        result: np.ndarray = low + (high - low) * (raw * 2.0**-53)
        return result

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(int(self._bits.random_raw()) % (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform(0.0, 1.0) < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.whole(0, len(items) - 1)]

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """White noise of mean 0 and standard deviation 1, float64.

        The sum of four 16-bit numbers: close to a normal distribution, within ±3.5.
        """
        raw = self._bits.random_raw(int(np.prod(shape))).astype("<u8")
        parts = raw.view("<u2").reshape(-1, 4).sum(axis=1, dtype=np.int64)
        result: np.ndarray = (parts / 65535.0 - 2.0) * np.sqrt(_HALVES)
        return result.reshape(shape)

    def texture(self, shape: tuple[int, ...], cells: float, octaves: int = 3) -> np.ndarray:
        """Smooth random texture of mean 0 and standard deviation near 1.

        Args:
            shape: any number of axes.
            cells: bumps along the longest axis in the coarsest octave.
            octaves: layers, each of half the size and half the height of the one before.
        """
        total = np.zeros(shape)
        weight = 0.0
        for octave in range(octaves):
            counts = tuple(_cells(n, cells * 2**octave, max(shape)) for n in shape)
            total += _interpolated(self.noise(tuple(c + 3 for c in counts)), shape) * 0.5**octave
            weight += 0.25**octave
        scaled: np.ndarray = total / (np.sqrt(weight) * _SPLINE_LOSS ** len(shape))
        return scaled


_SPLINE_LOSS = 0.69
"""Standard deviation that a cubic B-spline through white noise keeps, per axis."""


def _cells(length: int, cells: float, longest: int) -> int:
    return max(1, min(length, round(cells * length / longest)))


def _interpolated(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cubic B-spline of coefficients, one axis after the other."""
    for axis, length in enumerate(shape):
        first, basis = _spline(length, values.shape[axis] - 3)
        outward = (slice(None),) + (None,) * (len(shape) - axis - 1)
        parts = [values.take(first + k, axis=axis) * basis[k][outward] for k in range(len(basis))]
        values = parts[0] + parts[1] + parts[2] + parts[3]
    return values


def _spline(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """First coefficient of each place, and its four weights, (4, length)."""
    place = (np.arange(length) + 0.5) * (cells / length)
    first = np.minimum(place.astype(np.int64), cells - 1)
    t = place - first
    basis = (1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3
    return first, np.stack(basis) / 6.0
