"""MR slices of the brain: arbitrary scale, bias field, coil shading, Rician noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.head import Head, head_of
from dinorad_rt.phantoms.shapes import Grid

TISSUES = ("air", "scalp", "fat", "bone", "csf", "grey", "white")
CONTRASTS = {
    "FLAIR": (0.0, 0.42, 0.78, 0.07, 0.10, 0.56, 0.43),
    "T1": (0.0, 0.45, 0.98, 0.09, 0.17, 0.46, 0.65),
    "T2": (0.0, 0.36, 0.66, 0.06, 0.98, 0.52, 0.36),
}
"""Weighting → signal of each of `TISSUES`."""

TIMES = {"FLAIR": (9000.0, 110.0, 2500.0), "T1": (550.0, 11.0, 0.0), "T2": (4500.0, 96.0, 0.0)}
"""Weighting → repetition, echo and inversion time, ms."""

MR_MASK = {1: "brain", 2: "ventricles", 3: "oedema", 4: "tumour"}

_LESION = {"FLAIR": (0.86, 0.74, 0.35), "T1": (0.36, 0.40, 0.24), "T2": (0.80, 0.84, 0.95)}
"""Weighting → signal of tumour, oedema, necrosis."""


@dataclass(frozen=True)
class MRVolume:
    """A finished stack of slices.

    Attributes:
        stored: (slices, rows, columns) uint16, arbitrary scale.
        mask: after `MR_MASK`.
        spacing: (slice, row, column) mm.
        origin: LPS position of voxel (0, 0, 0), mm.
        axes: (3, 3) direction cosines, rows = along columns, along rows, along slices.
        weighting: FLAIR, T1 or T2.
    """

    stored: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    axes: np.ndarray
    weighting: str


def acquire(tumour: bool, size: int, slices: int, name: tuple[int, int], seed: int) -> MRVolume:
    """Make one MR series.

    Args:
        tumour: whether the patient has one.
        size: rows; the columns are 7/8 of them.
        slices: number of slices.
        name: (patient, study) numbers.
        seed: of the data set.
    """
    own, draws = Draws(seed, "patient", name[0], "mr"), Draws(seed, "mr", *name)
    weighting = draws.pick(("FLAIR", "FLAIR", "T2", "T1"))
    columns = round(size * 7 / 8)
    pixel, gap = 236.0 * draws.uniform(0.96, 1.06) / size, draws.uniform(11.5, 13.5)
    grid = Grid(
        x=((np.arange(columns) - (columns - 1) / 2) * pixel + draws.uniform(-4, 4))[None, None, :],
        y=((np.arange(size) - (size - 1) / 2) * pixel + draws.uniform(-6, 6))[None, :, None],
        z=((np.arange(slices) - (slices - 1) / 2) * gap + draws.uniform(0, 8))[:, None, None],
        pixel=pixel,
    )
    head = head_of(grid, own, dict(zip(TISSUES, CONTRASTS[weighting], strict=True)))
    signal = head.image
    mask = np.zeros(grid.shape, np.uint8)
    mask[head.brain > 0.5] = 1
    mask[head.ventricles > 0.5] = 2
    if tumour:
        _tumour(signal, mask, head, grid, (weighting, own, draws.uniform(0.85, 1.15)))
    stored = _received(signal, grid, draws)
    axes = _axes(draws)
    corner = axes.T @ np.array([grid.x[0, 0, 0], grid.y[0, 0, 0], grid.z[0, 0, 0]])
    origin = (float(corner[0]), float(corner[1]), float(corner[2]))
    return MRVolume(stored, mask, (gap, pixel, pixel), origin, axes, weighting)


def _tumour(
    signal: np.ndarray,
    mask: np.ndarray,
    head: Head,
    grid: Grid,
    how: tuple[str, Draws, float],
) -> None:
    """A mass with oedema around and a dead core; small ones are hard to see."""
    weighting, own, growth = how
    size = own.uniform(9.0, 23.0) * growth
    side = own.pick((-1.0, 1.0))
    centre = (side * own.uniform(20, 40), own.uniform(-42, 42), own.uniform(-12, 24))
    tall = max(size, 11.0)
    lumps = 1.0 + 0.18 * own.texture(grid.shape, 16.0, 2)
    parts = ((1.75, 3, 1), (1.0, 4, 0), (0.45, 4, 2))
    strength = own.uniform(0.55, 1.0)
    for scale, label, which in parts:
        axes = (scale * size, scale * size * 1.15, scale * tall)
        membership = grid.ellipsoid(centre, axes, angle=side * 20.0) * head.brain
        if scale > 1.0:
            membership = membership * np.clip(0.55 + 0.5 * (lumps - 1.0) / 0.18, 0.0, 1.0)
            membership *= 1.0 - head.ventricles
        signal += strength * membership * (_LESION[weighting][which] - signal)
        mask[(membership > 0.5) & (mask > 0)] = label


def _received(signal: np.ndarray, grid: Grid, draws: Draws) -> np.ndarray:
    """Coil shading, bias, blur, Rician noise and an arbitrary scale: uint16."""
    from scipy.ndimage import gaussian_filter

    bias = np.exp(draws.uniform(0.05, 0.18) * draws.texture(signal.shape, 2.0, 1))
    coil_x, coil_y = draws.uniform(-120, 120), draws.pick((-130.0, 130.0))
    distance = np.hypot(grid.x - coil_x, grid.y - coil_y) / 130.0
    coil = 1.0 + draws.uniform(0.0, 0.45) / (0.35 + distance**2)
    blurred = gaussian_filter(signal, (0.0, 0.5, 0.5), truncate=2.5) * bias * coil
    sigma = draws.uniform(0.012, 0.035)
    real = blurred + sigma * draws.noise(signal.shape)
    magnitude = np.hypot(real, sigma * draws.noise(signal.shape))
    scale = 10.0 ** draws.uniform(2.4, 3.4)
    stored: np.ndarray = np.rint(np.clip(magnitude * scale, 0, 65535)).astype(np.uint16)
    return stored


def _axes(draws: Draws) -> np.ndarray:
    """Axial slices, tilted by a few degrees as a technologist would."""
    tilt, turn = np.radians(draws.uniform(-12, 12)), np.radians(draws.uniform(-3, 3))
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]]
    )
    about_z = np.array(
        [[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    axes: np.ndarray = about_x @ about_z
    return axes
