"""A chest as an X-ray tube sees it: how much air, soft tissue and bone each ray passes.

Millimetres in the detector plane: x to the patient's left (right on the image), y to the feet,
(0, 0) in the middle of the chest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.shapes import Grid, arch, chord, deposit, ramp, step

RIBS = 10
SIDES = (-1.0, 1.0)
"""Patient's right (left on the image), patient's left."""


@dataclass(frozen=True, eq=False)
class Chest:
    """Anatomy of a patient's chest. Lengths in millimetres, angles in degrees.

    Attributes:
        half_width: of the rib cage at its widest.
        apex: height of the lung apices (negative y).
        dome: lowest point of the lungs' base in the middle of each side, right and left.
        thickness: of the body, front to back.
        heart: half-axes of the heart's shadow; `heart_angle` its tilt.
        rib_gap, rib_drop: distance of ribs at the spine, fall of the first rib to the side.
        breast: thickness of breast shadows; 0 for none.
        spine_curve: sideways swing of the spine.
        vessels: (branches, 5) start x, start y, end x, end y, radius.
    """

    half_width: float
    apex: float
    dome: tuple[float, float]
    thickness: float
    heart: tuple[float, float]
    heart_angle: float
    knob: float
    rib_gap: float
    rib_drop: float
    rib_radius: float
    breast: float
    spine_curve: float
    vessels: np.ndarray

    def cage(self, y: np.ndarray) -> np.ndarray:
        """Half width of the inner chest wall at a height; 0 above the apices."""
        middle = 55.0
        reach = np.where(y < middle, middle - self.apex, 260.0)
        along = np.clip(np.abs(y - middle) / reach, 0.0, 1.0)
        wide: np.ndarray = self.half_width * (1.0 - along**2.4) ** 0.55
        return wide


def chest_of(draws: Draws, female: bool) -> Chest:
    """Draw the anatomy of one patient."""
    size = draws.uniform(0.95, 1.04) * (0.97 if female else 1.0)
    return Chest(
        half_width=134.0 * size,
        apex=-142.0 * size,
        dome=(draws.uniform(77, 87) * size, draws.uniform(84, 94) * size),
        thickness=draws.uniform(200.0, 236.0),
        heart=(draws.uniform(59, 66) * size, draws.uniform(47, 52) * size),
        heart_angle=draws.uniform(28.0, 44.0),
        knob=draws.uniform(12.0, 19.0),
        rib_gap=draws.uniform(21.5, 24.5) * size,
        rib_drop=draws.uniform(6.0, 14.0),
        rib_radius=draws.uniform(4.6, 5.8),
        breast=draws.uniform(12.0, 28.0) if female else 0.0,
        spine_curve=draws.uniform(-5.0, 5.0),
        vessels=_tree(draws),
    )


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


def trace(chest: Chest, grid: Grid, draws: Draws, inspiration: float) -> Rays:
    """Project a chest.

    Args:
        chest: the patient.
        grid: (rows, 1) y and (1, columns) x.
        draws: the patient's own stream: the same vessels and bones in each study.
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
        bone=_cage_bones(chest, grid, draws) + _spine(chest, x, y) + _scapulae(chest, x, y),
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
    return np.sqrt(trunk * trunk + neck * neck) + breasts * (trunk > 0)


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
    return np.maximum(knob, descending) + cava


