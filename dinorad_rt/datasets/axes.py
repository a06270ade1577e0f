"""How a mask's voxels are turned onto the axes of its image, from headers alone.

Each reader has an order of its own: NIfTI comes turned to RAS, DICOM as the scanner wrote it,
arrays and rasters as they lie. Where both files know their place, the places decide. Where only
one does, a NIfTI file's voxels are taken in the order of that file (x is the column, y the row),
which is how SimpleITK, ITK-SNAP and 3D Slicer turn rasters and arrays into volumes and back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from dinorad_rt.datasets.grid import Grid, grid_of, kind_of
from dinorad_rt.optional import require
from dinorad_rt.studies.nifti import open_nifti
from dinorad_rt.studies.study import Study

Axes = tuple[int, int, int]
_REMEMBERED = 4096
_PLACELESS = ("raster", "npy", "npz", "mat")


@dataclass(frozen=True)
class Turn:
    """Axes of (slices, rows, columns): axis a of the result is axis `order[a]` of what is turned.

    Attributes:
        order: a permutation of 0, 1, 2.
        backwards: which axes of the result run the other way.
    """

    order: Axes = (0, 1, 2)
    backwards: tuple[bool, bool, bool] = (False, False, False)

    @property
    def keeps_slices(self) -> bool:
        """Whether slice n stays slice n."""
        return self.order[0] == 0 and not self.backwards[0]

    @property
    def inverse(self) -> Turn:
        """The way back."""
        order, backwards = [0, 0, 0], [False, False, False]
        for axis, source in enumerate(self.order):
            order[source], backwards[source] = axis, self.backwards[axis]
        return Turn((order[0], order[1], order[2]), (backwards[0], backwards[1], backwards[2]))

    def array(self, pixels: np.ndarray) -> np.ndarray:
        """(slices, rows, columns[, 3]) turned; a view."""
        steps = tuple(slice(None, None, -1 if back else 1) for back in self.backwards)
        return pixels.transpose(*self.order, *range(3, pixels.ndim))[steps]

    def grid(self, grid: Grid) -> Grid:
        """A grid turned: the same voxels in the same place, counted another way."""
        first, second, third = self.order
        shape = (grid.shape[first], grid.shape[second], grid.shape[third])
        spacing, affine = grid.spacing, None
        if spacing is not None:
            spacing = (spacing[first], spacing[second], spacing[third])
        if grid.affine is not None:
            affine = grid.affine[:, [*self.order, 3]]
            for axis in np.flatnonzero(self.backwards):
                affine[:, 3] += affine[:, axis] * (shape[axis] - 1)
                affine[:, axis] *= -1
        return replace(grid, shape=shape, affine=affine, spacing=spacing)


def mask_on_image(image: Path, mask: Path) -> tuple[Grid, Turn]:
    """The image's grid, and how the mask's voxels are turned to lie on it.

    Raises:
        UnreadableFileError: a header that cannot be read.
    """
    target, source = remembered_grid(image), remembered_grid(mask)
    if target.affine is not None and source.affine is not None:
        return target, _between(target.affine, source.affine)
    if target.affine is not None and kind_of(image) == "nifti":
        return target, _to_ras(image)
    if source.affine is not None and kind_of(mask) == "nifti":
        return target, _to_ras(mask).inverse
    return target, Turn()


def turned_grids(image: Path, mask: Path) -> tuple[Grid, Grid]:
    """The grids of image and mask, the mask's on the axes of the image.

    Raises:
        UnreadableFileError: a header that cannot be read.
    """
    target, turn = mask_on_image(image, mask)
    turned = turn.grid(remembered_grid(mask))
    return target, turned if target.affine is not None else replace(turned, affine=None)


def placed_as(study: Study, grid: Grid) -> Study:
    """A study with the place of a grid, be it none."""
    if grid.affine is None or grid.spacing is None:
        return replace(study, spacing=grid.spacing, orientation=None, origin=None)
    axes = grid.affine[:3, :3]
    x, y, z = (float(value) for value in grid.affine[:3, 3])
    return replace(
        study,
        spacing=grid.spacing,
        orientation=axes / np.linalg.norm(axes, axis=0),
        origin=(x, y, z),
    )


def has_no_place(path: Path) -> bool:
    """True for files of formats that never say where an image lies."""
    return path.is_file() and kind_of(path) in _PLACELESS


def _between(target: np.ndarray, source: np.ndarray) -> Turn:
    """By the directions of the axes; none where two axes of one lie along one of the other."""
    both = (target[:3, :3], source[:3, :3])
    first, second = (axes / np.linalg.norm(axes, axis=0) for axes in both)
    cosines = first.T @ second
    order = np.abs(cosines).argmax(axis=1)
    if sorted(order) != [0, 1, 2]:
        return Turn()
    back = [bool(cosines[axis, order[axis]] < 0) for axis in range(3)]
    return Turn((int(order[0]), int(order[1]), int(order[2])), (back[0], back[1], back[2]))


def _to_ras(path: Path) -> Turn:
    """What `read_nifti` makes of the file's own order, counted as (slice, row, column)."""
    nibabel = require("nibabel", "reading NIfTI")
    found = nibabel.orientations.io_orientation(open_nifti(path).affine)
    order, backwards = [0, 1, 2], [False, False, False]
    for axis, (target, direction) in enumerate(found):
        order[2 - int(target)], backwards[2 - int(target)] = 2 - axis, bool(direction < 0)
    return Turn((order[0], order[1], order[2]), (backwards[0], backwards[1], backwards[2]))


def remembered_grid(path: Path) -> Grid:
    """As `grid_of`, read once as long as the file does not change."""
    status = path.stat() if path.exists() else None
    return _grid(path, None if status is None else (status.st_mtime_ns, status.st_size))


@lru_cache(_REMEMBERED)
def _grid(path: Path, _: tuple[int, int] | None) -> Grid:
    return grid_of(path)
