"""Shape and place of an image from its header, to compare an image with its mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dinorad_rt.optional import require
from dinorad_rt.studies.dicom import read_place
from dinorad_rt.studies.nifti import in_millimetres, open_nifti
from dinorad_rt.studies.read import HEAD_BYTES, read_study, sniff
from dinorad_rt.studies.study import Study

TOLERANCE = 0.1
"""Corners of two equal grids may lie this part of a voxel apart: headers hold rounded numbers."""
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Grid:
    """Voxels of a file, in the order of `read_study`.

    Attributes:
        shape: (slices, rows, columns); the volumes of a time series follow one another.
        affine: (4, 4) from (slice, row, column) to LPS millimetres, or None where the file has
            none. Across a single slice whose thickness is not known it counts 1 mm.
        spacing: (slice, row, column) in mm as `Study.spacing`, or None.
        volumes: of a time series, or of several contrasts in one file.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray | None = None
    spacing: tuple[float, float, float] | None = None
    volumes: int = 1

    def difference(self, other: Grid) -> str:
        """In what two grids differ, in words; empty if they are the same."""
        if self.volumes > 1 and other.volumes == 1:
            one = (self.shape[0] // self.volumes, *self.shape[1:])
            return (
                f"{self.volumes} volumes (contrasts or time points) of {_times(one)} and one of "
                f"{_times(other.shape)} voxels: split the image into files of one volume"
            )
        if self.shape != other.shape:
            return f"{_times(self.shape)} and {_times(other.shape)} voxels"
        if self.affine is None or other.affine is None:
            return ""
        ends = [(0, size - 1) for size in self.shape]
        corners = np.asarray([(a, b, c, 1) for a in ends[0] for b in ends[1] for c in ends[2]])
        apart = corners @ (self.affine - other.affine).T
        furthest = float(np.linalg.norm(apart[:, :3], axis=1).max())
        voxel = float(np.linalg.norm(self.affine[:3, :3], axis=0).min())
        if furthest <= TOLERANCE * voxel:
            return ""
        return f"the same shape, but other affines: corners lie {furthest:.3g} mm apart"


def grid_of(path: Path) -> Grid:
    """Read the grid of a file; the pixels only where the header does not tell.

    Raises:
        UnreadableFileError: the file cannot be read.
    """
    kind = kind_of(path)
    found: Grid | None = None
    if kind == "nifti":
        found = _of_nifti(path)
    elif kind == "raster":
        found = _of_raster(path)
    elif kind == "npy":
        found = _of_npy(path)
    elif kind == "dicom":
        found = _of_dicom(path)
    if found is not None:
        return found
    study = read_study(path)  # other formats, and the errors of damaged files
    slices, rows, columns = study.pixels.shape[:3]
    volumes = int(study.facts.get("volumes", 1))
    return Grid((slices, rows, columns), _affine(study), study.spacing, volumes)


def _affine(study: Study) -> np.ndarray | None:
    if study.spacing is not None and study.num_slices == 1 and np.isnan(study.spacing[0]):
        study = replace(study, spacing=(1.0, *study.spacing[1:]))
    return study.affine()


def kind_of(path: Path) -> str | None:
    """Format of a file by its content, see `read.sniff`; None for folders and unknown ones."""
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD_BYTES), path)
    except OSError:
        return None


def _of_nifti(path: Path) -> Grid | None:
    """The grid after the turn to RAS that `read_nifti` makes; None for time series."""
    nibabel = require("nibabel", "reading NIfTI")
    try:
        image = open_nifti(path)
        affine = in_millimetres(image)
        orientation = nibabel.orientations.io_orientation(affine)
        shape = (*image.shape, 1)[:3]
    except Exception:  # whatever it is, read_study says it better
        return None
    if np.isnan(orientation).any() or len(image.shape) not in (2, 3):
        return None
    turned = [0, 0, 0]
    for axis, (target, _) in enumerate(orientation):
        turned[int(target)] = int(shape[axis])
    affine = affine @ nibabel.orientations.inv_ornt_aff(orientation, shape)
    by_slice = _RAS_TO_LPS @ affine[:, [2, 1, 0, 3]]
    steps = np.linalg.norm(by_slice[:3, :3], axis=0)
    if not np.isfinite(by_slice).all() or (steps <= 0).any():
        return None
    spacing = (float(steps[0]), float(steps[1]), float(steps[2]))
    return Grid((turned[2], turned[1], turned[0]), by_slice, spacing)


def _of_raster(path: Path) -> Grid | None:
    image_module = require("PIL.Image", "reading raster images")
    try:
        with image_module.open(path) as image:
            if getattr(image, "n_frames", 1) != 1 or image.getexif().get(0x0112, 1) > 4:
                return None
            return Grid((1, image.height, image.width))
    except Exception:  # whatever it is, read_study says it better
        return None


def _of_dicom(path: Path) -> Grid | None:
    """The grid of a single image; None for several frames, whose order the pixels share."""
    found = read_place(path)
    if found is None:
        return None
    (rows, columns), place = found
    study = Study(np.broadcast_to(np.uint8(0), (1, rows, columns)), **place)
    return Grid((1, rows, columns), _affine(study), study.spacing)


def _of_npy(path: Path) -> Grid | None:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError):
        return None
    if array.ndim == 2:
        return Grid((1, *array.shape))
    if array.ndim == 3 and array.shape[-1] > 4:
        return Grid((array.shape[0], array.shape[1], array.shape[2]))
    return None


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
