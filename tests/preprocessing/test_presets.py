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


HU = Study(
    np.linspace(-1200, 1500, 64 * 64).reshape(1, 64, 64).astype(np.int16), units="HU", modality="CT"
)


def test_a_named_window_wins_over_the_files(implementation):
    from dataclasses import replace

    from dinorad_rt.studies.study import Window

    study = replace(HU, windows=(Window(40, 400),))
    make = Preprocessor(preset("dinorad:lung", BACKBONE, 64), implementation=implementation)
    centre, width = window_preset("lung")
    grey = np.clip((study.values()[0] - centre + width / 2) / width, 0, 1)
    np.testing.assert_allclose(make(study)[0], (grey - 0.5) / 0.3, atol=2e-5)
    other = Study(HU.pixels, units="stored", modality="MR")
    plain = Preprocessor(preset("dinorad", BACKBONE, 64), implementation=implementation)
    assert np.array_equal(make(other), plain(other))  # a window in HU says nothing of MR


def test_three_windows_are_the_three_channels(implementation):
    name = "dinorad:lung,soft-tissue,bone"
    spec = preset(name, BACKBONE, 64)
    assert spec.preset == name and len(spec.as_dict()["windows"]) == 3
    row = Preprocessor(spec, implementation=implementation)(HU)
    for index, window in enumerate(("lung", "soft-tissue", "bone")):
        one = preset(f"dinorad:{window}", BACKBONE, 64)
        expected = Preprocessor(one, implementation=implementation)(HU)
        np.testing.assert_allclose(row[index], expected[index], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("NIHChestXray", lambda v: v),
        ("AMOS", lambda v: v.clip(-1024, 600)),
        ("BTCV", lambda v: v.clip(None, 600)),
        ("MSDSpleen", lambda v: v.clip(*np.percentile(v, (5, 95)))),
    ],
)
def test_the_studys_loaders_clip_so(name, clip, implementation):
    """PROTOCOLS 1.2, then the transform of 1.3 by torchvision."""
    make = Preprocessor(preset(f"study:{name}", BACKBONE, 56), implementation=implementation)
    image = torch.from_numpy(clip(HU.values()[0]))
    np.testing.assert_allclose(make(HU), papers_transform(image), atol=2e-5)


def test_the_brain_tumour_loader_sets_the_lowest_values_to_zero(rng, implementation):
    pixels = rng.integers(30, 4000, (1, 90, 80)).astype(np.int16)
    low, high = np.percentile(pixels[0], (5, 95))
    expected = np.where(pixels[0] <= low, 0.0, pixels[0].clip(None, high))
    make = Preprocessor(preset("study:BrainTumor", BACKBONE, 56), implementation=implementation)
    found = make(Study(pixels, units="stored"))
    np.testing.assert_allclose(found, papers_transform(torch.from_numpy(expected)), atol=2e-5)


def papers_transform(image: torch.Tensor) -> np.ndarray:
    image = v2.Resize((64, 64), v2.InterpolationMode.BICUBIC, antialias=False)(image[None])
    image = v2.CenterCrop(56)(image)
    grey = (image - image.min()) / (image.max() - image.min())
    return v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)(grey.repeat(3, 1, 1)).numpy()


def test_uncropped_shows_the_whole_image():
    spec = preset("study:uncropped,MSDHeart", BACKBONE, 448)
    assert spec.resize_to is None and spec.clip == "percentile" and spec.intensity == "minmax"


def test_spacing_shows_the_same_field_of_view(implementation):
    """A square of 20 mm covers 20 pixels at 1 mm, whatever the file's spacing."""
    make = Preprocessor(preset("dinorad:spacing=1", BACKBONE, 64), implementation=implementation)
    for spacing in (0.5, 0.8, 2.0):
        side = round(20 / spacing)
        pixels = np.zeros((1, 3 * side, 3 * side), np.uint8)
        pixels[:, side : 2 * side, side : 2 * side] = 255
        row = make(Study(pixels, units="display", spacing=(1.0, spacing, spacing)))
        area = float((row[0] * 0.3 + 0.5).sum())
        assert area == pytest.approx(400, rel=0.02)


def test_spacing_without_a_spacing_is_refused():
    from dinorad_rt.errors import DataError

    with pytest.raises(DataError, match="no pixel spacing"):
        Preprocessor(preset("dinorad:spacing=1", BACKBONE, 64))(HU)


@pytest.mark.parametrize(
    "name",
    ["dinorad:lungs", "dinorad:lung,bone", "study:lung", "study:Nih", "dinorad:spacing=-1", "x:y"],
)
def test_options_that_do_not_exist_are_refused(name):
    with pytest.raises(UnknownNameError) as caught:
        preset(name, BACKBONE, 224)
    assert caught.value.fix
