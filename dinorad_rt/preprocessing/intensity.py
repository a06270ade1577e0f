"""From stored values to grey: which rule of a spec applies to a slice, and with what numbers.

Every rule ends in one `GreyMap`: a clipped straight line, or a lookup table. The reference and the
native kernel both carry out that map, so they can differ in rounding only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.preprocessing.presets import SUV_WINDOW, WINDOWS
from dinorad_rt.preprocessing.spec import Clip, Intensity, PreprocessSpec
from dinorad_rt.studies.study import Window

if TYPE_CHECKING:
    from dinorad_rt.studies.study import Study

Padding: TypeAlias = tuple[float, float]
Display: TypeAlias = Window | tuple[int, np.ndarray]
"""A window, or a VOI LUT as (first mapped value, table)."""

STEP = 2.0**-10
"""Width of a window that the standard defines as a step (LINEAR, width 1)."""

TABLE_TYPES = ("uint8", "uint16", "int16")
"""Stored types whose every value gets an entry in a table, where a curve is asked for."""


@dataclass(frozen=True, eq=False)
class GreyMap:
    """Stored value → grey in [0, 1]; what is no number, or marks padding, becomes 0.

    Attributes:
        low, high: stored values that map to 0 and 1, clipped beyond; `low` > `high` where dark and
            bright change places. Equal: the slice is constant and its grey is 0.
        padding: (low, high) stored values, inclusive, that become 0; or None.
        table: instead of the line, grey of each stored value from `first` up; (entries,) float32.
        first: stored value of the table's first entry.
        stretch: after the resize, map the result's own minimum and maximum to 0 and 1; without it,
            the resize's overshoot is clipped to [0, 1].
    """

    low: float
    high: float
    padding: Padding | None = None
    table: np.ndarray | None = None
    first: int = 0
    stretch: bool = False


class Statistics(Protocol):
    """Facts of a slice that some rules need; the reference and the kernel each have theirs."""

    def extrema(self, pixels: np.ndarray, padding: Padding | None) -> tuple[float, float]:
        """Least and greatest finite stored value outside the padding; (0, 0) if there is none."""
        ...

    def percentiles(
        self, pixels: np.ndarray, percent: tuple[float, float], padding: Padding | None
    ) -> tuple[float, float]:
        """Percentiles (linear interpolation) of the same values; (0, 0) if there is none."""
        ...


def grey_map(
    study: Study, pixels: np.ndarray, spec: PreprocessSpec, statistics: Statistics
) -> tuple[np.ndarray, GreyMap]:
    """The map of one slice (or of one colour channel of it), and the pixels it applies to.

    The pixels are the ones given, except where a curve (SIGMOID, VOI LUT) meets values that no
    table of 16 bits can index: then they are the grey already, and the map is the identity.

    Args:
        study: says units, rescale, windows, padding and inversion.
        pixels: (height, width) stored values.
        spec: the choice of rule.
        statistics: finds extrema and percentiles where the rule needs them.

    Raises:
        DataError: intensity `window`, but neither the spec nor the file has one.
    """
    rule = rule_of(study, spec)
    if rule == "window":
        return _displayed(study, pixels, _display_rule(study, spec))
    if rule == "minmax":
        return pixels, _stretched(study, pixels, spec, statistics)
    if rule == "range":
        low, high = _full_range(study, pixels, statistics)
    else:
        low, high = _percentiles(study, pixels, spec, statistics)
    low, high = (high, low) if _falling(study) else (low, high)
    return pixels, GreyMap(low, high, study.padding)


def window_edges(window: Window) -> tuple[float, float]:
    """Values that a LINEAR or LINEAR_EXACT window maps to 0 and 1 (DICOM PS3.3 C.11.2.1.2)."""
    if window.function == "LINEAR":
        low = window.centre - 0.5 - (window.width - 1.0) / 2.0
        return low, low + max(window.width - 1.0, STEP)
    return window.centre - window.width / 2.0, window.centre + window.width / 2.0


def is_usable(window: Window) -> bool:
    """True if the standard allows the window: width ≥ 1 for LINEAR, > 0 for the others."""
    least = {"LINEAR": 1.0, "LINEAR_EXACT": STEP, "SIGMOID": STEP}.get(window.function, math.inf)
    return math.isfinite(window.centre) and math.isfinite(window.width) and window.width >= least


def display_grey(values: np.ndarray, display: Display) -> np.ndarray:
    """Grey in [0, 1] of rescaled values by a window or a VOI LUT, in float64.

    Source: DICOM PS3.3 C.11.2.1.1 (VOI LUT) and C.11.2.1.2, C.11.2.1.3 (windows).
    """
    if isinstance(display, Window):
        if display.function == "SIGMOID":
            with np.errstate(over="ignore"):
                return 1.0 / (1.0 + np.exp(-4.0 * (values - display.centre) / display.width))
        low, high = window_edges(display)
        return np.clip((values - low) / (high - low), 0.0, 1.0)
    first, table = display
    bits = max(int(table.max()), 1).bit_length()
    index = np.clip(np.nan_to_num(np.rint(values)) - first, 0, len(table) - 1).astype(np.int64)
    grey: np.ndarray = table[index].astype(np.float64) / (2**bits - 1)
    return grey


def rule_of(study: Study, spec: PreprocessSpec) -> Intensity:
    """The rule of a spec for a study: what stands behind `auto`."""
    if spec.intensity != "auto":
        return spec.intensity
    if study.units in ("HU", "SUV"):
        return "window"
    if study.units == "stored" and study.modality != "MR" and _own_display(study) is not None:
        return "window"
    if study.units in ("display", "colour") and study.pixels.dtype.itemsize == 1:
        return "range"
    return "percentile"


def _own_display(study: Study) -> Display | None:
    """The display rule that the file itself names: its VOI LUT, else its first usable window."""
    if study.voi_lut is not None and len(study.voi_lut[1]):
        return study.voi_lut
    return next(filter(is_usable, study.windows), None)


def _falling(study: Study) -> bool:
    """True if a higher stored value is darker."""
    return study.inverted != (study.rescale[0] < 0)


def _displayed(study: Study, pixels: np.ndarray, display: Display) -> tuple[np.ndarray, GreyMap]:
    """Map of a window or VOI LUT, through the modality rescale."""
    if isinstance(display, Window) and display.function != "SIGMOID":
        low, high = (_stored(study, edge) for edge in window_edges(display))
        low, high = (high, low) if study.inverted else (low, high)
        return pixels, GreyMap(low, high, study.padding)
    if pixels.dtype.name in TABLE_TYPES:
        limits = np.iinfo(pixels.dtype)
        stored = np.arange(limits.min, limits.max + 1, dtype=np.float64)
        table = _curve(study, stored, display).astype(np.float32)
        return pixels, GreyMap(0.0, 0.0, study.padding, table, int(limits.min))
    stored = pixels.astype(np.float64)
    grey = _curve(study, stored, display)
    if study.padding is not None:
        grey[(stored >= study.padding[0]) & (stored <= study.padding[1])] = 0.0
    return grey.astype(np.float32), GreyMap(0.0, 1.0)


def _curve(study: Study, stored: np.ndarray, display: Display) -> np.ndarray:
    grey = display_grey(stored * study.rescale[0] + study.rescale[1], display)
    return 1.0 - grey if study.inverted else grey


def _display_rule(study: Study, spec: PreprocessSpec) -> Display:
    asked = spec.window
    if asked is not None and (spec.intensity == "window" or study.units == "HU"):
        return Window(*asked, "LINEAR_EXACT")
    if study.units == "SUV":
        return Window(*SUV_WINDOW, "LINEAR_EXACT")
    own = _own_display(study)
    if own is not None:
        return own
    if study.units == "HU":
        return Window(*WINDOWS["CT"], "LINEAR_EXACT")
    raise DataError(
        f"Intensity rule 'window' without a window: the spec names none, and the file (units "
        f"{study.units}) has neither a window nor a VOI LUT.",
        "Give PreprocessSpec a window=(centre, width), or use intensity 'percentile'.",
    )


def _stored(study: Study, value: float) -> float:
    """The stored value behind a rescaled one; a slope of 0 makes the slice constant."""
    slope, intercept = study.rescale
    return (value - intercept) / slope if slope else 0.0


def _percentiles(
    study: Study, pixels: np.ndarray, spec: PreprocessSpec, statistics: Statistics
) -> tuple[float, float]:
    """Stored values between which the grey runs; extrema where nearly all pixels are equal."""
    low, high = spec.percentiles
    percent = (100.0 - high, 100.0 - low) if study.rescale[0] < 0 else (low, high)
    edges = statistics.percentiles(pixels, percent, study.padding)
    return edges if edges[0] < edges[1] else statistics.extrema(pixels, study.padding)


def _stretched(
    study: Study, pixels: np.ndarray, spec: PreprocessSpec, statistics: Statistics
) -> GreyMap:
    """Map of the study's clip; what it leaves is stretched after the resize."""
    clip, padding = _clip_of(study, spec), study.padding
    least, greatest = statistics.extrema(pixels, padding)
    low, high = least, greatest
    if clip in ("window", "upper") and spec.window is not None:
        edges = window_edges(Window(*spec.window, "LINEAR_EXACT"))
        low, high = sorted(_stored(study, edge) for edge in edges)
        if clip == "upper":
            low, high = (low, greatest) if study.rescale[0] < 0 else (least, high)
    elif clip != "none":
        low, high = _percentiles(study, pixels, spec, statistics)
    if clip == "percentile-zero":
        padding, low = (min(least, low), low), 0.0
    else:
        low, high = max(low, least), min(high, greatest)
    low, high = (low, high) if low < high else (0.0, 0.0)
    low, high = (high, low) if _falling(study) else (low, high)
    return GreyMap(low, high, padding, stretch=True)


def _clip_of(study: Study, spec: PreprocessSpec) -> Clip:
    if spec.clip != "units":
        return spec.clip
    if study.units == "HU":
        return "window" if spec.window is not None else "none"
    return "percentile" if study.modality == "MR" else "none"


def _full_range(study: Study, pixels: np.ndarray, statistics: Statistics) -> tuple[float, float]:
    stored = study.pixels.dtype
    if stored == np.bool_:
        return 0.0, 1.0
    bits = study.facts.get("bits_stored", 0)
    if stored.kind == "u" and 0 < bits < 8 * stored.itemsize:
        return 0.0, float(2**bits - 1)
    if stored.kind in "iu":
        return float(np.iinfo(stored).min), float(np.iinfo(stored).max)
    return statistics.extrema(pixels, study.padding)
