"""SigLIP, SigLIP 2 and MedSigLIP under transformers' names, against transformers' own code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dinorad_rt.backbones.adapt import adapt
from dinorad_rt.backbones.keys import rename
from dinorad_rt.backbones.load import build_module, load_backbone
from dinorad_rt.backbones.mismatch import mismatch_error
from dinorad_rt.backbones.random_weights import fill_random
from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError, WeightsError
from dinorad_rt.preprocessing.presets import preset

Shrink = Callable[..., BackboneSpec]
COMMON = {"hidden_size": 48, "intermediate_size": 192, "num_attention_heads": 3}
VISION = {**COMMON, "num_hidden_layers": 3, "image_size": 70, "patch_size": 14}
TOKENS = {"vocab_size": 9, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
TEXT = {**COMMON, **TOKENS, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def transformers() -> Any:
    module = pytest.importorskip("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def _tower(transformers: Any, **changes: Any) -> Any:
    """A vision tower in which every tensor shows."""
    model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION, **changes))
    fill_random(model, 11, convolutional=False)
    return model.eval()


def _images() -> torch.Tensor:
    return torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(70))


def _tiny(shrink: Shrink, base: str = "medsiglip_so400m14") -> None:
    shrink(base, mlp_ratio=4)


@pytest.mark.parametrize("form", ["vision", "both towers", "vision_model."])
def test_embeddings_are_those_of_transformers(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str
) -> None:
    """As version 5 saves one tower, as hubs hold both, and as version 4 saved one."""
    _tiny(shrink)
    model = _tower(transformers)
    if form == "both towers":
        config = transformers.SiglipConfig(vision_config=VISION, text_config=TEXT)
        whole = transformers.SiglipModel(config).eval()
        fill_random(whole, 11, convolutional=False)
        whole.save_pretrained(tmp_path)
        model = whole.vision_model
    else:
        model.save_pretrained(tmp_path)
    if form == "vision_model.":
        path = tmp_path / "model.safetensors"
        save_file({f"{form}{key}": value for key, value in load_file(path).items()}, path)
    backbone = load_backbone("tiny", weights=tmp_path)
    with torch.inference_mode():
        wanted = model(_images())
        found = backbone.module(_images())
        tokens = backbone.module.forward_features(_images())  # type: ignore[operator]
    assert "key names: Hugging Face SigLIP" in backbone.weights.notes
    torch.testing.assert_close(tokens, wanted.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, wanted.pooler_output, atol=1e-5, rtol=1e-5)


def test_another_activation_is_refused(transformers: Any, tmp_path: Path, shrink: Shrink) -> None:
    _tiny(shrink)
    _tower(transformers, hidden_act="gelu").save_pretrained(tmp_path)
    with pytest.raises(CheckpointMismatchError, match="trained with GELU; tiny .* GELUTanh"):
        load_backbone("tiny", weights=tmp_path)


@pytest.mark.parametrize("name", ["siglip2_l16", "vit_base_patch16_siglip_256.webli_i18n"])
def test_every_name_computes_what_google_trained(name: str) -> None:
    """flax's GELU is the approximation by tanh; timm's ViT-B/16 and L/16 compute the exact one."""
    module: Any = build_module(get_spec(name), 256, meta=True)
    for part in (module.blocks[0], module.attn_pool):
        assert type(part.mlp.act).__name__ == "GELUTanh"


def test_what_timm_fine_tuned_keeps_timms_activation() -> None:
    spec = get_spec("vit_so400m_patch14_siglip_378.webli_ft_in1k")
    module: Any = build_module(spec, spec.image_size, meta=True)
    assert type(module.blocks[0].mlp.act).__name__ == "GELU"


def test_a_tower_without_its_head_is_told_the_model_that_has_none(
    transformers: Any, tmp_path: Path, shrink: Shrink
) -> None:
    """The encoders of PaliGemma, Gemma 3 and MedGemma."""
    _tiny(shrink)
    model = _tower(transformers, vision_use_head=False)
    state = {f"vision_tower.vision_model.{key}": value for key, value in model.state_dict().items()}
    state["language_model.lm_head.weight"] = torch.zeros(2, 2)
    path = tmp_path / "gemma.safetensors"
    save_file(state, path)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_backbone("tiny", weights=path)
    assert "vit_so400m_patch14_siglip_gap_448" in caught.value.fix
    _tiny(shrink, "vit_so400m_patch14_siglip_gap_448")
    backbone = load_backbone("tiny", weights=path)
    with torch.inference_mode():
        wanted = model(_images()).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(backbone.module(_images()), wanted, atol=1e-5, rtol=1e-5)


def test_patches_of_any_shape_are_refused(
    transformers: Any, tmp_path: Path, shrink: Shrink
) -> None:
    """NaFlex flattens a patch with its channels last: as a convolution its numbers are others."""
    _tiny(shrink)
    sizes = {key: value for key, value in VISION.items() if key != "image_size"}
    config = transformers.Siglip2VisionConfig(**sizes, num_patches=25)
    transformers.Siglip2VisionModel(config).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="NaFlex"):
        load_backbone("tiny", weights=tmp_path)


@pytest.mark.parametrize(
    ("name", "patch"), [("medsiglip_so400m14", 14), ("siglip2_so400m16", 16), ("siglip2_b16", 16)]
)
def test_shapes_at_full_size(transformers: Any, name: str, patch: int) -> None:
    """config.json of google/medsiglip-448, and of google/siglip2 at the same shapes."""
    spec = get_spec(name)
    wide = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}
    sizes = {**wide, "num_attention_heads": 16} if "so400m" in name else {}
    config = transformers.SiglipVisionConfig(image_size=spec.native_size, patch_size=patch, **sizes)
    with torch.device("meta"):
        renamed = rename(transformers.SiglipVisionModel(config).state_dict())
    module: Any = build_module(spec, spec.image_size, meta=True)
    adapt(renamed.tensors, module, spec.position)
    wanted = module.state_dict()
    assert mismatch_error(renamed.tensors, wanted, spec, "meta", renamed.dialect) is None
    assert module.blocks[0].attn.num_heads == config.num_attention_heads
    assert module.attn_pool.num_heads == config.num_attention_heads
    assert module.norm.eps == module.attn_pool.norm.eps == config.layer_norm_eps


def test_the_evaluation_transform_squashes_the_whole_image(
    transformers: Any, tmp_path: Path
) -> None:
    """preprocessor_config.json of google/medsiglip-448 and google/siglip2: no crop."""
    for name, kind, resample in (
        ("medsiglip_so400m14", "bicubic", 3),
        ("siglip_b16", "bicubic", 3),
        ("siglip2_b16", "bilinear", 2),
    ):
        spec = get_spec(name)
        side = spec.image_size
        found = preset("model", spec, side)
        assert (found.resize, found.resize_to, found.interpolation) == ("squash", side, kind)
        assert found.mean == found.std == (0.5, 0.5, 0.5)
        stated = {"size": {"height": side, "width": side}, "resample": resample}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
        processor = transformers.SiglipImageProcessor.from_pretrained(tmp_path)
        assert tuple(processor.image_mean) == found.mean
        assert not processor.do_center_crop


def test_weights_of_siglip_are_named_where_another_model_was_asked(tmp_path: Path) -> None:
    module = build_module(get_spec("siglip2_b16"), 224, meta=True)
    zero = torch.zeros(())
    given = {key: zero.expand(value.shape) for key, value in module.state_dict().items()}
    torch.save(given, tmp_path / "weights.pth")
    with pytest.raises(CheckpointMismatchError) as caught:
        load_backbone("dino_b16", weights=tmp_path / "weights.pth")
    assert "siglip_b16, siglip2_b16" in caught.value.fix
