"""What lies beside weights on a hub: other heads, another activation, another normalisation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError

Shrink = Callable[..., BackboneSpec]
HALF, IMAGENET = [0.5] * 3, [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]


def _save(folder: Path, file: str = "model.safetensors", **beside: Any) -> Path:
    """The weights of `tiny` as a hub lays them out, with JSON files beside them."""
    save_file(load_backbone("tiny", weights="random").module.state_dict(), folder / file)
    for name, content in beside.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_another_number_of_heads_is_refused(tmp_path: Path, shrink: Shrink) -> None:
    shrink("vits14")
    _save(tmp_path, config={"num_attention_heads": 6})
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(CheckpointMismatchError, match=r"6 attention heads; tiny .* has 3"):
            load_backbone("tiny", weights=path)


@pytest.mark.parametrize(
    ("base", "beside", "model"),
    [
        (
            "openclip_h14",
            {"config": {"vision_config": {"hidden_act": "quick_gelu", "num_attention_heads": 3}}},
            "vit_huge_patch14_clip_quickgelu_224",
        ),
        (
            "openclip_h14",
            {"open_clip_config": {"model_cfg": {"quick_gelu": True}}},
            "vit_huge_patch14_clip_quickgelu_224",
        ),
        ("clip_l14", {"config": {"hidden_act": "gelu"}}, "vit_large_patch14_clip_224"),
    ],
)
def test_another_activation_is_refused_with_the_model_that_has_it(
    tmp_path: Path, shrink: Shrink, base: str, beside: dict[str, Any], model: str
) -> None:
    shrink(base)
    _save(tmp_path, **beside)
    with pytest.raises(CheckpointMismatchError, match="GELU") as caught:
        load_backbone("tiny", weights=tmp_path)
    assert caught.value.fix == f"Use --model {model}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "beside",
    [
        {"preprocessor_config": {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3}},
        {"config": {"pretrained_cfg": {"mean": [0.5307] * 3, "std": [0.2583] * 3}}},
        {"open_clip_config": {"preprocess_cfg": {"mean": [0.5307] * 3, "std": [0.2583] * 3}}},
    ],
)
def test_another_normalisation_is_said_with_the_model_that_has_it(
    tmp_path: Path, shrink: Shrink, beside: dict[str, Any]
) -> None:
    shrink("vitb14")
    (said,) = [
        note
        for note in load_backbone("tiny", weights=_save(tmp_path, **beside)).weights.notes
        if "normalises" in note
    ]
    assert said.startswith(f"{next(iter(beside))}.json beside the weights normalises with mean")
    assert "0.5307, 0.5307, 0.5307 and standard deviation 0.2583" in said
    assert said.endswith("those are rad_dino's (--model rad_dino)")


def test_a_normalisation_that_no_model_here_has(tmp_path: Path, shrink: Shrink) -> None:
    shrink("vitb14")
    _save(tmp_path, preprocessor_config={"image_mean": HALF, "image_std": [0.125] * 3})
    notes = load_backbone("tiny", weights=tmp_path).weights.notes
    assert any("0.125" in note and "--model" not in note for note in notes)


def test_what_agrees_or_says_nothing_is_silent(tmp_path: Path, shrink: Shrink) -> None:
    shrink("vits14")
    expected = load_backbone("tiny", weights=_save(tmp_path)).weights.notes
    mean, std = IMAGENET
    _save(
        tmp_path,
        config={"num_attention_heads": 3, "hidden_act": "gelu", "architectures": ["Dinov2Model"]},
        preprocessor_config={"image_mean": mean, "image_std": std},
        open_clip_config=["no", "object"],
    )
    assert load_backbone("tiny", weights=tmp_path).weights.notes == expected
    (tmp_path / "config.json").write_text('{"num_attention_heads": "many", "hidden_act": 3}')
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": 0.5, "image_std": null')
    assert load_backbone("tiny", weights=tmp_path).weights.notes == expected


def test_a_file_of_its_own_name_is_not_of_the_folder(tmp_path: Path, shrink: Shrink) -> None:
    shrink("vits14")
    _save(tmp_path, "dinov2_vits14_pretrain.pth", config={"num_attention_heads": 6})
    assert load_backbone("tiny", weights=tmp_path / "dinov2_vits14_pretrain.pth")


def test_moco_v3_small_has_twelve_heads(tmp_path: Path) -> None:
    """facebookresearch/moco-v3, vits.py: 384 wide with 12 heads, where timm's ViT-S has 6."""
    backbone = load_backbone("moco_s16", weights="random")
    state = backbone.module.state_dict()
    both = {f"module.base_encoder.{key}": value for key, value in state.items()}
    both |= {f"module.momentum_encoder.{key}": value + 1 for key, value in state.items()}
    both |= {
        "module.base_encoder.head.0.weight": torch.zeros(2, 384),
        "module.predictor.0.weight": torch.zeros(2, 2),
    }
    path = tmp_path / "vit-s-300ep.pth.tar"
    torch.save({"epoch": 300, "arch": "vit_small", "state_dict": both}, path)
    loaded = load_backbone("moco_s16", weights=path)
    assert loaded.module.blocks[0].attn.num_heads == 12
    assert all(torch.equal(value, state[key]) for key, value in loaded.module.state_dict().items())
    with pytest.raises(CheckpointMismatchError, match="MoCo v3 with 12 attention heads") as caught:
        load_backbone("dino_s16", weights=path)
    assert caught.value.fix == "Use --model moco_s16"
