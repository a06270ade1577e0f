"""Soft-edged shapes on grids in millimetres, and chord lengths for projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Centres of voxels in millimetres of the patient, ready to broadcast.

    Attributes:
        z, y, x: coordinates; z is absent (0) for images. Up: z to the head, y to the back, x to
            the patient's left (LPS); on chest X-rays y runs down to the feet.
        pixel: size of a pixel, mm: the width over which edges fade.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    pixel: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array over the whole grid."""
        return np.broadcast_shapes(self.x.shape, self.y.shape, self.z.shape)

    def ellipsoid(
        self, centre: Sequence[float], axes: Sequence[float], *, angle: float = 0.0
    ) -> np.ndarray:
        """Membership (0 to 1) in an ellipsoid.

        Args:
            centre: (x, y, z) mm.
            axes: (x, y, z) half-axes, mm.
            angle: turn within the slice, degrees.
        """
        x, y = _turned(self.x - centre[0], self.y - centre[1], angle)
        distance = np.sqrt(
            (x / axes[0]) ** 2 + (y / axes[1]) ** 2 + ((self.z - centre[2]) / axes[2]) ** 2
        )
        return ramp(1.0 - distance, self.pixel / min(axes[0], axes[1]))

    def cylinder(
        self, centre: Sequence[float], axes: Sequence[float], *, angle: float = 0.0
    ) -> np.ndarray:
        """Membership in an elliptic cylinder along z; centre and half-axes as (x, y)."""
        x, y = _turned(self.x - centre[0], self.y - centre[1], angle)
        distance = np.sqrt((x / axes[0]) ** 2 + (y / axes[1]) ** 2)
        return ramp(1.0 - distance, self.pixel / min(axes[0], axes[1]))


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    if not angle:
        return x, y
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return x * cos + y * sin, y * cos - x * sin


def ramp(value: np.ndarray, width: float) -> np.ndarray:
    """0 below -width / 2, 1 above width / 2, a straight line between."""
    return np.clip(value / width + 0.5, 0.0, 1.0)


def step(value: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high` (which may be the lower one)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def arch(value: np.ndarray) -> np.ndarray:
    """sqrt(1 - value²) inside ±1, else 0: the profile of a round body."""
    return np.asarray(np.sqrt(np.clip(1.0 - value * value, 0.0, None)))


def chord(x: np.ndarray, y: np.ndarray, axes: Sequence[float], *, angle: float = 0.0) -> np.ndarray:
    """Length of the ray through an ellipsoid at (0, 0), mm; `axes` = half-axes (x, y, depth)."""
    x, y = _turned(x, y, angle)
    return 2.0 * axes[2] * np.sqrt(np.clip(1.0 - (x / axes[0]) ** 2 - (y / axes[1]) ** 2, 0, None))


def paint(image: np.ndarray, membership: np.ndarray, value: float | np.ndarray) -> None:
    """Cover a part of an image with a value, in place; soft edges blend."""
    image += membership * (value - image)


def deposit(
    shape: tuple[int, int], columns: np.ndarray, rows: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Sum weights into the pixels around fractional positions (bilinear)."""
    image = np.zeros(shape)
    left, top = np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)
    right, low = columns - left, rows - top
    for dy, wy in ((0, 1.0 - low), (1, low)):
        for dx, wx in ((0, 1.0 - right), (1, right)):
            r, c = top + dy, left + dx
            inside = (r >= 0) & (r < shape[0]) & (c >= 0) & (c < shape[1])
            flat = (r * shape[1] + c)[inside]
            image += np.bincount(
                flat, (weights * wx * wy)[inside], minlength=shape[0] * shape[1]
            ).reshape(shape)
    return image
