"""What lies beside weights on a hub: other heads, another activation, another normalisation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.embeddings.provenance import engine_facts
from dinorad_rt.errors import CheckpointMismatchError
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.pipeline import build_engine, preprocessing_for
from dinorad_rt.preprocessing.presets import preset_of

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


RAD_DINO = {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3}


@pytest.mark.parametrize(
    "beside",
    [
        {"preprocessor_config": RAD_DINO | {"rescale_factor": 0.00392156862}},
        {"config": {"pretrained_cfg": {"mean": [0.5307] * 3, "std": [0.2583] * 3}}},
        {"open_clip_config": {"preprocess_cfg": {"mean": [0.5307] * 3, "std": [0.2583] * 3}}},
    ],
)
def test_the_normalisation_beside_the_users_weights_is_followed_and_said(
    tmp_path: Path, shrink: Shrink, beside: dict[str, Any]
) -> None:
    own = shrink("vitb14")
    backbone = load_backbone("tiny", weights=_save(tmp_path, **beside))
    assert backbone.spec.mean == pytest.approx((0.5307,) * 3)
    assert backbone.spec.std == pytest.approx((0.2583,) * 3)
    assert backbone.spec.create == own.create
    (said,) = [note for note in backbone.weights.notes if "normalised" in note]
    file = f"{next(iter(beside))}.json"
    assert f"as beside the weights: {file} states mean 0.5307, 0.5307, 0.5307" in said
    assert "tiny's own are mean 0.485, 0.456, 0.406" in said
    assert said.endswith("those are rad_dino's (--model rad_dino)")
    assert backbone.weights.normalisation is not None
    assert backbone.weights.normalisation["file"] == file


@pytest.mark.parametrize(
    ("stated", "mean", "std"),
    [
        ({"image_mean": HALF, "image_std": [0.125] * 3}, 0.5, 0.125),
        ({"image_mean": HALF, "image_std": HALF, "do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [51.0] * 3, "image_std": [102.0] * 3}, 0.2, 0.4),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
    ],
)
def test_what_transformers_does_to_pixels_is_done(
    tmp_path: Path, shrink: Shrink, stated: dict[str, Any], mean: float, std: float
) -> None:
    """(pixel * factor - mean) / std of its processor is (pixel / 255 - mean) / std of ours."""
    shrink("vitb14")
    _save(tmp_path, preprocessor_config=stated)
    backbone = load_backbone("tiny", weights=tmp_path)
    assert backbone.spec.mean == pytest.approx((mean,) * 3)
    assert backbone.spec.std == pytest.approx((std,) * 3)
    processor = pytest.importorskip("transformers").ViTImageProcessor(do_resize=False, **stated)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    theirs = processor(pixels, return_tensors="np", input_data_format="channels_first")
    ours = (pixels / 255 - mean) / std
    np.testing.assert_allclose(theirs["pixel_values"][0], ours, atol=1e-5)


def test_weights_of_the_hub_keep_the_facts_of_their_model(
    tmp_path: Path, shrink: Shrink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of its files lie in the hub's cache is chance: numbers may not depend on it."""
    own = shrink("vitb14")
    file = _save(tmp_path, preprocessor_config=RAD_DINO) / "model.safetensors"
    monkeypatch.setattr("dinorad_rt.backbones.hub.fetch", lambda _: file)
    backbone = load_backbone("tiny")
    assert (backbone.spec.mean, backbone.weights.normalisation) == (own.mean, None)
    assert any("normalised with tiny's own mean 0.485" in note for note in backbone.weights.notes)


def test_files_that_do_not_agree_are_refused(tmp_path: Path, shrink: Shrink) -> None:
    shrink("vitb14")
    other = {"pretrained_cfg": {"mean": HALF, "std": HALF}}
    _save(tmp_path, preprocessor_config=RAD_DINO, config=other)
    with pytest.raises(CheckpointMismatchError, match=r"do not agree: preprocessor_config.*0\.5,"):
        load_backbone("tiny", weights=tmp_path)


@pytest.mark.parametrize("vision", [True, False])
def test_positions_of_images_that_are_not_square_are_refused(
    tmp_path: Path, shrink: Shrink, vision: bool
) -> None:
    """2 x 8 patches have as many positions as 4 x 4."""
    shrink("dino_s16", native_size=64)
    stated = {"image_size": [32, 128]}
    _save(tmp_path, config={"vision_config": stated} if vision else stated)
    with pytest.raises(CheckpointMismatchError, match="images of 32 x 128"):
        load_backbone("tiny", weights=tmp_path)
    _save(tmp_path, config={"image_size": [64, 64]})
    assert load_backbone("tiny", weights=tmp_path)


def test_engine_and_results_carry_the_normalisation(
    tmp_path: Path, shrink: Shrink, cache: Path
) -> None:
    """The same weights with and without the file are one ONNX graph and two engines."""
    shrink("vitb14", depth=1)
    plain = export_onnx(load_backbone("tiny", weights=_save(tmp_path)))
    _save(tmp_path, preprocessor_config=RAD_DINO)
    stated = export_onnx(load_backbone("tiny", weights=tmp_path))
    assert plain.sha256 == stated.sha256
    own, theirs = (build_engine(graph, backend="onnxruntime") for graph in (plain, stated))
    assert own.key != theirs.key
    assert preprocessing_for(own).mean == (0.485, 0.456, 0.406)
    assert preprocessing_for(theirs).mean == pytest.approx((0.5307,) * 3)
    assert preset_of("dinorad", stated.manifest) == preprocessing_for(theirs)
    facts = engine_facts(theirs)
    assert facts["normalisation"]["file"] == "preprocessor_config.json"
    assert any("as beside the weights" in note for note in facts["weights_notes"])
    assert "normalisation" not in engine_facts(own)


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
