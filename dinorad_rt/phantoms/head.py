"""A head in three dimensions: which tissue fills each voxel. CT and MR both start from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.shapes import Grid, paint, ramp, step


@dataclass(frozen=True)
class Head:
    """A head whose tissues already have the values of a scanner.

    Attributes:
        image: (slices, rows, columns) values; edges blend.
        brain: fraction of brain with its ventricles, 0 to 1.
        ventricles: fraction of ventricles.
    """

    image: np.ndarray
    brain: np.ndarray
    ventricles: np.ndarray


def head_of(grid: Grid, draws: Draws, values: Mapping[str, float]) -> Head:
    """Draw a patient's head.

    Args:
        grid: its (0, 0, 0) is the middle of the brain.
        draws: the patient's own stream: the same head for every scanner.
        values: air, scalp, fat, bone, csf, grey, white → value.
    """
    axes = (draws.uniform(63, 70), draws.uniform(80, 89), draws.uniform(62, 70))
    folds = np.abs(draws.texture(grid.shape, 30.0, 2))
    radius = _radius(grid, axes) * (1.0 + 0.012 * draws.texture(grid.shape, 5.0, 1))
    edge = grid.pixel / axes[0]
    table, skin = draws.uniform(0.085, 0.115), draws.uniform(0.055, 0.09)
    image = np.full(grid.shape, values["air"])
    for limit, tissue in (
        (1.0 + table + skin, "scalp"),
        (0.98 + table + skin, "fat"),
        (1.0 + table, "bone"),
        (1.0, "csf"),
    ):
        paint(image, ramp(limit - radius, edge), values[tissue])
    brain = ramp(0.965 - radius, edge)
    depth = (0.965 - radius) * axes[0]
    furrow = 15.0 * np.clip(1.0 - folds / 0.2, 0.0, 1.0) - 2.5
    cortex = 4.0 + 15.0 * np.clip(1.0 - folds / 0.75, 0.0, 1.0)
    paint(image, brain * ramp(depth - furrow, 2.5), values["grey"])
    paint(image, brain * ramp(depth - cortex, 2.5), values["white"])
    _nuclei(image, grid, values["grey"])
    ventricles = _ventricles(grid, draws) * brain
    paint(image, ventricles, values["csf"])
    _midline(image, grid, brain, values)
    return Head(image, brain, ventricles)


def _radius(grid: Grid, axes: tuple[float, float, float]) -> np.ndarray:
    """Distance from the middle in units of the brain's surface; the forehead is narrower."""
    narrow = 1.0 + 0.10 * np.clip(-grid.y / axes[1], 0.0, 1.0) ** 2
    x, y, z = grid.x * narrow / axes[0], grid.y / axes[1], grid.z / axes[2]
    return np.asarray(np.sqrt(x * x + y * y + z * z))


def _ventricles(grid: Grid, draws: Draws) -> np.ndarray:
    """Lateral ventricles with front and back horns, third ventricle."""
    wide = draws.uniform(0.75, 1.35)
    total = grid.ellipsoid((0.0, 2.0, -6.0), (2.3 * wide, 12.0, 10.0))
    for side in (-1.0, 1.0):
        parts = (
            ((11.0, -16.0, 6.0), (6.0 * wide, 22.0, 13.0), -13.0),
            ((12.0, 6.0, 11.0), (5.5 * wide, 22.0, 11.0), 4.0),
            ((21.0, 30.0, 3.0), (6.5 * wide, 20.0, 12.0), 20.0),
        )
        for (x, y, z), size, angle in parts:
            shape = grid.ellipsoid((side * x, y, z), size, angle=-side * angle)
            total = np.maximum(total, shape)
    return total


def _nuclei(image: np.ndarray, grid: Grid, grey: float) -> None:
    """Deep grey matter: thalamus, caudate and lentiform nuclei."""
    for side in (-1.0, 1.0):
        paint(image, grid.ellipsoid((side * 11.0, 9.0, 0.0), (8.0, 13.0, 10.0)), grey)
        paint(image, grid.ellipsoid((side * 17.0, -20.0, 6.0), (5.0, 10.0, 10.0)), grey)
        shape = grid.ellipsoid((side * 25.0, -3.0, 0.0), (6.0, 17.0, 10.0), angle=side * 10.0)
        paint(image, shape, grey)


def _midline(image: np.ndarray, grid: Grid, brain: np.ndarray, values: Mapping[str, float]) -> None:
    """Fluid between the hemispheres, and the cortex along it."""
    far = step(np.abs(grid.y), 20.0, 42.0) + step(grid.z, 20.0, 34.0)
    near = np.clip(far, 0.0, 1.0) * brain
    paint(image, near * ramp(5.5 - np.abs(grid.x), grid.pixel), values["grey"])
    paint(image, near * ramp(1.2 - np.abs(grid.x), grid.pixel), values["csf"])
