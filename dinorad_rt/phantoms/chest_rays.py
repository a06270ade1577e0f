"""A chest as an X-ray tube sees it: how much air, soft tissue and bone each ray passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorad_rt.phantoms.chest import SIDES, Chest
from dinorad_rt.phantoms.shapes import Grid, arch, chord, deposit, ramp, step


@dataclass(frozen=True, eq=False)
class Rays:
    """What each ray of an image passes; (rows, columns) arrays in millimetres.

    Attributes:
        body: length within the body's outline.
        lungs: air-filled lung, per side (right, left).
        heart: length through the heart.
        solid: soft tissue within the lungs' field (vessels, aorta).
        airway: trachea and main bronchi.
        bone: ribs, clavicles, scapulae, spine.
    """

    body: np.ndarray
    lungs: tuple[np.ndarray, np.ndarray]
    heart: np.ndarray
    solid: np.ndarray
    airway: np.ndarray
    bone: np.ndarray


def trace(chest: Chest, grid: Grid, inspiration: float) -> Rays:
    """Project a chest.

    Args:
        chest: the patient.
        grid: (rows, 1) y and (1, columns) x.
        inspiration: mm that the diaphragm moved down.
    """
    x, y = grid.x, grid.y
    heart = chord(
        x - 21.0,
        y - 50.0 - 0.5 * inspiration,
        (*chest.heart, chest.heart[1]),
        angle=chest.heart_angle,
    )
    lungs = tuple(_lung(chest, x, y, side, inspiration) for side in range(2))
    return Rays(
        body=_body(chest, x, y),
        lungs=(np.maximum(lungs[0] - heart, 0.0), np.maximum(lungs[1] - heart, 0.0)),
        heart=heart,
        solid=_aorta(chest, x, y) + _vessels(chest, grid, inspiration),
        airway=_airway(x, y),
        bone=_tubes(chest, grid) + _spine(chest, x, y) + _scapulae(chest, x, y),
    )


def _body(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Trunk, shoulders and neck."""
    side = chest.half_width + 24.0 + 75.0 * step(y, -35.0, -130.0)
    shoulder = -158.0 + 0.30 * np.maximum(np.abs(x) - 48.0, 0.0) ** 1.06
    depth = chest.thickness * (0.66 + 0.34 * step(y, -165.0, -30.0) + 0.12 * step(y, 20.0, 150.0))
    rim = np.sqrt(np.clip((y - shoulder) / 60.0, 0.0, 1.0))
    trunk = depth * arch(x / side) ** 0.8 * rim
    neck = 0.55 * chest.thickness * arch(x / 56.0) * step(y, -60.0, -150.0)
    breasts = sum(
        chest.breast * arch((x - s * 72.0) / 62.0) * step(y, -30.0, 85.0) * step(y, 132.0, 84.0)
        for s in SIDES
    )
    return np.asarray(np.sqrt(trunk * trunk + neck * neck) + breasts * (trunk > 0))


def _lung(chest: Chest, x: np.ndarray, y: np.ndarray, index: int, inspiration: float) -> np.ndarray:
    """Depth of one lung before the heart takes its place."""
    x = x * SIDES[index]
    lateral = chest.cage(y)
    medial = 14.0 + 5.0 * step(y, -110.0, -70.0) + 6.0 * step(y, -30.0, 30.0)
    middle, half = (lateral + medial) / 2.0, np.maximum((lateral - medial) / 2.0, 1e-3)
    across = (x - middle) / half
    fall = 48.0 * np.clip(across + 0.3, 0.0, 1.3) ** 2.2 + 10.0 * np.clip(-0.3 - across, 0.0, 1.0)
    base = chest.dome[index] + inspiration + fall
    # the lung's back reaches further down than the dome that is seen
    recess = ramp(base - y, 5.0) * (0.55 + 0.45 * step(base - y, 0.0, 55.0))
    tall = step(y, chest.apex, chest.apex + 75.0)
    depth = 0.74 * chest.thickness * (0.45 + 0.55 * tall)
    inside = half > 2.0
    lung: np.ndarray = depth * arch(across) ** 0.75 * recess * inside
    return lung


