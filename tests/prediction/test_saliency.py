"""Integrated gradients against closed forms and their own axioms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit, softmax

from dinorad_rt.errors import DataError
from dinorad_rt.prediction.bundle import Bundle
from dinorad_rt.prediction.saliency import (
    black_of,
    integrated_gradients,
    log_odds,
    occlusion,
    patch_means,
    write_saliency,
)

BLACK = np.full((3, 1, 1), -2.0, np.float32)


def test_a_linear_model_is_attributed_its_own_weights() -> None:
    torch.manual_seed(0)
    weight = torch.randn(2, 3 * 6 * 5)
    pixels = np.random.default_rng(0).standard_normal((3, 6, 5)).astype(np.float32)
    found = integrated_gradients(lambda x: x.flatten(1) @ weight.T, pixels, BLACK, 1, steps=4)
    expected = (weight[1].reshape(3, 6, 5).numpy() * (pixels - BLACK)).sum(axis=0)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    assert found.error < 1e-5


def test_a_square_is_attributed_exactly_by_midpoints() -> None:
    pixels = np.random.default_rng(1).standard_normal((3, 4, 4)).astype(np.float32)
    found = integrated_gradients(
        lambda x: (x**2).flatten(1).sum(1, keepdim=True), pixels, BLACK, 0, steps=3
    )
    np.testing.assert_allclose(found.values, (pixels**2 - BLACK**2).sum(axis=0), rtol=1e-4)


def test_attributions_of_a_network_add_up_to_the_change_of_its_logit() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.GELU(),
        torch.nn.Conv2d(8, 4, 3, stride=2),
        torch.nn.GELU(),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(3),
    ).eval()
    pixels = np.random.default_rng(2).standard_normal((3, 16, 16)).astype(np.float32)
    coarse, fine = (
        integrated_gradients(network, pixels, BLACK, 2, steps=steps) for steps in (2, 128)
    )
    with torch.no_grad():
        image, black = torch.from_numpy(pixels), torch.from_numpy(BLACK).expand(3, 16, 16)
        ends = network(torch.stack([image, black]))[:, 2]
    assert fine.values.sum() == pytest.approx(float(ends[0] - ends[1]), rel=1e-3)
    assert fine.error < 1e-3 and fine.error <= coarse.error


def test_log_odds_are_those_of_the_probability() -> None:
    logits = np.random.default_rng(0).standard_normal((7, 4)) * 5
    p = softmax(logits, axis=1)[:, 2]
    np.testing.assert_allclose(log_odds(logits, 2, sigmoid=False), np.log(p / (1 - p)))
    p = expit(logits[:, 1])
    np.testing.assert_allclose(log_odds(logits, 1, sigmoid=True), np.log(p / (1 - p)))


def test_hiding_what_the_answer_rests_on_makes_it_fall() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((3, 56, 56)).astype(np.float32)
    pixels[:, 8:16, 36:44] += 4

    def infer(images: np.ndarray) -> np.ndarray:
        spot = images[:, :, 8:16, 36:44].mean(axis=(1, 2, 3))
        return np.stack([-spot, spot], axis=1)

    found = occlusion(infer, pixels, 1, sigmoid=False)
    row, column = np.unravel_index(found.values.argmax(), found.values.shape)
    assert 8 <= row < 16 and 36 <= column < 44
    assert found.values[30:, :].max() == 0 and found.values[:, :20].max() == 0
    hidden = pixels.copy()
    hidden[:, 4:16, 36:48] = pixels.mean(axis=(1, 2), keepdims=True)
    odds = log_odds(infer(np.stack([pixels, hidden])), 1, sigmoid=False)
    assert f"({odds[0]:.2f}, uncalibrated) by at most {odds[0] - odds[1]:.2f}" in found.note


def test_patches_are_meaned_with_smaller_ones_at_the_rim() -> None:
    values = np.arange(30, dtype=float).reshape(5, 6)
    found = patch_means(values, 4)
    assert found.shape == values.shape
    np.testing.assert_allclose(found[:4, :4], values[:4, :4].mean())
    np.testing.assert_allclose(found[4, 4:], values[4, 4:].mean())


def test_the_picture_is_orange_where_the_answer_comes_from(
    bundle_of: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = bundle_of()
    pixels = np.zeros((3, 32, 32), np.float32) + black_of(bundle.preprocessing)
    pixels[:, :14, :14] = 1.0
    found = integrated_gradients(
        lambda x: x[:, :, :14, :14].mean((1, 2, 3))[:, None],
        pixels,
        black_of(bundle.preprocessing),
        0,
    )
    write_saliency(tmp_path / "a.png", bundle, pixels, found, ["yes: 0.9"])
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    side = picture.shape[1] // 2
    spot, rest = picture[40, side + 40], picture[side - 40, 2 * side - 40]
    assert spot[0] > spot[2] + 60
    assert rest.max() < 20


def test_masks_are_not_explained(
    bundle_of: Callable[..., Bundle], predict_with: Any, tmp_path: Path
) -> None:
    bundle = bundle_of("segmentation", "segmentation", ("background", "bright"))
    with pytest.raises(DataError, match="--overlays"):
        predict_with(bundle, tmp_path, tmp_path / "out", saliency="occlusion")
