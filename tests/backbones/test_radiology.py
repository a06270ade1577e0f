"""Encoders that radiology groups hold, under the key names of their public code, on small copies.

Key names: rmaphoh/RETFound_MAE, ricklisz/MedDINOv3 (facebookresearch/dinov3), jlianglab/Ark
(Ark_Plus, timm 0.5), hustvl/EVA-X. References: timm's own classes, built as that code builds them.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.eva import Eva

from dinorad_rt.backbones import registry
from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.random_weights import fill_random
from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError

Shrink = Callable[..., BackboneSpec]
State = dict[str, torch.Tensor]


def _random(module: Any) -> Any:
    fill_random(module, 7, convolutional=False)
    return module.eval()


def _images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))


def _assert_same(found: Any, reference: torch.Tensor, side: int) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(found(_images(side)), reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_retfound(tmp_path: Path, shrink: Shrink, fine_tuned: bool) -> None:
    """A masked autoencoder; its classifier on the mean has no norm for the class token."""
    shrink("mae_l16", native_size=64)
    state = dict(load_backbone("tiny", weights="random").module.state_dict())
    decoder = {
        "mask_token": torch.zeros(1, 1, 32),
        "decoder_pos_embed": torch.zeros(1, 17, 32),
        "decoder_embed.weight": torch.zeros(32, 48),
        "decoder_blocks.0.norm1.weight": torch.ones(32),
        "decoder_norm.weight": torch.ones(32),
        "decoder_pred.bias": torch.zeros(768),
    }
    given: State = {**state, **decoder}
    if fine_tuned:
        given = {re.sub(r"^norm\.", "fc_norm.", key): value for key, value in state.items()}
        given |= {"head.weight": torch.zeros(2, 48), "head.bias": torch.zeros(2)}
    rest = {"optimizer": {"state": {}}, "epoch": 49, "scaler": {"scale": 1.0}}
    path = tmp_path / "RETFound_cfp_weights.pth"
    torch.save({"model": given, "args": argparse.Namespace(blr=1e-3), **rest}, path)
    if fine_tuned:
        with pytest.raises(CheckpointMismatchError) as caught:
            load_backbone("tiny", weights=path)
        assert "before the fine-tuning" in caught.value.fix
        return
    loaded = load_backbone("tiny", weights=path).module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


def test_meddinov3(tmp_path: Path, shrink: Shrink) -> None:
    """The teacher of DINOv3's training, with its heads, under `backbone.`."""
    shrink("dinov3_s16", native_size=64)
    state = dict(load_backbone("tiny", weights="random").module.state_dict())
    official: State = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(4)}
    for key, value in state.items():
        name = re.sub(r"gamma_(\d)$", r"ls\1.gamma", key)
        official[name.replace("reg_token", "storage_tokens")] = value
    for index in range(3):
        stem = f"blocks.{index}.attn."
        query, value = official.pop(f"{stem}q_bias"), official.pop(f"{stem}v_bias")
        official[f"{stem}qkv.bias"] = torch.cat((query, torch.ones(48), value))
        mask = torch.ones(144)
        mask[48:96] = 0
        official[f"{stem}qkv.bias_mask"] = mask
    teacher = {f"backbone.{key}": value for key, value in official.items()}
    teacher |= {"dino_head.mlp.0.weight": torch.zeros(2, 2), "ibot_head.mlp.0.bias": torch.ones(2)}
    path = tmp_path / "model.pth"
    torch.save({"teacher": teacher}, path)
    backbone = load_backbone("tiny", weights=path)
    loaded = backbone.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert "left out: training heads (2)" in backbone.weights.notes


SWIN = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "window_size": 4}


