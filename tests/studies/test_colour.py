"""Grey in disguise is found exactly; transparency follows Porter and Duff over black."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dinorad_rt.studies.colour import is_grey, over_black, without_colour


@given(st.integers(1, 70), st.integers(1, 70), st.data())
def test_one_differing_value_is_found(height: int, width: int, data: st.DataObject) -> None:
    grey = np.random.default_rng(height * width).integers(0, 256, (height, width), np.uint8)
    pixels = np.repeat(grey[..., None], 3, axis=2)
    assert is_grey(pixels)
    place = data.draw(st.integers(0, pixels.size - 1))
    pixels.reshape(-1)[place] ^= 1
    assert not is_grey(pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_keeps_its_values(dtype: type) -> None:
    grey = np.arange(40 * 50, dtype=dtype).reshape(1, 40, 50)
    found = without_colour(np.repeat(grey[..., None], 3, axis=3))
    assert found.flags.c_contiguous and np.array_equal(found, grey)


def test_over_black_is_what_pillow_composes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 4), np.uint8)
    black = Image.new("RGBA", (11, 9), (0, 0, 0, 255))
    expected = np.asarray(Image.alpha_composite(black, Image.fromarray(pixels, "RGBA")))[..., :3]
    found, seen = over_black(pixels)
    assert seen and np.abs(found.astype(int) - expected).max() <= 1


def test_opaque_images_are_left_alone() -> None:
    pixels = np.full((2, 2, 4), 255, np.uint8)
    found, seen = over_black(pixels)
    assert not seen and found.shape == (2, 2, 3)
