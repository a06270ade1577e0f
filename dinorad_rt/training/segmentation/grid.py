"""Masks between a study's grid and the network's: the same resize, crop and padding as the image.

Forward by the nearest pixel centre, so that labels stay labels; backward the class scores are
interpolated linearly at the study's pixel centres, and what the crop cut away is background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinorad_rt.errors import ProtocolError
from dinorad_rt.preprocessing.geometry import Taps, geometry
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.studies.study import Study

Spacing = tuple[float, float] | None
"""(row, column) millimetres of a slice, where the preprocessing asks for a pixel size."""


def mask_to_grid(mask: np.ndarray, spec: PreprocessSpec, spacing: Spacing = None) -> np.ndarray:
    """Labels of one slice on the network's grid.

    Args:
        mask: (height, width) labels.
        spec: the preprocessing of the image.
        spacing: of the slice.

    Returns:
        (image_size, image_size) of the same dtype; 0 in the padding.
    """
    height, width = mask.shape
    plan = geometry(height, width, spec, spacing)
    result = np.zeros((plan.image_size, plan.image_size), mask.dtype)
    spans = [
        slice(axis.offset, axis.offset + len(axis.first)) for axis in (plan.rows, plan.columns)
    ]
    rows, columns = (_nearest(axis) for axis in (plan.rows, plan.columns))
    result[spans[0], spans[1]] = mask[np.ix_(rows, columns)]
    return result


def scores_to_study(
    scores: np.ndarray, shape: tuple[int, int], spec: PreprocessSpec, spacing: Spacing = None
) -> np.ndarray:
    """Class scores of one slice on the study's grid.

    Args:
        scores: (classes, image_size, image_size) float32; class 0 is background.
        shape: (height, width) of the study's slice.
        spec: the preprocessing of the image.
        spacing: of the slice.

    Returns:
        (classes, height, width) float32; outside the crop the background has the highest score
        and the others the lowest.
    """
    plan = geometry(*shape, spec, spacing)
    rows, columns = _linear(plan.rows), _linear(plan.columns)
    weight = rows.weight[:, None]
    along = scores[:, rows.low] * (1 - weight) + scores[:, rows.high] * weight
    result: np.ndarray = along[:, :, columns.low] * (1 - columns.weight)
    result += along[:, :, columns.high] * columns.weight
    outside = ~(rows.inside[:, None] & columns.inside)
    if outside.any():
        result[:, outside] = scores.min()
        result[0, outside] = scores.max()
    return result


def undisplayed(mask: np.ndarray, study: Study) -> np.ndarray:
    """A mask of `study.displayed()` turned back to the study's own rows and columns."""
    if study.orientation is None:
        return mask
    turned = study.displayed().orientation
    assert turned is not None
    same = np.einsum("ij,ij->j", study.orientation, turned)[1:] > 0
    steps = [slice(None, None, 1 if keep else -1) for keep in same]
    return np.ascontiguousarray(mask[:, steps[0], steps[1]])


def in_plane(study: Study) -> Spacing:
    """(row, column) spacing of a study, or None."""
    return None if study.spacing is None else study.spacing[1:]


def check_invertible(spec: PreprocessSpec) -> None:
    """Refuse a preprocessing that cuts each slice by its content: masks could not follow.

    Raises:
        ProtocolError: naming it.
    """
    if spec.crop != "none":
        raise ProtocolError(
            f"The preprocessing {spec.preset!r} cuts each slice to what it shows; masks are kept "
            "on the whole slice.",
            "Leave the option 'body' out: --preprocessing dinorad",
        )


@dataclass(frozen=True, eq=False)
class _Linear:
    """Two taps of the network's grid for each pixel of the study's axis."""

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    inside: np.ndarray


def _nearest(axis: Taps) -> np.ndarray:
    """Study index for each position of the network's grid inside the padding."""
    positions = axis.start + np.arange(len(axis.first)) + 0.5
    return np.minimum((positions * axis.size / axis.resized).astype(np.int64), axis.size - 1)


def _linear(axis: Taps) -> _Linear:
    centres = (np.arange(axis.size) + 0.5) * axis.resized / axis.size - 0.5 - axis.start
    count = len(axis.first)
    inside = (centres > -0.5 - 1e-9) & (centres < count - 0.5 + 1e-9)
    clamped = np.clip(centres, 0, count - 1)
    low = np.floor(clamped).astype(np.int64)
    high = np.minimum(low + 1, count - 1)
    weight = (clamped - low).astype(np.float32)
    return _Linear(low + axis.offset, high + axis.offset, weight, inside)
