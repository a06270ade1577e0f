"""Chest and abdomen in three dimensions, in HU, with an organ map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.shapes import Grid, arch, paint, ramp, step

AIR, FAT, MUSCLE, BONE = -1000.0, -100.0, 52.0, 620.0


@dataclass
class Volume:
    """HU and organ labels while a body is built up; both (slices, rows, columns)."""

    hu: np.ndarray
    organs: np.ndarray

    def add(self, membership: np.ndarray, value: float | np.ndarray, organ: int = 0) -> None:
        """Put an organ over what was there; `organ` 0 leaves the map as it is."""
        paint(self.hu, membership, value)
        if organ:
            self.organs[np.broadcast_to(membership > 0.5, self.organs.shape)] = organ


@dataclass(frozen=True)
class Trunk:
    """Build of a patient, mm: half-axes of the body and its layer of fat."""

    width: float
    depth: float
    fat: float


def trunk_of(draws: Draws) -> Trunk:
    """Draw a patient's build."""
    size = draws.uniform(0.92, 1.06)
    return Trunk(165.0 * size, 112.0 * size, draws.uniform(8.0, 22.0))


def air_volume(grid: Grid) -> Volume:
    """Nothing but air and the table."""
    hu = np.full(grid.shape, AIR)
    curve = grid.y - 128.0 + 0.0009 * grid.x**2
    paint(hu, ramp(2.2 - np.abs(curve), grid.pixel) * (np.abs(grid.x) < 195.0), -450.0)
    return Volume(hu, np.zeros(grid.shape, np.uint8))


def build_chest(grid: Grid, trunk: Trunk, draws: Draws, contrast: float) -> Volume:
    """Chest: lungs (1), heart (2), aorta (3), spine (4)."""
    volume = air_volume(grid)
    _wall(volume, grid, trunk, draws, ribs=True)
    inner = (trunk.width - trunk.fat - 20.0, trunk.depth - trunk.fat - 16.0)
    taper = 0.74 + 0.26 * step(grid.z, 110.0, 10.0)
    for side in (-1.0, 1.0):
        shape = _lung(grid, inner, taper, side)
        volume.add(shape, -865.0 + 40.0 * step(grid.y, -60.0, 80.0), 1)
    _mediastinum(volume, grid, draws, contrast)
    _lung_vessels(volume, grid, draws)
    _spine(volume, grid, trunk, 4)
    high = step(grid.z, 0.0, 20.0)
    for side in (-1.0, 1.0):
        blade = (side * (trunk.width - trunk.fat - 42.0), 0.52 * trunk.depth)
        volume.add(grid.cylinder(blade, (34.0, 3.8), angle=-side * 38.0) * high, 360.0)
    return volume


def build_abdomen(grid: Grid, trunk: Trunk, draws: Draws, contrast: float) -> Volume:
    """Abdomen: liver (1), spleen (2), kidneys (3), aorta (4), spine (5), stomach (6)."""
    volume = air_volume(grid)
    _wall(volume, grid, trunk, draws, ribs=False)
    hollow = grid.cylinder(
        (0.0, -6.0), (trunk.width - trunk.fat - 14, trunk.depth - trunk.fat - 12)
    )
    volume.add(hollow, -95.0 + 14.0 * draws.texture(grid.shape, 14.0, 3))
    for side in (-1.0, 1.0):
        volume.add(grid.cylinder((side * 36.0, 62.0), (24.0, 22.0)), MUSCLE)
        volume.add(grid.cylinder((side * 30.0, 28.0), (13.0, 17.0), angle=side * 25.0), MUSCLE)
    _bowel(volume, grid, draws)
    _organs(volume, grid, draws, contrast)
    _spine(volume, grid, trunk, 5)
    volume.add(grid.cylinder((9.0, 6.0), (9.5, 9.5)), 45.0 + 130.0 * contrast, 4)
    volume.add(grid.cylinder((-17.0, 4.0), (11.0, 8.5)), 42.0 + 85.0 * contrast)
    return volume