def _register_swin(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = get_spec("swin_large_patch4_window12_384")
    spec = dataclasses.replace(
        whole, name="tiny", dim=128, image_size=128, native_size=128, create=tuple(SWIN.items())
    )
    monkeypatch.setitem(registry._registered, "tiny", spec)


def test_ark_plus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm 0.5 closed a stage with its downsampling, and kept indices and masks as buffers."""
    _register_swin(monkeypatch)
    model = _random(
        timm.create_model("swin_large_patch4_window12_384", num_classes=0, img_size=128, **SWIN)
    )
    given: State = {}
    for key, value in model.state_dict().items():
        stage = re.match(r"layers\.(\d)\.downsample\.", key)
        if stage is not None:
            key = key.replace(f"layers.{stage[1]}", f"layers.{int(stage[1]) - 1}", 1)
        given[f"module.{key}"] = value
    block = "module.layers.0.blocks.1"
    given |= {
        f"{block}.attn_mask": torch.zeros(64, 16, 16),
        f"{block}.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long),
        "module.head.weight": torch.zeros(1000, 128),
        "module.projector.weight": torch.zeros(1376, 128),
        "module.omni_heads.0.weight": torch.zeros(14, 1376),
    }
    path = tmp_path / "Ark6_swinLarge768_ep50.pth.tar"
    torch.save({"epoch": 50, "teacher": given, "state_dict": given}, path)
    backbone = load_backbone("tiny", weights=path)
    with torch.inference_mode():
        _assert_same(backbone.module, model(_images(128)), 128)
    assert "left out: training head (2)" in backbone.weights.notes


def test_swin_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    _register_swin(monkeypatch)
    sizes = {key: list(v) if isinstance(v, tuple) else v for key, v in SWIN.items()}
    config = transformers.SwinConfig(image_size=128, **sizes)
    model = _random(transformers.SwinModel(config))
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "in_memory.pth")
    with torch.inference_mode():
        reference = model(_images(128)).pooler_output
    for path in (tmp_path, tmp_path / "in_memory.pth"):
        _assert_same(load_backbone("tiny", weights=path).module, reference, 128)


@pytest.mark.parametrize("kind", ["ConvNext", "ConvNextV2", "DINOv3ConvNext"])
def test_convnext_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    transformers = pytest.importorskip("transformers")
    dims = (8, 16, 24, 32)
    name = "convnextv2_tiny" if kind == "ConvNextV2" else "convnext_tiny"
    create = (("depths", (1, 1, 2, 1)), ("dims", dims))
    spec = dataclasses.replace(get_spec(name), name="tiny", dim=32, image_size=64, create=create)
    monkeypatch.setitem(registry._registered, "tiny", spec)
    config = getattr(transformers, f"{kind}Config")(
        depths=[1, 1, 2, 1], hidden_sizes=list(dims), layer_norm_eps=1e-6
    )
    model = _random(getattr(transformers, f"{kind}Model")(config))
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "in_memory.pth")
    with torch.inference_mode():
        reference = model(_images(64)).pooler_output
    for path in (tmp_path, tmp_path / "in_memory.pth"):
        _assert_same(load_backbone("tiny", weights=path).module, reference, 64)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("eva_x_s16", {}),
        ("eva_x_b16", {"qkv_fused": False, "scale_mlp": True}),
    ],
)
def test_eva_x(tmp_path: Path, shrink: Shrink, name: str, shape: dict[str, Any]) -> None:
    """EVA-02's training names, with the token and the head of its masked images."""
    shrink(name, native_size=64)
    own = {"mlp_ratio": 4 * 2 / 3, "swiglu_mlp": True, "use_rot_pos_emb": True, **shape}
    sizes = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 3}
    model = _random(Eva(num_classes=0, ref_feat_shape=(14, 14), **own, **sizes))  # type: ignore[arg-type]
    given: State = {}
    renames = (("mlp.fc1_g", "mlp.w1"), ("mlp.fc1_x", "mlp.w2"), ("mlp.fc2", "mlp.w3"))
    for key, value in model.state_dict().items():
        for ours, theirs in (*renames, ("mlp.norm", "mlp.ffn_ln"), ("fc_norm.", "norm.")):
            key = key.replace(ours, theirs)
        key = key.replace("q_proj.bias", "q_bias").replace("v_proj.bias", "v_bias")
        given[key] = value
    given |= {
        "mask_token": torch.zeros(1, 1, 48),
        "lm_head.weight": torch.zeros(8, 48),
        "lm_head.bias": torch.zeros(8),
        "rope.freqs_cos": torch.zeros(16, 16),
        "rope.freqs_sin": torch.zeros(16, 16),
    }
    path = tmp_path / "eva_x_patch16_merged520k_mim.pt"
    torch.save({"module": given}, path)
    backbone = load_backbone("tiny", weights=path)
    with torch.inference_mode():
        _assert_same(backbone.module, model(_images(64)), 64)


def test_eva_x_is_no_eva_02(tmp_path: Path) -> None:
    """Its patches have 16 pixels: timm's converter would resample them for EVA-02's 14."""
    state = load_backbone("eva_x_ti16", weights="random").module.state_dict()
    torch.save(dict(state), tmp_path / "eva_x.pt")
    with pytest.raises(CheckpointMismatchError, match="192x3x16x16, needed 192x3x14x14"):
        load_backbone("eva02_tiny_patch14_224", weights=tmp_path / "eva_x.pt")


def _florence_name(key: str) -> str:
    """timm's name of a DaViT tensor → that of microsoft's davit_v1.py."""
    kind = "window" if "spatial_block" in key else "channel"
    stages = r"stages\.(\d)\.downsample\.(conv|norm)\."
    key = re.sub(stages, lambda m: f"convs.{m[1]}.{m[2].replace('conv', 'proj')}.", key)
    for ours, theirs in (
        (r"^stem\.conv\.", "convs.0.proj."),
        (r"^stem\.norm\.", "convs.0.norm."),
        (r"^head\.norm\.", "norms."),
        (r"^stages\.(\d)\.blocks\.", r"blocks.\1."),
        (r"\.cpe(\d)\.proj\.", r".conv\1.fn.dw."),
        (r"\.norm1\.", f".{kind}_attn.norm."),
        (r"\.attn\.", f".{kind}_attn.fn."),
        (r"\.norm2\.", ".ffn.norm."),
        (r"\.mlp\.", ".ffn.fn.net."),
    ):
        key = re.sub(ours, theirs, key)
    return key


def test_medimageinsight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UniCL's towers; microsoft's own class and ours were compared by hand: equal to 4e-6."""
    sizes = {"depths": (1, 1, 2, 1), "embed_dims": (16, 32, 64, 128), "num_heads": (1, 2, 4, 8)}
    create = (*sizes.items(), ("window_size", 4))
    spec = dataclasses.replace(
        get_spec("davit_huge_fl"), name="tiny", dim=128, image_size=64, create=create
    )
    monkeypatch.setitem(registry._registered, "tiny", spec)
    state = load_backbone("tiny", weights="random").module.state_dict()
    given = {f"image_encoder.{_florence_name(key)}": value for key, value in state.items()}
    assert "image_encoder.blocks.0.0.spatial_block.window_attn.fn.qkv.weight" in given
    assert "image_encoder.convs.1.proj.weight" in given
    given |= {
        "image_projection": torch.zeros(128, 8),
        "lang_encoder.token_embedding.weight": torch.zeros(3, 3),
        "logit_scale": torch.ones(()),
    }
    torch.save(given, tmp_path / "medimageinsight.pt")
    backbone = load_backbone("tiny", weights=tmp_path / "medimageinsight.pt")
    loaded = backbone.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert any("outside image_encoder: image_projection" in n for n in backbone.weights.notes)
