"""Attention rollout against timm's own unfused attention and the formula of the paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.errors import DataError
from dinorad_rt.export.program import export_program
from dinorad_rt.prediction import saliency
from dinorad_rt.prediction.attention import attention_map, attentions, rollout
from dinorad_rt.prediction.bundle import Bundle

SIZE, PATCH = 64, 16


def vit(registers: int = 0) -> Any:
    torch.manual_seed(0)
    made = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=SIZE,
        depth=3,
        embed_dim=32,
        num_heads=4,
        num_classes=2,
        reg_tokens=registers,
    ).eval()
    with torch.no_grad():
        for block in made.blocks:  # sharp enough for no two tokens to be looked at alike
            block.attn.qkv.weight.mul_(30)
    return made


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, SIZE, SIZE)).astype(np.float32)


def timms_own(model: Any, pixels: np.ndarray) -> list[np.ndarray]:
    """What timm softmaxes when it does not fuse, mean of the heads."""
    kept: list[np.ndarray] = []
    hooks = []
    for block in model.blocks:
        block.attn.fused_attn = False
        hooks.append(
            block.attn.attn_drop.register_forward_hook(
                lambda _, __, out: kept.append(out[0].detach().double().mean(0).numpy())
            )
        )
    with torch.no_grad():
        model(torch.from_numpy(pixels)[None])
    for hook, block in zip(hooks, model.blocks, strict=True):
        hook.remove()
        block.attn.fused_attn = True
    return kept


def of_the_paper(layers: list[np.ndarray], query: int) -> np.ndarray:
    """One row of the rollout, written as sums over paths from the last block to the first."""
    weights = np.zeros(len(layers[0]))
    weights[query] = 1.0
    for layer in reversed(layers):
        mixed = 0.5 * layer + 0.5 * np.eye(len(layer))
        mixed /= mixed.sum(axis=1, keepdims=True)
        weights = np.array(
            [sum(weights[j] * mixed[j, i] for j in range(len(layer))) for i in range(len(layer))]
        )
    return weights


@pytest.mark.parametrize("registers", [0, 4])
def test_it_is_what_timm_computes_without_fusing(registers: int) -> None:
    model, pixels = vit(registers), image()
    expected = timms_own(model, pixels)
    found = attentions(model, pixels)
    assert len(found) == len(expected) == 3
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
        np.testing.assert_allclose(mine.sum(axis=1), 1.0)
    row = of_the_paper(expected, 0)
    np.testing.assert_allclose(rollout(found)[0], row, atol=1e-5)
    side = SIZE // PATCH
    patches = row[1 + registers :].reshape(side, side)
    shares = attention_map(found, (SIZE, SIZE))
    assert shares.shape == (SIZE, SIZE) and shares.std() > 0.05
    np.testing.assert_allclose(shares[::PATCH, ::PATCH], patches / patches.mean(), atol=1e-3)
    np.testing.assert_array_equal(shares[:PATCH, :PATCH], shares[0, 0])


def test_an_exported_program_is_asked_like_the_live_model() -> None:
    backbone = load_backbone("test_vit", weights="random")
    size = backbone.input_shape[1]
    pixels = np.random.default_rng(1).standard_normal((3, size, size)).astype(np.float32)
    program: Any = export_program(backbone).module()
    expected = timms_own(backbone.module, pixels)
    found = attentions(lambda x: program(x)[0], pixels)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_map_is_what_is_above_an_even_share_and_the_note_has_the_shares() -> None:
    model, pixels = vit(), image()
    found = saliency.attention(model, pixels)
    shares = attention_map(timms_own(model, pixels), (SIZE, SIZE))
    assert found.values.min() == 0 and found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, np.maximum(shares - 1, 0), atol=1e-3)
    assert 0.2 < (found.values > 0).mean() < 0.8  # else the picture would be tinted all over
    assert f"{shares.min():.1f} to {shares.max():.1f} times" in found.note


def test_no_class_changes_it() -> None:
    asked = saliency.Asked(lambda _: np.zeros((1, 2)), vit(), np.zeros((3, 1, 1)), False)
    maps = [saliency.attribute("attention", asked, image(), target).values for target in (0, 1)]
    np.testing.assert_array_equal(*maps)


def convolution(x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, torch.ones(2, 3, 1, 1)).mean((2, 3))


def windows(x: torch.Tensor) -> torch.Tensor:
    q = x.reshape(-1, 1, 16, 12)
    return F.scaled_dot_product_attention(q, q, q).reshape(len(x), -1)[:, :2]


def without_class_token(x: torch.Tensor) -> torch.Tensor:
    q = x.reshape(len(x), 1, 16, -1)
    return F.scaled_dot_product_attention(q, q, q).reshape(len(x), -1)[:, :2]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (convolution, "has no attention, so"),
        (windows, "no attention over the whole image"),
        (without_class_token, "no class token"),
    ],
)
def test_what_has_none_is_refused(module: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        saliency.attention(module, image())
    assert "--saliency occlusion" in str(caught.value)


def test_predict_draws_it_and_refuses_a_network_without_before_any_work(
    bundle_of: Callable[..., Bundle],
    predict_with: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(grey).save(tmp_path / "in" / "a.png")
    monkeypatch.setattr(saliency, "logits_module", lambda _: convolution)
    with pytest.raises(DataError, match="no attention"):
        predict_with(bundle_of(), tmp_path / "in", tmp_path / "no", saliency="attention")
    assert not (tmp_path / "no").exists()
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=16, num_heads=2, num_classes=2
    ).eval()
    monkeypatch.setattr(saliency, "logits_module", lambda _: model)
    done = predict_with(bundle_of(), tmp_path / "in", tmp_path / "out", saliency="attention")
    (picture,) = (done.folder / "saliency").glob("*.png")
    assert np.asarray(Image.open(picture)).std() > 1
