"""Findings on chest X-rays: nodules, opacities, effusions, from hardly seen to plain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dinorad_rt.phantoms.chest import SIDES, Chest
from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.shapes import Grid, chord, step

XrayKind = Literal["nodule", "opacity", "effusion"]
XRAY_KINDS: tuple[XrayKind, ...] = ("nodule", "opacity", "effusion")


@dataclass(frozen=True)
class XrayFinding:
    """One finding of one patient; the same place in each study.

    Attributes:
        kind: what it is.
        side: 0 the patient's right, 1 the left.
        spots: (x, y, radius) in mm, of nodules or of the parts of an opacity.
        extent: 0 (hardly seen) to 1 (plain); follow-ups change it.
    """

    kind: XrayKind
    side: int
    spots: tuple[tuple[float, float, float], ...]
    extent: float

    def grown(self, by: float) -> XrayFinding:
        """The same finding at another time; `extent` stays within 0.05 to 1."""
        return replace(self, extent=min(max(self.extent + by, 0.05), 1.0))


def finding_of(kind: XrayKind, chest: Chest, draws: Draws) -> XrayFinding:
    """Draw place and extent of a finding."""
    side = draws.whole(0, 1)
    spots: list[tuple[float, float, float]] = []
    if kind == "nodule":
        for _ in range(draws.pick((2, 3, 5, 7))):
            spots.append((*_in_lung(chest, side, draws), draws.uniform(8.0, 14.0)))
    elif kind == "opacity":
        x, y = _in_lung(chest, side, draws, lowest=draws.uniform(-40.0, 20.0))
        for _ in range(8):
            shift = (draws.uniform(-26.0, 26.0), draws.uniform(-36.0, 36.0))
            spots.append((x + shift[0], y + shift[1], draws.uniform(18.0, 32.0)))
    return XrayFinding(kind, side, tuple(spots), draws.uniform(0.5, 1.0))


def fluid_and_mass(
    finding: XrayFinding, chest: Chest, grid: Grid, lung: np.ndarray, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """What a finding adds along the rays.

    Args:
        finding: the finding.
        chest: the patient.
        grid: of the image.
        lung: depth of air of the lung on the finding's side, mm.
        draws: the finding's own stream.

    Returns:
        Air that turns into soft tissue, mm, never more than `lung`; the finding's mask, bool.
    """
    x, y = grid.x, grid.y
    if finding.kind == "nodule":
        added = np.zeros(lung.shape)
        for cx, cy, radius in finding.spots:
            r = radius * (0.7 + 0.9 * finding.extent)
            added = np.maximum(added, chord(x - cx, y - cy, (r, 0.9 * r, r), angle=30.0))
        return np.minimum(added, lung), (added > 0) & (lung > 0)
    if finding.kind == "opacity":
        share = _cloud(finding, x, y, draws.texture(lung.shape, 14.0, 4))
        return share * lung, (share > 0.12) & (lung > 5.0)
    lateral = np.clip(x * SIDES[finding.side] / chest.half_width, 0.0, 1.0)
    level = chest.dome[finding.side] + 24.0 - 125.0 * finding.extent - 34.0 * lateral**3
    share = 0.92 * step(y, level - 8.0, level + 34.0)
    return share * lung, (share > 0.25) & (lung > 1.0)


def _cloud(finding: XrayFinding, x: np.ndarray, y: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Patchy share (0 to 1) of consolidated lung."""
    total = np.zeros(texture.shape)
    size = 0.65 + 0.6 * finding.extent
    for cx, cy, radius in finding.spots:
        total += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2.0 * (0.62 * size * radius) ** 2))
    patchy = 1.0 - np.exp(-np.clip(0.8 * total * (1.0 + 0.45 * texture) - 0.12, 0.0, None))
    return (0.3 + 0.65 * finding.extent) * patchy


def _in_lung(
    chest: Chest, side: int, draws: Draws, lowest: float | None = None
) -> tuple[float, float]:
    """A point well inside the lung field of one side, not above `lowest` if that is given."""
    top = chest.apex + 45.0 if lowest is None else lowest
    y = draws.uniform(top, chest.dome[side] - 12.0)
    lateral = float(chest.cage(np.asarray(y)))
    inner = 48.0 if y < 0 else (88.0 if side else 58.0)
    return SIDES[side] * draws.uniform(min(inner, 0.7 * lateral), 0.86 * lateral), y
