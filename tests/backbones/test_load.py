"""Loading: real weights against their reference outputs, sizes, random weights, provenance."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dinorad_rt.backbones import registry
from dinorad_rt.backbones.load import RANDOM_LICENCE, load_backbone
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import UnknownNameError, WeightsError


def _reference(folder: Path, name: str) -> torch.Tensor:
    return torch.from_numpy(np.load(folder / f"{name}.npy"))


def test_deit_tiny_gives_its_reference_tokens_and_logits(shared_data: Path) -> None:
    folder = shared_data / "weights" / "deit_tiny_patch16_224"
    path = folder / "model.safetensors"
    backbone = load_backbone("deit_tiny_patch16_224", weights=path)
    with torch.inference_mode():
        tokens = backbone.module.forward_features(
            _reference(folder, "ref_input").reshape(1, 3, 224, 224)
        )
    head = load_file(path)
    logits = tokens[0, 0] @ head["head.weight"].T + head["head.bias"]
    torch.testing.assert_close(tokens[0], _reference(folder, "ref_tokens"), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        logits, _reference(folder, "ref_logits").flatten(), atol=1e-4, rtol=0
    )
    assert backbone.weights.kind == "file"
    assert backbone.weights.source == "model.safetensors"
    assert backbone.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "left out: classifier head (2)" in backbone.weights.notes


def test_squeezenet_gives_its_reference_features_and_logits(shared_data: Path) -> None:
    folder = shared_data / "weights" / "squeezenet1_1"
    path = folder / "model.safetensors"
    backbone = load_backbone("squeezenet1_1", weights=path)
    head = load_file(path)
    for given, wanted in (
        ("ref_input", "ref_logits"),
        ("ref_upstream_input_0", "ref_upstream_output_0"),
    ):
        image = _reference(folder, given).reshape(1, 3, 224, 224)
        with torch.inference_mode():
            grid = backbone.module.features(image)
            scores = torch.nn.functional.conv2d(
                grid, head["classifier.1.weight"], head["classifier.1.bias"]
            )
            pooled = backbone.module(image)[0]
        logits = scores.relu().mean((2, 3)).flatten()
        torch.testing.assert_close(logits, _reference(folder, wanted).flatten(), atol=3e-4, rtol=0)
        if given == "ref_input":
            expected = _reference(folder, "ref_features_gap").flatten()
            torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=0)
    assert pooled.shape == (backbone.spec.dim,)


def test_folded_mobilenet_gives_its_reference_features(shared_data: Path) -> None:
    folder = shared_data / "weights" / "mobilenet_v2_bnfolded_backbone"
    backbone = load_backbone("mobilenet_v2", weights=folder / "model.safetensors")
    with torch.inference_mode():
        pooled = backbone.module(_reference(folder, "ref_input").reshape(1, 3, 224, 224))[0]
    expected = _reference(folder, "ref_features_gap").flatten()
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=0)
    assert pooled.shape == (backbone.spec.dim,)
    assert "52 batch norms were folded into their convolutions" in backbone.weights.notes


def test_random_weights_depend_on_the_seed_alone(shrink: Callable[..., BackboneSpec]) -> None:
    shrink("vits14_reg")
    first, again = (load_backbone("tiny", weights="random", seed=3) for _ in range(2))
    other = load_backbone("tiny", weights="random", seed=4)
    assert first.weights == again.weights
    assert first.weights.sha256 != other.weights.sha256
    assert (first.weights.kind, first.weights.licence) == ("random", RANDOM_LICENCE)
    assert any("random" in note for note in first.weights.notes)


@pytest.mark.parametrize(
    ("base", "side"),
    [("vits14", 70), ("vits14_reg", 70), ("dinov3_s16", 64), ("sam_b16", 64), ("resnet18", 64)],
)
def test_random_weights_leave_no_part_silent(
    base: str, side: int, shrink: Callable[..., BackboneSpec]
) -> None:
    """Every tensor changes the output: a parity check on random weights sees every tensor."""
    sam = {"global_attn_indexes": (1,), "window_size": 2} if base == "sam_b16" else {}
    name = base if base == "resnet18" else shrink(base, native_size=side, **sam).name
    backbone = load_backbone(name, weights="random", image_size=side)
    backbone.module.requires_grad_(True)
    output = backbone.module(torch.randn(2, 3, side, side))
    assert output.shape == (2, backbone.spec.dim)
    assert torch.isfinite(output).all()
    assert 1e-3 < output.detach().std() < 1e3
    output.square().sum().backward()
    parameters = backbone.module.named_parameters()
    assert [key for key, p in parameters if p.grad is None or not p.grad.any()] == []


def test_the_module_is_ready_for_inference(shrink: Callable[..., BackboneSpec]) -> None:
    shrink("vits14")
    backbone = load_backbone("tiny", weights="random", image_size=98)
    assert backbone.image_size == 98
    assert not backbone.module.training
    assert not any(p.requires_grad for p in backbone.module.parameters())
    assert {t.dtype for t in backbone.module.state_dict().values()} == {torch.float32}
    assert backbone.module.pos_embed.shape == (1, 1 + 7 * 7, 48)


@pytest.mark.parametrize(
    ("name", "size", "fix"),
    [
        ("vits14", 225, "--image-size 224 or --image-size 238"),
        ("vits14", 10, "--image-size 14"),
        ("swin_tiny_patch4_window7_224", 448, "--image-size 224"),
    ],
)
def test_sizes_that_the_weights_cannot_take(name: str, size: int, fix: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone(name, weights="random", image_size=size)
    assert fix in caught.value.fix


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        load_backbone("vits14", weights=tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="holds no checkpoint"):
        load_backbone("vits14", weights=tmp_path)


def test_an_unknown_model_is_named_before_its_weights(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        load_backbone("vits15", weights=tmp_path / "absent.pth")


def test_a_folder_and_a_stated_licence(tmp_path: Path, shrink: Callable[..., BackboneSpec]) -> None:
    shrink("vits14")
    state = load_backbone("tiny", weights="random").module.state_dict()
    save_file(state, tmp_path / "model.safetensors", metadata={"license": "MIT"})
    backbone = load_backbone("tiny", weights=tmp_path)
    assert backbone.weights.licence == "MIT"
    assert backbone.weights.source == "model.safetensors"


def test_a_file_with_the_publishers_hash_carries_the_publishers_licence(
    tmp_path: Path, shrink: Callable[..., BackboneSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = shrink("vits14")
    path = tmp_path / "weights.safetensors"
    save_file(load_backbone("tiny", weights="random").module.state_dict(), path)
    assert load_backbone("tiny", weights=path).weights.licence.startswith("not stated")
    known = dataclasses.replace(spec, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(registry._registered, "tiny", known)
    assert load_backbone("tiny", weights=path).weights.licence == "Apache-2.0"
