"""Where slices lie in the patient: axes, order, spacing, gaps, duplicates, tilt.

Coordinates are LPS millimetres, as in DICOM (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAME_POSITION = 1e-3
"""Slices closer than this (mm) lie at the same position."""

UNEVEN = 0.02
"""Part of the median distance by which a distance may differ before it is called a gap."""

TILT_DEGREES = 0.5
"""Angle between stacking direction and slice normal from which a stack counts as tilted."""


@dataclass(frozen=True)
class Stack:
    """Order and geometry of slices.

    Attributes:
        order: indices of the given positions, sorted along the normal; later slices of one
            position left out.
        left_out: number of slices left out because another lies at their position.
        slice_axis: (3,) unit vector from slice to slice; not the normal if the stack is tilted.
        spacing: median distance of neighbours along `slice_axis`, mm; NaN for one slice.
        problems: gaps, duplicates, tilt, in words.
    """

    order: tuple[int, ...]
    left_out: int
    slice_axis: np.ndarray
    spacing: float
    problems: tuple[str, ...]


def in_plane_axes(cosines: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray] | None:
    """(row axis, column axis) of ImageOrientationPatient; None if it is absent or no rotation.

    The first triplet of the attribute points along a row, where the column index grows: it is
    the column axis here. The second one is the row axis.
    """
    if cosines is None or len(cosines) != 6:
        return None
    column, row = (np.asarray(part, np.float64) for part in (cosines[:3], cosines[3:]))
    lengths = np.linalg.norm(column), np.linalg.norm(row)
    if not np.allclose(lengths, 1.0, atol=0.05) or abs(float(column @ row)) > 0.02:
        return None
    return row / lengths[1], column / lengths[0]


def normal_of(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Unit normal of a slice: column axis × row axis."""
    normal: np.ndarray = np.cross(column, row)
    normal /= np.linalg.norm(normal)
    return normal


def stack_slices(positions: np.ndarray, normal: np.ndarray) -> Stack:
    """Sort slices of one orientation along their normal and look for what is wrong with them.

    Args:
        positions: (slices, 3) ImagePositionPatient.
        normal: (3,) unit normal.
    """
    heights = positions @ normal
    ranked = np.argsort(heights, kind="stable")
    steps = np.diff(heights[ranked])
    kept = ranked[np.concatenate(([True], steps > SAME_POSITION))]
    left_out = len(ranked) - len(kept)
    problems = []
    if left_out:
        problems.append(f"slices at the position of another one left out: {left_out}")
    if len(kept) == 1:
        return Stack((int(kept[0]),), left_out, normal, float("nan"), tuple(problems))
    track = positions[kept[-1]] - positions[kept[0]]
    axis = track / np.linalg.norm(track)
    tilt = float(np.degrees(np.arccos(np.clip(axis @ normal, -1.0, 1.0))))
    if tilt > TILT_DEGREES:
        problems.append(f"the gantry was tilted: slices are sheared by {tilt:.1f} degrees")
    else:
        axis = normal
    gaps = np.diff(positions[kept] @ axis)
    spacing = float(np.median(gaps))
    problems.extend(_gaps(gaps, spacing))
    return Stack(tuple(int(i) for i in kept), left_out, axis, spacing, tuple(problems))


def orientation_matrix(slice_axis: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(3, 3) with the slice, row and column axes as columns, the form that `Study` uses."""
    return np.stack([slice_axis, row, column], axis=1)


def _gaps(gaps: np.ndarray, spacing: float) -> list[str]:
    uneven = np.abs(gaps - spacing) > max(UNEVEN * spacing, SAME_POSITION)
    if not uneven.any():
        return []
    missing = int(sum(round(float(gap) / spacing) - 1 for gap in gaps if gap > 1.5 * spacing))
    if missing:
        return [
            f"slices are missing (about {missing}): distances run from {gaps.min():.2f} to "
            f"{gaps.max():.2f} mm"
        ]
    return [f"slices lie unevenly: distances run from {gaps.min():.2f} to {gaps.max():.2f} mm"]
