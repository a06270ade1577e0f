"""Why the frames of an enhanced multi-frame DICOM file are no stack of slices, in words.

Such a file may hold echoes, times or b-values of each position, several orientations, or frames in
any order; its dimension index says which (PS3.3 C.7.6.17). Frames are read in stored order, so
that numbers of frames stay those of the file, and of segmentations that refer to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.optional import require
from dinorad_rt.studies.geometry import SAME_POSITION
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.studies.dicom_frames import FrameView

_SPATIAL = ("ImagePositionPatient", "InStackPositionNumber", "SliceLocation")
_KEPT = "Kept in stored order"
_SPLIT = "for volumes, write {each} into a file of its own (dcm2niix does)"


def disorder(views: Sequence[FrameView], heights: np.ndarray) -> str:
    """What keeps frames from being one stack, and what to do.

    Args:
        views: of all frames.
        heights: (frames,) position of each along the normal of the first, mm.
    """
    turned = len({view.orientation() for view in views})
    if turned > 1:
        return (
            f"the frames have {turned} orientations: no one stack of slices. {_KEPT}; "
            f"{_SPLIT.format(each='each orientation')}"
        )
    places = _places(heights)
    each = Counter(Counter(places.tolist()).values())
    if max(each) > 1:
        several = f"{max(each)}" if len(each) == 1 else f"up to {max(each)}"
        return (
            f"{several} frames lie at each of {count_of(len(set(places.tolist())), 'position')}"
            f"{_named(views, places, spatial=False)}: no one stack of slices. {_KEPT}; "
            f"{_SPLIT.format(each='each of them')}"
        )
    wrong = _first_turn(heights)
    return (
        f"the frames are not stored in the order of their positions"
        f"{_named(views, places, spatial=True)}: frame {wrong + 1} lies on the wrong side of frame "
        f"{wrong}. {_KEPT}, in which neighbours are no neighbours in the patient; for a volume, "
        "sort them (dcm2niix does)"
    )


def _places(heights: np.ndarray) -> np.ndarray:
    """(frames,) number of the position of each, from below; equal for frames at one position."""
    ranked = np.argsort(heights, kind="stable")
    places = np.zeros(len(heights), np.int64)
    places[ranked[1:]] = np.cumsum(np.diff(heights[ranked]) > SAME_POSITION)
    return places


def _first_turn(heights: np.ndarray) -> int:
    """Number, from 1, of the last frame before the direction changes."""
    steps = np.sign(np.diff(heights))
    return int(np.argmax(steps != steps[0])) + 1


def _named(views: Sequence[FrameView], places: np.ndarray, *, spatial: bool) -> str:
    """The dimensions that are meant, in brackets; empty where the file does not say.

    Spatial: the one of the positions. Else those that differ between frames of one position.
    """
    index = _index_of(views)
    if index is None:
        return ""
    names, values = index
    if spatial:
        found = [name for name in names if name in _SPATIAL]
    else:
        differ = np.zeros(len(names), bool)
        for place in set(places.tolist()):
            here = values[places == place]
            differ |= (here != here[0]).any(axis=0)
        found = [name for name, is_one in zip(names, differ, strict=True) if is_one]
        found = [name for name in found if name not in _SPATIAL] or found
    return f" (dimension {' and '.join(found)})" if found else ""


def _index_of(views: Sequence[FrameView]) -> tuple[list[str], np.ndarray] | None:
    """Names of the file's dimensions, and (frames, dimensions) their index values."""
    datadict = require("pydicom.datadict", "reading DICOM")
    try:
        items: Any = views[0].dataset.get("DimensionIndexSequence") or ()
        pointers = [item.DimensionIndexPointer for item in items]
        rows = [view.dimension_index() for view in views]
        values = np.asarray(rows, np.int64)
    except (AttributeError, TypeError, ValueError):
        return None
    if not pointers or values.shape != (len(views), len(pointers)):
        return None
    return [datadict.keyword_for_tag(tag) or str(tag) for tag in pointers], values