def _airway(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Air in trachea and main bronchi, mm."""
    trachea = 15.0 * arch((x + 2.0) / 8.5) * step(y, -40.0, -46.0)
    total = trachea
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
    return bodies + process + pedicles


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


def _cage_bones(chest: Chest, grid: Grid, draws: Draws) -> np.ndarray:
    """Ribs and clavicles, mm of bone."""
    ribs = [_rib(chest, number, side, draws) for number in range(RIBS) for side in SIDES]
    bones = _tubes(grid, np.concatenate(ribs, axis=1), chest.rib_radius)
    clavicles = []
    for side in SIDES:
        t = np.linspace(0.0, 1.0, 160)
        x = side * (17.0 + (0.98 * chest.half_width) * t)
        y = -96.0 - 22.0 * t - 9.0 * np.sin(np.pi * 1.6 * t) + draws.uniform(-4.0, 4.0)
        clavicles.append(np.stack([x, y, 20.0 * t]))
    return bones + 1.25 * _tubes(grid, np.concatenate(clavicles, axis=1), chest.rib_radius + 1.6)


def _rib(chest: Chest, number: int, side: float, draws: Draws) -> np.ndarray:
    """Course of one rib, (3, points): an inclined ring from the spine to the front."""
    turn = np.linspace(0.10, 0.70 * np.pi, 260)
    start = chest.apex + 16.0 + number * chest.rib_gap + draws.uniform(-1.5, 1.5)
    drop = chest.rib_drop + 4.6 * number
    wide = float(chest.cage(np.asarray(start + drop))) + 3.0
    x = side * (12.0 + (wide - 12.0) * np.sin(turn) ** 0.92)
    y = start + drop * (1.0 - np.cos(turn)) - 9.0 * np.sin(np.minimum(2.2 * turn, np.pi))
    z = 0.36 * chest.thickness * np.cos(turn)
    return np.stack([x, y, z])


def _tubes(grid: Grid, points: np.ndarray, radius: float) -> np.ndarray:
    """Bone met along the rays by tubes with a dense wall, mm.

    Args:
        grid: of the image.
        points: (3, points) along the tubes, densely.
        radius: of the tubes, mm.
    """
    from scipy.signal import fftconvolve

    pixel = grid.pixel
    steps = np.linalg.norm(np.diff(points, axis=1), axis=0)
    steps = np.where(steps > 20.0, 0.0, steps)  # from the end of one tube to the next
    middles = (points[:, 1:] + points[:, :-1]) / 2.0
    columns, rows = _place(grid, middles[0], middles[1])
    lines = deposit((grid.y.size, grid.x.size), columns, rows, steps)
    reach = int(np.ceil(radius / pixel)) + 1
    offset = np.arange(-reach, reach + 1) * pixel
    r2 = offset[:, None] ** 2 + offset[None, :] ** 2
    inner = radius - 1.8
    ball = np.sqrt(np.clip(radius**2 - r2, 0, None)) - 0.8 * np.sqrt(
        np.clip(inner**2 - r2, 0, None)
    )
    section = np.pi * (radius**2 - 0.8 * inner**2)
    bone: np.ndarray = fftconvolve(lines, ball / ball.sum(), mode="same")
    return np.maximum(bone, 0.0) * section / pixel**2


def _vessels(chest: Chest, grid: Grid, inspiration: float) -> np.ndarray:
    """Blood that the rays meet in the vessels of the lungs, mm."""
    from scipy.ndimage import gaussian_filter

    total = np.zeros((grid.y.size, grid.x.size))
    t = (np.arange(12) + 0.5)[:, None] / 12.0
    for low, high in ((0.0, 1.3), (1.3, 2.4), (2.4, 9.0)):
        x0, y0, x1, y1, radius = chest.vessels[
            (chest.vessels[:, 4] >= low) & (chest.vessels[:, 4] < high)
        ].T
        length = np.hypot(x1 - x0, y1 - y0) / 12.0
        blood = np.broadcast_to(np.pi * radius**2 * length / grid.pixel**2, (12, len(x0)))
        x, y = (x0 + t * (x1 - x0)).ravel(), (y0 + t * (y1 - y0)).ravel()
        columns, rows = _place(grid, x, y + 0.3 * inspiration)
        width = max(0.5 * float(radius.mean()) / grid.pixel, 0.45)
        lines = deposit((grid.y.size, grid.x.size), columns, rows, blood.ravel())
        total += gaussian_filter(lines, width, truncate=2.5)
    return 1.4 * total


def _tree(draws: Draws) -> np.ndarray:
    """Vessels that branch from both hila."""
    branches: list[tuple[float, float, float, float, float]] = []
    for side in SIDES:
        for _ in range(11):
            angle = draws.uniform(-80.0, 100.0)
            start = (side * draws.uniform(30, 36), draws.uniform(-16, 14))
            _grow(branches, (*start, angle, 4.2), side, draws)
    return np.asarray(branches)


def _grow(
    branches: list[tuple[float, float, float, float, float]],
    tip: tuple[float, float, float, float],
    side: float,
    draws: Draws,
) -> None:
    """Add a branch from a tip (x, y, angle from the outward horizontal, radius), then its own."""
    x, y, angle, radius = tip
    length = (5.0 + 6.0 * radius) * draws.uniform(0.7, 1.3)
    end_x = x + side * length * np.cos(np.radians(angle))
    end_y = y + length * np.sin(np.radians(angle))
    branches.append((x, y, end_x, end_y, radius))
    if radius < 0.9:
        return
    for turn in (-1.0, 1.0):
        bend = angle + turn * draws.uniform(8.0, 34.0)
        _grow(branches, (end_x, end_y, bend, radius * draws.uniform(0.62, 0.82)), side, draws)


def _place(grid: Grid, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractional (columns, rows) of points in millimetres."""
    return (x - grid.x[0, 0]) / grid.pixel, (y - grid.y[0, 0]) / grid.pixel
