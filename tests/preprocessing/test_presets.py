"""Presets against torchvision's transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import UnknownNameError
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.presets import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRESETS,
    preset,
    window_preset,
)
from dinorad_rt.studies.study import Study

BACKBONE = BackboneSpec(
    name="test",
    architecture="test",
    family="vit",
    source="",
    licence="",
    title="",
    training="",
    dim=1,
    patch=16,
    mean=(0.5, 0.4, 0.3),
    std=(0.3, 0.2, 0.1),
)


@pytest.fixture
def colour(rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) uint8 with edges of both signs."""
    return rng.integers(0, 256, (300, 401, 3)).astype(np.uint8)


def as_study(colour: np.ndarray) -> Study:
    return Study(colour[None], units="colour")


def as_tensor(colour: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(colour).permute(2, 0, 1).double() / 255.0


def test_model_is_the_usual_evaluation_transform(colour, implementation):
    make = Preprocessor(preset("model", BACKBONE, 224), implementation=implementation)
    transform = v2.Compose(
        [
            v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
            v2.Lambda(lambda image: image.clamp(0, 1)),
            v2.Normalize(BACKBONE.mean, BACKBONE.std),
        ]
    )
    expected = transform(as_tensor(colour)).numpy()
    np.testing.assert_allclose(make(as_study(colour)), expected, atol=2e-5)


def test_study_is_the_papers_transform(colour, implementation):
    """PROTOCOLS 1.3: forced square, no antialias, crop, min-max per channel, ImageNet numbers."""
    make = Preprocessor(preset("study", BACKBONE, 224), implementation=implementation)
    image = v2.Resize((256, 256), v2.InterpolationMode.BICUBIC, antialias=False)(as_tensor(colour))
    image = v2.CenterCrop(224)(image)
    low, high = image.amin((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
    expected = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)((image - low) / (high - low)).numpy()
    np.testing.assert_allclose(make(as_study(colour)), expected, atol=2e-5)


def test_dinorad_shows_the_whole_image(implementation):
    pixels = np.zeros((1, 300, 401), np.uint8)
    pixels[:, :, -3:] = 255
    make = Preprocessor(preset("dinorad", BACKBONE, 224), implementation=implementation)
    row = make(Study(pixels, units="display"))
    assert row[0, :, -1].min() == pytest.approx((1 - 0.5) / 0.3, abs=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_itself_and_has_a_digest(name):
    spec = preset(name, BACKBONE, 98)
    assert spec.preset == name and spec.image_size == 98
    assert spec.digest() != preset(name, BACKBONE, 112).digest()


def test_unknown_names_suggest_the_closest():
    with pytest.raises(UnknownNameError, match="dinorad"):
        preset("dinord", BACKBONE, 224)
    with pytest.raises(UnknownNameError, match="lung"):
        window_preset("lungs")
    assert window_preset("lung") == (-600.0, 1500.0)
