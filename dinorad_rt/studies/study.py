"""`Study`: what every reader returns, whatever the file was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

Units = Literal["HU", "stored", "display", "SUV", "colour"]
"""What a pixel value means: Hounsfield units; the scanner's own numbers (MR, raw X-ray after the
modality LUT); grey as it is meant to be shown (8 or 16-bit PNG, JPEG); standard uptake value;
RGB."""


@dataclass(frozen=True)
class Window:
    """A display window: `centre` and `width` in the units of the pixels (DICOM PS3.3 C.11.2).

    `function` is LINEAR, LINEAR_EXACT or SIGMOID.
    """

    centre: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True)
class Study:
    """Pixels of one series, volume or image, with what is needed to show them right.

    Attributes:
        pixels: (slices, height, width) or, for colour, (slices, height, width, 3). A single
            image has one slice. The dtype is the stored one; values are stored values as long as
            `rescale` is not (1, 0).
        units: what `pixels * slope + intercept` means.
        rescale: (slope, intercept) still to be applied (modality LUT of DICOM, `scl_slope` and
            `scl_inter` of NIfTI).
        inverted: True when low values are bright (MONOCHROME1). The readers do not invert:
            preprocessing does, after the window, as the standard's order asks.
        windows: display windows the file names, first one first; empty if none.
        slice_windows: the windows of each slice, where they differ from slice to slice (MR, PET,
            per-frame groups); else empty. `windows` are then those of the first slice.
        voi_lut: lookup table of the file instead of a window: (first mapped value, table), or None.
        padding: (low, high) stored values that mark "no data", or None.
        spacing: (slice, row, column) spacing in millimetres; None where the file does not say.
            The slice spacing is NaN where a single image tells no thickness.
        orientation: (3, 3) direction cosines in LPS, columns = slice, row, column axis; None where
            the file does not say.
        origin: (3,) position in LPS millimetres of the first voxel, or None.
        modality: DICOM modality or None.
        patient, study, series: pseudonymous keys (keyed hashes), never identifiers.
        problems: findings worth telling the user, free of identifiers.
        facts: other facts without identifiers (transfer syntax, photometric interpretation, ...).
    """

    pixels: np.ndarray
    units: Units = "stored"
    rescale: tuple[float, float] = (1.0, 0.0)
    inverted: bool = False
    windows: tuple[Window, ...] = ()
    slice_windows: tuple[tuple[Window, ...], ...] = ()
    voi_lut: tuple[int, np.ndarray] | None = None
    padding: tuple[float, float] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: np.ndarray | None = None
    origin: tuple[float, float, float] | None = None
    modality: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    problems: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_colour(self) -> bool:
        """True if the pixels are RGB."""
        return self.pixels.ndim == 4

    @property
    def num_slices(self) -> int:
        """Number of slices; 1 for a single image."""
        return int(self.pixels.shape[0])

    def slice(self, index: int) -> Study:
        """The study reduced to one slice; the pixels are a view."""
        depth = max(1, self.num_slices // self.facts.get("volumes", 1))  # of a time series
        return replace(
            self,
            pixels=self.pixels[index : index + 1],
            origin=self._position(index % depth, 0, 0),
            windows=self.slice_windows[index] if self.slice_windows else self.windows,
            slice_windows=(),
        )

    def values(self) -> np.ndarray:
        """Pixels after the rescale, float64 (HU for CT). Makes a copy."""
        slope, intercept = self.rescale
        result: np.ndarray = self.pixels.astype(np.float64) * slope + intercept
        return result

    def affine(self) -> np.ndarray | None:
        """(4, 4) matrix from (slice, row, column) indices to LPS millimetres, or None."""
        if self.orientation is None or self.origin is None or self.spacing is None:
            return None
        matrix = np.eye(4)
        matrix[:3, :3] = self.orientation * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def displayed(self) -> Study:
        """The study with its axes turned as radiologists look at it; the pixels are a view.

        Rows run to posterior (axial) or inferior (coronal, sagittal), columns to the patient's
        left or, for sagittal slices, to posterior. Volumes without orientation stay as they are.
        Files that were written for display (DICOM) usually are so already; NIfTI is not.
        """
        if self.orientation is None:
            return self
        flips = [_runs_backwards(self.orientation[:, axis]) for axis in (1, 2)]
        if not any(flips):
            return self
        rows, columns = self.pixels.shape[1:3]
        turned = self.orientation * np.where([False, *flips], -1.0, 1.0)
        steps = [slice(None), *(slice(None, None, -1) if flip else slice(None) for flip in flips)]
        corner = self._position(0, (rows - 1) * flips[0], (columns - 1) * flips[1])
        return replace(self, pixels=self.pixels[tuple(steps)], orientation=turned, origin=corner)

    def _position(self, *index: int) -> tuple[float, float, float] | None:
        """LPS position of a voxel; None without geometry, the origin itself for index 0."""
        if self.origin is None or not any(index):
            return self.origin
        matrix = self.affine()
        if matrix is None:
            return None
        x, y, z = matrix[:3, :3] @ np.asarray(index, np.float64) + matrix[:3, 3]
        return float(x), float(y), float(z)


def _runs_backwards(direction: np.ndarray) -> bool:
    """True if an in-plane axis points to right, anterior or superior (LPS + superior is bad)."""
    axis = int(np.argmax(np.abs(direction)))
    downwards = -1.0 if axis == 2 else 1.0
    return bool(direction[axis] * downwards < 0)