def _wall(volume: Volume, grid: Grid, trunk: Trunk, draws: Draws, *, ribs: bool) -> None:
    """Skin, fat, muscle and the rings of the ribs."""
    volume.add(grid.cylinder((0.0, 0.0), (trunk.width, trunk.depth)), 20.0)
    volume.add(grid.cylinder((0.0, 0.0), (trunk.width - 2.5, trunk.depth - 2.5)), FAT)
    muscle = (trunk.width - trunk.fat, trunk.depth - trunk.fat)
    streaks = 14.0 * draws.texture(grid.shape, 30.0, 2)
    volume.add(grid.cylinder((0.0, -2.0), muscle), MUSCLE + streaks)
    ring = (muscle[0] - 11.0, muscle[1] - 9.0)
    distance = np.sqrt((grid.x / ring[0]) ** 2 + ((grid.y + 2.0) / ring[1]) ** 2)
    near = ramp(4.4 - np.abs(distance - 1.0) * ring[1], grid.pixel)
    angle = np.arctan2(np.abs(grid.x), -grid.y - 2.0)
    phase = np.cos(2 * np.pi * (grid.z / 27.0 + 1.9 * angle) + draws.uniform(0, 6.0))
    where = step(angle, 0.35, 0.5) * (1.0 if ribs else step(grid.z, -30.0, 10.0))
    volume.add(near * step(phase, -0.1, 0.25) * where, 330.0)
    if ribs:
        volume.add(grid.cylinder((0.0, -ring[1] - 2.0), (17.0, 5.0)), 260.0)


def _lung(grid: Grid, inner: tuple[float, float], taper: np.ndarray, side: float) -> np.ndarray:
    """Membership in one lung."""
    wide, deep = inner[0] * taper, inner[1] * taper
    chest = 1.0 - np.sqrt((grid.x / wide) ** 2 + ((grid.y + 1.0) / deep) ** 2)
    inside = ramp(chest * deep, grid.pixel)
    medial = 22.0 + 12.0 * step(grid.y, 15.0, -30.0) + 6.0 * step(grid.y, 45.0, 70.0)
    dome = -78.0 + 26.0 * arch((grid.x * side - 68.0) / 80.0) * arch(grid.y / 120.0)
    tissue = ramp(grid.x * side - medial, 2.0 * grid.pixel) * step(grid.z, dome - 3.0, dome + 3.0)
    return np.asarray(inside * tissue)


def _mediastinum(volume: Volume, grid: Grid, draws: Draws, contrast: float) -> None:
    """Heart, aorta, pulmonary artery, windpipe."""
    size = draws.uniform(0.92, 1.12)
    heart = grid.ellipsoid((24.0, -22.0, -38.0), (62 * size, 46 * size, 58.0), angle=28.0)
    volume.add(heart, 44.0 + 45.0 * contrast, 2)
    for x, y in ((38.0, -18.0), (2.0, -38.0)):
        chamber = grid.ellipsoid((x, y, -38.0), (21.0, 18.0, 36.0), angle=28.0)
        volume.add(chamber, 46.0 + 130.0 * contrast)
    high = step(grid.z, 5.0, 15.0)
    blood = 46.0 + 150.0 * contrast
    volume.add(grid.cylinder((27.0, 42.0), (12.0, 12.0)), blood, 3)
    volume.add(grid.cylinder((-8.0, -24.0), (15.0, 15.0)) * high, blood, 3)
    volume.add(grid.ellipsoid((10.0, 6.0, 48.0), (13.0, 42.0, 11.0), angle=22.0), blood, 3)
    volume.add(grid.ellipsoid((6.0, -14.0, 16.0), (38.0, 12.0, 12.0), angle=-14.0), blood)
    volume.add(grid.cylinder((0.0, 14.0), (8.5, 8.5)) * step(grid.z, 24.0, 30.0), AIR)
    for side in (-1.0, 1.0):
        bronchus = grid.ellipsoid((side * 22.0, 16.0, 14.0), (19.0, 7.0, 14.0), angle=side * 8.0)
        volume.add(bronchus, AIR)


def _lung_vessels(volume: Volume, grid: Grid, draws: Draws) -> None:
    """Vessels cut across: small dots, denser towards the hila."""
    dots = draws.texture(grid.shape, 58.0, 1)
    hilar = step(np.abs(grid.x), 120.0, 30.0) * step(np.abs(grid.y), 95.0, 15.0)
    share = step(dots, 1.9 - 0.8 * hilar, 2.5 - 0.8 * hilar)
    lung = volume.organs == 1
    volume.hu[lung] += (share * 760.0)[lung]


