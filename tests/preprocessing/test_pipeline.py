"""`Preprocessor` as its callers see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dinorad_rt.errors import DataError
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.reference import picture_of
from dinorad_rt.studies.study import Study

IMAGE = Study(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), units="display")


def test_normalises_per_channel(make_spec, implementation):
    spec = make_spec(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    row = Preprocessor(spec, implementation=implementation)(IMAGE)
    grey = Preprocessor(make_spec(), implementation=implementation)(IMAGE)
    assert row.dtype == np.float32 and row.shape == (3, 40, 40)
    for index in range(3):
        expected = (grey[index] - spec.mean[index]) / spec.std[index]
        np.testing.assert_allclose(row[index], expected, atol=1e-6)


def test_a_normalised_input_becomes_a_picture_again(make_spec):
    from torchvision.transforms.functional import normalize

    spec = make_spec(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    grey = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    picture = picture_of(normalize(grey, spec.mean, spec.std).numpy(), spec)
    np.testing.assert_allclose(picture, grey.permute(1, 2, 0), atol=1e-6)
    overshoot = picture_of(np.full((3, 1, 1), 9.0), spec)
    assert (overshoot == 1).all() and not picture_of(np.full((3, 1, 1), -9.0), spec).any()


def test_into_writes_a_row_of_a_batch(make_spec, implementation):
    make = Preprocessor(make_spec(), implementation=implementation)
    batch = np.zeros((3, 3, 40, 40), np.float32)
    make.into(IMAGE, batch[1])
    assert np.array_equal(batch[1], make(IMAGE)) and not batch[0].any() and not batch[2].any()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_into_writes_narrow_numbers(make_spec, implementation, name):
    make = Preprocessor(make_spec(), implementation=implementation)
    row = np.empty((3, 40, 40), np.float16 if name == "float16" else np.uint16)
    make.into(IMAGE, row)
    values = torch.from_numpy(row.view(np.int16)).view(getattr(torch, name)).float().numpy()
    np.testing.assert_allclose(values, make(IMAGE), rtol=2**-8, atol=2**-14)


@pytest.mark.parametrize(
    "row",
    [
        np.empty((3, 40, 41), np.float32),
        np.empty((1, 40, 40), np.float32),
        np.empty((3, 40, 40), np.float64),
        np.empty((3, 40, 80), np.float32)[..., ::2],
    ],
    ids=["size", "channels", "dtype", "layout"],
)
def test_a_buffer_that_does_not_fit_is_refused(make_spec, row):
    with pytest.raises(DataError, match="buffer must be"):
        Preprocessor(make_spec()).into(IMAGE, row)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 4, 4)),
        np.zeros((0, 4, 4)),
        np.zeros((1, 0, 4)),
        np.zeros((4, 4)),
        np.zeros((1, 4, 4, 4)),
        np.zeros((1, 4, 4), complex),
    ],
    ids=lambda pixels: str(pixels.shape),
)
def test_what_is_no_single_slice_is_refused(make_spec, pixels):
    with pytest.raises(DataError):
        Preprocessor(make_spec())(Study(pixels))


def test_a_rescale_that_is_no_number_is_refused(make_spec):
    study = Study(np.zeros((1, 4, 4), np.int16), units="HU", rescale=(float("nan"), 0.0))
    with pytest.raises(DataError, match="finite"):
        Preprocessor(make_spec())(study)


@pytest.mark.parametrize(
    "changes",
    [
        dict(image_size=0),
        dict(resize_to=39),
        dict(percentiles=(50.0, 50.0)),
        dict(percentiles=(-1.0, 50.0)),
        dict(window=(40.0, 0.0)),
        dict(std=(1.0, 0.0, 1.0)),
    ],
    ids=str,
)
def test_a_spec_that_contradicts_itself_is_refused(make_spec, changes):
    with pytest.raises(DataError, match="allowed"):
        Preprocessor(make_spec(**changes))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "int64", "float16"])
def test_every_real_type_of_pixels(make_spec, implementation, dtype):
    pixels = np.eye(40).astype(dtype)[None]
    row = Preprocessor(make_spec(intensity="minmax"), implementation=implementation)(Study(pixels))
    np.testing.assert_allclose(row[0], np.eye(40), atol=1e-6)


def test_equal_rgb_is_the_grey_image(make_spec, implementation):
    colour = Study(np.repeat(IMAGE.pixels[..., None], 3, axis=-1), units="colour")
    for channels in ("grey", "rgb"):
        make = Preprocessor(make_spec(channels=channels), implementation=implementation)
        np.testing.assert_allclose(make(colour), make(IMAGE), atol=1e-6)
