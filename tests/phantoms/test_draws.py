"""Named streams of chance, against NumPy's own generator and SciPy's splines."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.interpolate import BSpline

from dinorad_rt.phantoms.draws import Draws, _interpolated


def numpy_generator(seed: int, *name: object) -> np.random.Generator:
    text = "\x1f".join(map(str, (seed, *name)))
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.PCG64(key))


def test_uniform_numbers_are_those_of_numpy() -> None:
    draws, numpy = Draws(3, "x", 1), numpy_generator(3, "x", 1)
    assert [draws.uniform(0.0, 1.0) for _ in range(5)] == numpy.random(5).tolist()
    np.testing.assert_array_equal(draws.uniforms(7, 0.0, 1.0), numpy.random(7))


def test_a_stream_belongs_to_its_seed_and_name() -> None:
    first = Draws(0, "a", 1).noise((4,))
    np.testing.assert_array_equal(first, Draws(0, "a", 1).noise((4,)))
    for other in (Draws(1, "a", 1), Draws(0, "a", 2), Draws(0, "a", "1", "")):
        assert not np.array_equal(first, other.noise((4,)))


def test_noise_has_mean_0_and_deviation_1() -> None:
    noise = Draws(0, "noise").noise((200, 500))
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert np.abs(noise).max() < 3.5


def test_whole_numbers_and_picks_reach_every_value() -> None:
    draws = Draws(0, "whole")
    assert {draws.whole(2, 5) for _ in range(100)} == {2, 3, 4, 5}
    assert {draws.pick("abc") for _ in range(100)} == set("abc")
    assert 0.2 < np.mean([draws.chance(0.3) for _ in range(1000)]) < 0.4


def test_interpolation_is_the_cubic_spline_of_scipy() -> None:
    coefficients = Draws(0, "spline").noise((9,))
    cells, length = 6, 50
    knots = np.arange(-3, cells + 4)
    place = (np.arange(length) + 0.5) * cells / length
    expected = BSpline(knots, coefficients, 3)(place)
    np.testing.assert_allclose(_interpolated(coefficients, (length,)), expected, atol=1e-12)


def test_textures_are_smooth_and_near_deviation_1() -> None:
    for shape in ((120, 90), (10, 60, 60)):
        texture = Draws(0, "texture", shape).texture(shape, 12.0, 3)
        assert texture.shape == shape
        assert 0.6 < texture.std() < 1.4
        assert np.abs(np.diff(texture, axis=-1)).max() < np.ptp(texture) / 3