def _spine(volume: Volume, grid: Grid, trunk: Trunk, organ: int) -> None:
    """Vertebral bodies, canal, processes."""
    y = trunk.depth - trunk.fat - 57.0
    disc = step(np.cos(2 * np.pi * grid.z / 29.0), -0.8, -0.5)
    volume.add(grid.cylinder((0.0, y), (21.0, 17.0)), 85.0 + 330.0 * disc, organ)
    volume.add(grid.cylinder((0.0, y), (18.5, 14.5)), 85.0 + 105.0 * disc)
    arch_bone = grid.cylinder((0.0, y + 26.0), (17.0, 12.0))
    volume.add(arch_bone, 420.0, organ)
    volume.add(grid.cylinder((0.0, y + 44.0), (4.0, 14.0)), 380.0 * disc + 55.0, organ)
    for side in (-1.0, 1.0):
        process = grid.cylinder((side * 30.0, y + 26.0), (20.0, 4.5), angle=side * 14.0)
        volume.add(process, 300.0 * disc + 50.0, organ)
    volume.add(grid.cylinder((0.0, y + 24.0), (10.0, 8.0)), 30.0)


def _bowel(volume: Volume, grid: Grid, draws: Draws) -> None:
    """Loops of bowel, some with gas."""
    for _ in range(11):
        centre = (draws.uniform(-85, 95), draws.uniform(-72, -5), draws.uniform(-60, 40))
        size = (draws.uniform(11, 19), draws.uniform(9, 15), draws.uniform(14, 34))
        angle = draws.uniform(-60, 60)
        volume.add(grid.ellipsoid(centre, size, angle=angle), 42.0)
        inner = tuple(0.8 * axis for axis in size)
        gas = draws.chance(0.4)
        volume.add(grid.ellipsoid(centre, inner, angle=angle), -820.0 if gas else 14.0)


def _organs(volume: Volume, grid: Grid, draws: Draws, contrast: float) -> None:
    """Liver, spleen, stomach, kidneys; the parenchyma takes contrast up."""
    s = draws.uniform(0.93, 1.08)
    grain = 5.0 * draws.texture(grid.shape, 26.0, 2)
    stomach = grid.ellipsoid((62.0, -34.0, 30.0), (40.0, 27.0, 42.0), angle=-20.0)
    volume.add(stomach, 35.0, 6)
    inner = grid.ellipsoid((62.0, -34.0, 30.0), (36.0, 23.0, 38.0), angle=-20.0)
    volume.add(inner, np.where(grid.y < -42.0, -900.0, 12.0))
    liver = np.maximum(
        grid.ellipsoid((-70.0, -4.0, 22.0), (72 * s, 74 * s, 78.0), angle=12.0),
        grid.ellipsoid((-18.0, -42.0, 34.0), (62 * s, 30 * s, 42.0), angle=-6.0),
    )
    tissue = 56.0 + 52.0 * contrast + grain
    cavity = grid.cylinder((0.0, -4.0), (134.0 * s, 84.0 * s))
    volume.add(liver * cavity, tissue, 1)
    for _ in range(7):
        centre = (draws.uniform(-115, -25), draws.uniform(-50, 35), draws.uniform(-10, 60))
        vein = grid.ellipsoid(centre, (3.4, 18.0, 4.5), angle=draws.uniform(-80, 80))
        volume.add(vein * (volume.organs == 1), 45.0 + 85.0 * contrast)
    spleen = grid.ellipsoid((104 * s, 32.0, 34.0), (26.0, 44.0, 44.0), angle=24.0)
    volume.add(spleen * cavity, 50.0 + 66.0 * contrast + grain, 2)
    for side, z in ((-1.0, -22.0), (1.0, -10.0)):
        centre, turn = (side * 62.0, 44.0, z), side * 28.0
        volume.add(
            grid.ellipsoid(centre, (22.0, 29.0, 50.0), angle=turn), 34.0 + 130.0 * contrast, 3
        )
        pelvis = (side * 54.0, 40.0, z)
        volume.add(grid.ellipsoid(pelvis, (9.0, 14.0, 28.0), angle=turn), -60.0 + 40.0 * contrast)
