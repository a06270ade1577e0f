"""Masks and scores between the two grids, against torch's interpolation and by round trip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dinorad_rt.errors import ProtocolError
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.spec import PreprocessSpec, Resize
from dinorad_rt.studies.study import Study
from dinorad_rt.training.segmentation.grid import (
    check_invertible,
    mask_to_grid,
    scores_to_study,
    undisplayed,
)

SHAPES = ((40, 50), (300, 200), (64, 64))


def spec_of(resize: Resize, size: int = 64, resize_to: int | None = None) -> PreprocessSpec:
    return PreprocessSpec(size, (0, 0, 0), (1, 1, 1), resize=resize, resize_to=resize_to)


def disc(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = ((rows - 0.1) ** 2 + (columns + 0.1) ** 2 < 0.3).astype(np.uint8)
    mask[(rows**2 + columns**2) < 0.03] = 2
    return mask


@pytest.mark.parametrize("shape", SHAPES)
def test_squashed_masks_are_torchs_nearest_exact(shape: tuple[int, int]) -> None:
    mask = disc(shape)
    tensor = torch.from_numpy(mask)[None, None].float()
    expected = F.interpolate(tensor, size=(64, 64), mode="nearest-exact")[0, 0].numpy()
    np.testing.assert_array_equal(mask_to_grid(mask, spec_of("squash")), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_of_squashed_images_are_torchs_bilinear(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32)
    exact = torch.from_numpy(scores)[None].double()
    expected = F.interpolate(exact, size=shape, mode="bilinear")
    found = scores_to_study(scores, shape, spec_of("squash"))
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("resize", "resize_to"), [("squash", 72), ("shortest", 70), ("pad", None)])
def test_mask_lies_where_the_preprocessed_image_has_it(
    shape: tuple[int, int], resize: Resize, resize_to: int | None
) -> None:
    """The mask, sent through the image's own preprocessing, is the mask on the grid."""
    mask = (disc(shape) > 0).astype(np.uint8)
    spec = spec_of(resize, resize_to=resize_to)
    image = Preprocessor(spec)(Study(mask[None] * np.uint8(255), units="display"))[0]
    moved = mask_to_grid(mask, spec)
    edges = np.abs(image - 0.5) < 0.4
    assert edges.mean() < 0.2
    np.testing.assert_array_equal(moved[~edges], image[~edges] > 0.5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("resize", "resize_to"), [("squash", None), ("shortest", 70), ("pad", None)]
)
def test_there_and_back(shape: tuple[int, int], resize: Resize, resize_to: int | None) -> None:
    mask = disc(shape)
    spec = spec_of(resize, 128 if resize != "shortest" else 64, resize_to)
    moved = mask_to_grid(mask, spec)
    scores = (moved[None] == np.arange(3)[:, None, None]).astype(np.float32)
    back = scores_to_study(scores, shape, spec).argmax(axis=0)
    inside = back > 0 if resize == "shortest" else np.ones(shape, bool)
    assert (back == mask)[inside].mean() > 0.97


def test_what_the_crop_cuts_away_is_background() -> None:
    scores = np.zeros((2, 64, 64), np.float32)
    scores[1] = 5
    found = scores_to_study(scores, (64, 128), spec_of("shortest", resize_to=64)).argmax(axis=0)
    assert found[:, 32:96].all() and not found[:, :32].any() and not found[:, 96:].any()


@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_masks_turn_back_to_the_files_axes(flips: tuple[int, int]) -> None:
    pixels = np.arange(24).reshape(2, 3, 4)
    orientation = np.asarray([[0, 0, flips[1]], [0, flips[0], 0], [1, 0, 0]], np.float64)
    study = Study(pixels, spacing=(1, 1, 1), orientation=orientation, origin=(0, 0, 0))
    np.testing.assert_array_equal(undisplayed(study.displayed().pixels, study), pixels)


def test_spacing_puts_mask_and_image_at_one_scale() -> None:
    spec = PreprocessSpec(64, (0, 0, 0), (1, 1, 1), resize="spacing", spacing=2.0)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 1
    image = Study(mask[None] * np.uint8(255), units="display", spacing=(1, 1.0, 1.5))
    shown = Preprocessor(spec)(image)[0]
    moved = mask_to_grid(mask, spec, (1.0, 1.5))
    edges = np.abs(shown - 0.5) < 0.4
    np.testing.assert_array_equal(moved[~edges], shown[~edges] > 0.5)
    scores = np.stack([0.5 - moved, moved - 0.5]).astype(np.float32)
    back = scores_to_study(scores, (60, 80), spec, (1.0, 1.5)).argmax(axis=0)
    assert (back == mask).mean() > 0.97


def test_body_crops_are_refused() -> None:
    with pytest.raises(ProtocolError, match="cuts each slice"):
        check_invertible(PreprocessSpec(64, (0, 0, 0), (1, 1, 1), preset="x", crop="body"))
