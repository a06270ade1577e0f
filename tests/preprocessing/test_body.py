"""The box around the body: on made slices, and on real CT against TotalSegmentator's organs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.preprocessing.body import body_box
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.study import Study


def ellipse(shape: tuple[int, int], centre: tuple[int, int], radii: tuple[int, int]) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    inside: np.ndarray = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1
    return inside


@pytest.mark.parametrize("shape", [(200, 300), (1000, 900)])
def test_table_and_air_are_left_out(shape):
    pixels = np.full((1, *shape), -1000, np.int16)
    body = ellipse(shape, (shape[0] // 2, shape[1] // 2), (shape[0] // 5, shape[1] // 4))
    pixels[0][body] = 30
    pixels[0, -shape[0] // 8, :] = 200  # a thin table across the whole slice
    rows, columns = body_box(Study(pixels, units="HU"))
    ys, xs = np.nonzero(body)
    for part, places, size in ((rows, ys, shape[0]), (columns, xs, shape[1])):
        assert part.start <= places.min() and part.stop > places.max()
        assert places.min() - part.start < 0.04 * size and part.stop - places.max() < 0.05 * size


def test_inverted_images_and_padding():
    pixels = np.full((1, 100, 100), 4000, np.uint16)
    pixels[0, 20:60, 30:80] = 100  # MONOCHROME1: low is bright
    pixels[0, :, :10] = 0
    rows, columns = body_box(Study(pixels, inverted=True, padding=(0.0, 0.0)))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (19, 61, 29, 81)


@pytest.mark.parametrize("value", [0, 7])
def test_nothing_stands_out_in_a_blank_slice(value):
    pixels = np.full((1, 50, 60), value, np.int16)
    assert body_box(Study(pixels)) == (slice(0, 50), slice(0, 60))
    pixels[0, 3, 3] = 1000
    assert body_box(Study(pixels)) == (slice(0, 50), slice(0, 60))
    nothing = np.full((1, 50, 60), np.nan, np.float32)
    assert body_box(Study(nothing)) == (slice(0, 50), slice(0, 60))


def test_organs_of_a_real_ct_lie_in_the_box(shared_data: Path):
    folder = shared_data / "ct_mr_3d_totalseg"
    ct, organs = (read_study(folder / f"{name}.nii.gz") for name in
                  ("example_ct_sm", "example_seg_fast"))  # fmt: skip
    assert ct.pixels.shape == organs.pixels.shape
    smaller = 0
    for index in range(ct.num_slices):
        rows, columns = body_box(ct.slice(index))
        outside = organs.pixels[index].astype(bool)
        total = int(outside.sum())
        outside = outside.copy()
        outside[rows, columns] = False
        assert outside.sum() <= 0.01 * total
        smaller += outside[rows, columns].size < outside.size
    assert smaller > ct.num_slices / 2


def test_cropping_equals_cutting_by_hand(make_spec, rng, implementation):
    pixels = np.zeros((1, 90, 120), np.uint8)
    pixels[0, 30:70, 40:100] = rng.integers(100, 256, (40, 60))
    study = Study(pixels, units="display")
    rows, columns = body_box(study)
    assert rows.stop - rows.start < 50
    cut = Study(np.ascontiguousarray(pixels[:, rows, columns]), units="display")
    plain = Preprocessor(make_spec(), implementation=implementation)
    cropping = Preprocessor(make_spec(crop="body"), implementation=implementation)
    assert np.array_equal(cropping(study), plain(cut))
