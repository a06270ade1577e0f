"""Where the body is: the largest bright object of a slice, without air, table and markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.optional import require

if TYPE_CHECKING:
    from dinorad_rt.studies.study import Study

AIR_HU = -400.0
"""Between air (and lung) and soft tissue."""

FAINT = 0.1
"""Share of the range from 1st to 99th percentile above which a pixel that is no HU counts."""

LEAST = 0.02
"""Share of the slice that the largest object must fill; else there is nothing to crop to."""

MARGIN = 0.02
"""Share of the box that is left around it."""

SIDE = 256
"""The search runs on a slice of about this many rows and columns: enough for a box."""


def body_box(study: Study) -> tuple[slice, slice]:
    """(rows, columns) of the body in a one-slice study; the whole slice where none stands out.

    CT is parted at -400 HU, all else at a tenth of its range; bridges of one or two pixels (the
    table) are opened, and the largest connected object taken, holes included in its box.
    """
    ndimage = require("scipy.ndimage", "finding the body")
    pixels = study.pixels[0] if study.pixels.ndim == 3 else study.pixels[0].mean(axis=-1)
    height, width = pixels.shape
    step = max(1, max(height, width) // SIDE)
    mask = ndimage.binary_opening(_bright(study, pixels[::step, ::step]), iterations=2)
    labels, count = ndimage.label(mask)
    if count == 0:
        return slice(0, height), slice(0, width)
    sizes = np.bincount(labels.ravel())[1:]
    if sizes.max() < LEAST * mask.size:
        return slice(0, height), slice(0, width)
    rows, columns = ndimage.find_objects(labels)[int(sizes.argmax())]
    return _widened(rows, step, height), _widened(columns, step, width)


def _bright(study: Study, pixels: np.ndarray) -> np.ndarray:
    """Pixels that may be body."""
    values = pixels.astype(np.float64) * study.rescale[0] + study.rescale[1]
    values[~np.isfinite(values)] = np.nan
    if study.padding is not None:
        values[(pixels >= study.padding[0]) & (pixels <= study.padding[1])] = np.nan
    if study.units == "HU":
        return np.asarray(values > AIR_HU)
    values = -values if study.inverted else values
    if np.isnan(values).all():
        return np.zeros(pixels.shape, bool)
    low, high = np.nanpercentile(values, (1.0, 99.0))
    return np.asarray(values > low + FAINT * (high - low))


def _widened(part: slice, step: int, size: int) -> slice:
    """The part of the full axis, with its margin."""
    start, stop = part.start * step, part.stop * step
    margin = max(step, round(MARGIN * (stop - start)))
    return slice(max(0, start - margin), min(size, stop + margin))