def _aorta(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Arch, descending aorta and the vessels of the upper mediastinum."""
    knob = chord(x - 22.0, y + 62.0, (chest.knob, chest.knob * 1.1, 22.0))
    descending = 24.0 * arch((x - 17.0) / 13.0) * step(y, -62.0, -48.0)
    cava = 20.0 * arch((x + 19.0) / 12.0) * step(y, -120.0, -90.0) * step(y, 10.0, -20.0)
    return np.asarray(np.maximum(knob, descending) + cava)


def _airway(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Air in trachea and main bronchi, mm."""
    trachea = 15.0 * arch((x + 2.0) / 8.5) * step(y, -40.0, -46.0)
    total: np.ndarray = trachea
    for side, slope in ((-1.0, 0.9), (1.0, 0.62)):
        along = x * side
        course = -46.0 + slope * along
        bronchus = 10.0 * arch((y - course) / 7.5) * step(along, 0.0, 6.0) * step(along, 38.0, 26.0)
        total = np.maximum(total, bronchus)
    return total


def _spine(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Vertebral bodies with the gaps of the discs, and spinous processes."""
    middle = chest.spine_curve * np.sin((y + 160.0) / 130.0)
    phase = np.cos(2 * np.pi * y / chest.rib_gap)
    width = 17.0 + 2.0 * step(y, -120.0, 120.0) - 1.6 * phase
    bodies = 9.0 * arch((x - middle) / width) ** 0.5 * (0.72 + 0.28 * step(phase, -0.95, -0.5))
    low = y - chest.rib_gap * np.rint(y / chest.rib_gap) - 3.0
    process = 5.0 * arch((x - middle) / 4.5) * arch(low / 8.0)
    pedicles = sum(4.0 * arch((x - middle - s * 11.0) / 4.5) * arch((low + 6) / 5.0) for s in SIDES)
    return np.asarray(bodies + process + pedicles)


def _scapulae(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shoulder blades and upper arms at the sides."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for side in SIDES:
        along = x * side - chest.half_width * 0.97
        edge = along - 0.16 * (y + 60.0)
        blade = step(edge, -1.0, 3.0) * step(y, 0.0, -14.0) * step(y, -140.0, -118.0)
        total += blade * (3.0 + 3.5 * step(np.abs(edge), 6.0, 0.0)) * step(edge, 60.0, 35.0)
        total += chord(along - 52.0, y + 118.0, (21.0, 23.0, 13.0))
    return total


def _tubes(chest: Chest, grid: Grid) -> np.ndarray:
    """Ribs and clavicles as tubes with a dense wall, mm of bone."""
    from scipy.signal import fftconvolve

    x, y, lengths, density = chest.bones
    lines = deposit((grid.y.size, grid.x.size), *_place(grid, x, y), lengths * density)
    reach = int(np.ceil(chest.rib_radius / grid.pixel)) + 1
    offset = np.arange(-reach, reach + 1) * grid.pixel
    r2 = offset[:, None] ** 2 + offset[None, :] ** 2
    outer2, inner2 = chest.rib_radius**2, (chest.rib_radius - 1.8) ** 2
    ball = np.sqrt(np.clip(outer2 - r2, 0, None)) - 0.8 * np.sqrt(np.clip(inner2 - r2, 0, None))
    bone = fftconvolve(lines, ball / ball.sum(), mode="same")
    section = np.pi * (outer2 - 0.8 * inner2) / grid.pixel**2
    return np.asarray(np.maximum(bone, 0.0) * section)


def _vessels(chest: Chest, grid: Grid, inspiration: float) -> np.ndarray:
    """Blood that the rays meet in the vessels of the lungs, mm."""
    from scipy.ndimage import gaussian_filter

    total = np.zeros((grid.y.size, grid.x.size))
    t = (np.arange(8) + 0.5)[:, None] / 8.0
    radii = chest.vessels[4]
    for low, high in ((0.0, 1.3), (1.3, 2.4), (2.4, 9.0)):
        x0, y0, x1, y1, radius = chest.vessels[:, (radii >= low) & (radii < high)]
        volume = np.pi * radius**2 * np.hypot(x1 - x0, y1 - y0) / 8.0
        blood = np.broadcast_to(volume / grid.pixel**2, (8, len(x0))).ravel()
        x, y = (x0 + t * (x1 - x0)).ravel(), (y0 + t * (y1 - y0)).ravel()
        lines = deposit(total.shape, *_place(grid, x, y + 0.3 * inspiration), blood)
        width = max(0.5 * float(radius.mean()) / grid.pixel, 0.45)
        total += gaussian_filter(lines, width, truncate=2.5)
    return 1.4 * total


def _place(grid: Grid, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractional (columns, rows) of points in millimetres."""
    return (x - grid.x[0, 0]) / grid.pixel, (y - grid.y[0, 0]) / grid.pixel
