"""The resize against PIL and torch, which we did not write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dinorad_rt.preprocessing.geometry import geometry
from dinorad_rt.preprocessing.reference import resize

SHAPES = [(40, 40), (37, 61), (512, 300), (5, 900), (1, 1), (80, 3)]
PIL_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_antialiased_is_pil(make_spec, rng, shape, interpolation):
    image = rng.random(shape).astype(np.float32)
    spec = make_spec(interpolation=interpolation)
    expected = Image.fromarray(image).resize((40, 40), PIL_FILTERS[interpolation])
    ours = resize(image, geometry(*shape, spec))
    np.testing.assert_allclose(ours, np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("antialias", [True, False])
def test_both_kinds_are_torch(make_spec, rng, shape, interpolation, antialias):
    image = rng.random(shape)
    spec = make_spec(interpolation=interpolation, antialias=antialias)
    expected = F.interpolate(
        torch.from_numpy(image)[None, None],
        size=(40, 40),
        mode=interpolation,
        antialias=antialias,
        align_corners=False,
    )
    ours = resize(image, geometry(*shape, spec))
    np.testing.assert_allclose(ours, expected[0, 0].numpy(), atol=1e-12)


@pytest.mark.parametrize("shape", [(300, 200), (200, 301), (48, 48), (47, 1000)])
def test_shortest_is_torchvision_resize_and_centre_crop(make_spec, rng, shape):
    from torchvision.transforms import v2

    image = rng.random(shape)
    ours = resize(image, geometry(*shape, make_spec(resize="shortest", resize_to=48)))
    transform = v2.Compose(
        [v2.Resize(48, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(40)]
    )
    expected = transform(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_pad_keeps_the_aspect_and_centres(make_spec):
    ours = resize(np.ones((100, 50)), geometry(100, 50, make_spec(resize="pad")))
    assert np.allclose(ours[:, 10:30], 1.0)
    assert not ours[:, :10].any() and not ours[:, 30:].any()


def test_a_crop_out_of_a_very_long_image_has_no_more_taps_than_its_side(make_spec):
    plan = geometry(10, 400_000, make_spec(resize="shortest", resize_to=40))
    assert len(plan.columns.first) == 40
    assert plan.columns.weights.shape[1] <= 8


def test_one_geometry_serves_all_images_of_a_size(make_spec):
    assert geometry(64, 32, make_spec()) is geometry(64, 32, make_spec())
