"""The anatomy of a chest: sizes, courses of ribs and clavicles, tree of vessels.

Millimetres in the detector plane: x to the patient's left (right on the image), y to the feet,
(0, 0) in the middle of the chest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dinorad_rt.phantoms.draws import Draws

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
        vessels: (5, branches) start x, start y, end x, end y, radius.
        bones: (4, pieces) x, y, length, relative density of short pieces of ribs and clavicles.
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
    bones: np.ndarray

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
    bare = Chest(
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
        bones=np.zeros((4, 0)),
    )
    ribs = [_rib(bare, number, side, draws) for number in range(RIBS) for side in SIDES]
    return replace(bare, bones=np.concatenate([*ribs, *_clavicles(bare, draws)], axis=1))


def _rib(chest: Chest, number: int, side: float, draws: Draws) -> np.ndarray:
    """Pieces of one rib: an inclined ring from the spine to the front."""
    turn = np.linspace(0.10, 0.70 * np.pi, 260)
    start = chest.apex + 16.0 + number * chest.rib_gap + draws.uniform(-1.5, 1.5)
    drop = chest.rib_drop + 4.6 * number
    wide = float(chest.cage(np.asarray(start + drop))) + 3.0
    x = side * (12.0 + (wide - 12.0) * np.sin(turn) ** 0.92)
    y = start + drop * (1.0 - np.cos(turn)) - 9.0 * np.sin(np.minimum(2.2 * turn, np.pi))
    return _pieces(x, y, 0.36 * chest.thickness * np.cos(turn), 1.0)


def _clavicles(chest: Chest, draws: Draws) -> list[np.ndarray]:
    """Pieces of both clavicles."""
    t = np.linspace(0.0, 1.0, 160)
    swing = -96.0 - 22.0 * t - 9.0 * np.sin(np.pi * 1.6 * t)
    return [
        _pieces(
            side * (17.0 + 0.98 * chest.half_width * t),
            swing + draws.uniform(-4.0, 4.0),
            20.0 * t,
            2.0,
        )
        for side in SIDES
    ]


def _pieces(x: np.ndarray, y: np.ndarray, z: np.ndarray, density: float) -> np.ndarray:
    """(4, pieces) of a curve; the length counts the depth as well."""
    points = np.stack([x, y, z])
    lengths = np.linalg.norm(np.diff(points, axis=1), axis=0)
    middles = (points[:2, 1:] + points[:2, :-1]) / 2.0
    return np.stack([*middles, lengths, np.full(len(lengths), density)])


def _tree(draws: Draws) -> np.ndarray:
    """Vessels that branch from both hila, level by level."""
    trunks = 11
    side = np.repeat(SIDES, trunks)
    count = 2 * trunks
    x, y = side * draws.uniforms(count, 30.0, 36.0), draws.uniforms(count, -16.0, 14.0)
    angle, radius = draws.uniforms(count, -80.0, 100.0), np.full(count, 4.2)
    levels = []
    while len(x):
        length = (5.0 + 6.0 * radius) * draws.uniforms(len(x), 0.7, 1.3)
        end_x = x + side * length * np.cos(np.radians(angle))
        end_y = y + length * np.sin(np.radians(angle))
        levels.append(np.stack([x, y, end_x, end_y, radius]))
        parent = np.repeat(np.flatnonzero(radius >= 0.9), 2)
        turn = np.where(np.arange(len(parent)) % 2, 1.0, -1.0)
        angle = angle[parent] + turn * draws.uniforms(len(parent), 8.0, 34.0)
        radius = radius[parent] * draws.uniforms(len(parent), 0.62, 0.82)
        x, y, side = end_x[parent], end_y[parent], side[parent]
    return np.concatenate(levels, axis=1)
