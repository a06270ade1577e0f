"""CT volumes in HU: anatomy, finding, scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.head import head_of
from dinorad_rt.phantoms.plan import CTSeries, Region
from dinorad_rt.phantoms.shapes import Grid, ramp, step
from dinorad_rt.phantoms.trunk import Volume, build_abdomen, build_chest, trunk_of

HEAD_HU = {
    "air": -1000.0,
    "scalp": 25.0,
    "fat": -60.0,
    "bone": 950.0,
    "csf": 6.0,
    "grey": 38.0,
    "white": 28.0,
}
WINDOWS = {
    "head": ((40.0, 80.0),),
    "chest": ((40.0, 400.0), (-600.0, 1500.0)),
    "abdomen": ((60.0, 400.0),),
}
"""(centre, width) in HU that a series names, the usual one first."""

CT_MASKS: dict[Region, dict[int, str]] = {
    "head": {1: "brain", 2: "ventricles", 7: "bleed"},
    "chest": {1: "lungs", 2: "heart", 3: "aorta", 4: "spine", 7: "lung mass"},
    "abdomen": {
        1: "liver",
        2: "spleen",
        3: "kidneys",
        4: "aorta",
        5: "spine",
        6: "stomach",
        7: "liver lesion",
    },
}
FINDING = 7

_FIELD = {"head": 236.0, "chest": 400.0, "abdomen": 400.0}
_SPACING = {"head": 9.0, "chest": 18.0, "abdomen": 14.0}


@dataclass(frozen=True)
class CTVolume:
    """A finished volume; slices from feet to head.

    Attributes:
        hu: (slices, rows, columns) float64; -∞ outside the circle that the scanner reconstructs.
        mask: organs and finding after `CT_MASKS`.
        spacing: (slice, row, column) mm.
        origin: LPS position of voxel (0, 0, 0), mm.
        windows: (centre, width) in HU.
        contrast: 0 to 1.
    """

    hu: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    windows: tuple[tuple[float, float], ...]
    contrast: float


def scan(series: CTSeries, size: int, slices: int, name: tuple[int, int], seed: int) -> CTVolume:
    """Make one CT volume.

    Args:
        series: region and class.
        size: rows and columns.
        slices: number of slices.
        name: (patient, study) numbers.
        seed: of the data set.
    """
    anatomy, draws = Draws(seed, "patient", name[0], "ct"), Draws(seed, "ct", *name)
    pixel = _FIELD[series.region] * draws.uniform(0.97, 1.04) / size
    spacing = _SPACING[series.region] * draws.pick((0.95, 1.0, 1.05))
    origin = (
        -(size - 1) / 2.0 * pixel + draws.uniform(-6.0, 6.0),
        -(size - 1) / 2.0 * pixel + draws.uniform(-4.0, 4.0),
        -(slices - 1) / 2.0 * spacing + draws.uniform(-6.0, 6.0) + _lift(series.region),
    )
    grid = Grid(
        x=(origin[0] + pixel * np.arange(size))[None, None, :],
        y=(origin[1] + pixel * np.arange(size))[None, :, None],
        z=(origin[2] + spacing * np.arange(slices))[:, None, None],
        pixel=pixel,
    )
    contrast = 0.0 if series.region == "head" else draws.uniform(0.35, 1.0)
    volume = _anatomy(series.region, grid, anatomy, contrast)
    if series.label != "normal":
        _FINDINGS[series.region](volume, grid, draws, contrast)
    hu = _reconstructed(volume.hu, draws, 5.0 if series.region == "head" else 15.0)
    corner = ((np.arange(size) - (size - 1) / 2.0) / (size / 2.0)) ** 2
    hu[:, corner[:, None] + corner[None, :] > 1.0] = -np.inf
    place = (origin[0], origin[1], origin[2] + draws.uniform(-300.0, 300.0))
    return CTVolume(
        hu, volume.organs, (spacing, pixel, pixel), place, WINDOWS[series.region], contrast
    )


def _lift(region: Region) -> float:
    return {"head": 6.0, "chest": 6.0, "abdomen": 12.0}[region]


def _anatomy(region: Region, grid: Grid, draws: Draws, contrast: float) -> Volume:
    if region == "chest":
        return build_chest(grid, trunk_of(draws), draws, contrast)
    if region == "abdomen":
        return build_abdomen(grid, trunk_of(draws), draws, contrast)
    head = head_of(grid, draws, HEAD_HU)
    organs = np.zeros(grid.shape, np.uint8)
    organs[head.brain > 0.5] = 1
    organs[head.ventricles > 0.5] = 2
    return Volume(head.image, organs)


def _bleed(volume: Volume, grid: Grid, draws: Draws, contrast: float) -> None:
    """Bleeding into the brain, or a crescent under the skull."""
    side, value = draws.pick((-1.0, 1.0)), draws.uniform(56.0, 76.0)
    brain = (volume.organs > 0).astype(np.float64)
    grain = 3.0 * draws.texture(grid.shape, 30.0, 2)
    if draws.chance(0.6):
        size = draws.uniform(9.0, 22.0)
        centre = (side * draws.uniform(18, 42), draws.uniform(-35, 40), draws.uniform(-12, 26))
        axes = (size, size * draws.uniform(1.0, 1.5), max(size, 12.0))
        swelling = grid.ellipsoid(centre, tuple(1.5 * axis for axis in axes)) * brain
        volume.hu -= 12.0 * swelling * (volume.organs == 1)
        volume.add(grid.ellipsoid(centre, axes, angle=25.0) * brain, value + grain, FINDING)
        return
    thick = draws.uniform(0.06, 0.16)
    moved = grid.ellipsoid((-side * 64.0 * thick, 0.0, 0.0), (66.0, 86.0, 66.0))
    where = step(grid.x * side, 4.0, 14.0) * step(np.abs(grid.y - 6.0), 66.0, 50.0)
    inside = np.maximum(brain, _inner_table(grid)) * (volume.hu < 250.0)
    volume.add((1.0 - moved) * where * inside, value + grain, FINDING)


def _inner_table(grid: Grid) -> np.ndarray:
    """Room just inside the skull, where brain ends and fluid begins."""
    return np.asarray(grid.ellipsoid((0.0, 0.0, 0.0), (66.0, 85.0, 66.0)))


def _lung_mass(volume: Volume, grid: Grid, draws: Draws, contrast: float) -> None:
    """A round mass with a ragged rim."""
    for _ in range(draws.pick((1, 1, 2))):
        size = draws.uniform(11.0, 26.0)
        side = draws.pick((-1.0, 1.0))
        centre = (side * draws.uniform(62, 100), draws.uniform(-35, 45), draws.uniform(-40, 55))
        ragged = 1.0 + 0.22 * draws.texture(grid.shape, 26.0, 2)
        distance = np.sqrt(
            (grid.x - centre[0]) ** 2
            + (grid.y - centre[1]) ** 2
            + (0.8 * (grid.z - centre[2])) ** 2
        )
        mass = ramp(size * ragged - distance, 2.0 * grid.pixel)
        lung = volume.organs == 1
        volume.add(mass * lung, 34.0 + 30.0 * contrast, FINDING)


def _liver_lesion(volume: Volume, grid: Grid, draws: Draws, contrast: float) -> None:
    """Metastases: darker than the liver, some nearly not."""
    darker = draws.uniform(18.0, 60.0)
    for _ in range(draws.pick((1, 2, 3, 5))):
        size = draws.uniform(8.0, 22.0)
        centre = (draws.uniform(-112, -28), draws.uniform(-45, 32), draws.uniform(-5, 50))
        shape = grid.ellipsoid(centre, (size, 0.9 * size, max(size, 10.0)))
        liver = (volume.organs == 1) | (volume.organs == FINDING)
        volume.add(shape * liver, 56.0 + 52.0 * contrast - darker, FINDING)


_FINDINGS = {"head": _bleed, "chest": _lung_mass, "abdomen": _liver_lesion}


def _reconstructed(hu: np.ndarray, draws: Draws, sigma: float) -> np.ndarray:
    """Blur of the kernel and correlated noise, each slice for itself."""
    from scipy.ndimage import gaussian_filter

    width = draws.uniform(0.45, 0.7)
    noise = gaussian_filter(draws.noise(hu.shape), (0.0, width, width), truncate=2.5)
    level = sigma * draws.uniform(0.7, 1.5) / max(float(noise.std()), 1e-6)
    blurred = gaussian_filter(hu, (0.0, 0.5, 0.5), truncate=2.5)
    result: np.ndarray = np.clip(blurred + level * noise, -1024.0, 3071.0)
    return result
