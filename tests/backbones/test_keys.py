"""Foreign key names: the loaded backbone computes what the publisher's own class computes.

References: transformers (DINOv2, DINOv3, ViT, DeiT, BEiT, MSN, MAE, CLIP, SAM), torchvision, and
timm's own filters for the official and open_clip names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.eva import checkpoint_filter_fn as timm_eva_filter
from timm.models.vision_transformer import checkpoint_filter_fn as timm_vit_filter

from dinorad_rt.backbones import registry
from dinorad_rt.backbones.adapt import adapt
from dinorad_rt.backbones.keys import rename
from dinorad_rt.backbones.load import Backbone, build_module, load_backbone
from dinorad_rt.backbones.random_weights import fill_random
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import WeightsError

Shrink = Callable[..., BackboneSpec]
State = dict[str, torch.Tensor]
COMMON = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
FORMS = ("published", "in memory")


@pytest.fixture(scope="module")
def transformers() -> Any:
    module = pytest.importorskip("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def _load_from(model: torch.nn.Module, folder: Path, form: str, image_size: int) -> Backbone:
    """Save a transformers model in one of its two spellings and load that file as `tiny`."""
    if form == "published":
        model.save_pretrained(folder)
        return load_backbone("tiny", weights=folder, image_size=image_size)
    torch.save(model.state_dict(), folder / "weights.pth")
    return load_backbone("tiny", weights=folder / "weights.pth", image_size=image_size)


def _ready(model: torch.nn.Module) -> Any:
    fill_random(model, 11, convolutional=False)
    return model.eval()


def _images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))


def _tokens(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return backbone.module.forward_features(images)


def _assert_same(ours: torch.Tensor, reference: torch.Tensor) -> None:
    cosine = torch.nn.functional.cosine_similarity(ours, reference, dim=-1)
    assert float(cosine.min()) >= 0.99999
    torch.testing.assert_close(ours, reference, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("swiglu", [False, True], ids=["mlp", "swiglu"])
def test_transformers_dinov2(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str, swiglu: bool
) -> None:
    shrink("vitg14" if swiglu else "vits14")
    config = transformers.Dinov2Config(
        image_size=70, patch_size=14, use_swiglu_ffn=swiglu, layer_norm_eps=1e-6, **COMMON
    )
    model = _ready(transformers.Dinov2Model(config))
    backbone = _load_from(model, tmp_path, form, 70)
    with torch.inference_mode():
        reference = model(_images(70)).last_hidden_state
    _assert_same(_tokens(backbone, _images(70)), reference)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", [70, 112, 28])
def test_transformers_dinov2_with_registers(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str, side: int
) -> None:
    shrink("vits14_reg")
    config = transformers.Dinov2WithRegistersConfig(
        image_size=70, patch_size=14, num_register_tokens=4, **COMMON
    )
    model = _ready(transformers.Dinov2WithRegistersModel(config))
    backbone = _load_from(model, tmp_path, form, side)
    with torch.inference_mode():
        reference = model(_images(side)).last_hidden_state
    _assert_same(_tokens(backbone, _images(side)), reference)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", [64, 96])
def test_transformers_dinov3(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str, side: int
) -> None:
    shrink("dinov3_s16", native_size=64)
    config = transformers.DINOv3ViTConfig(
        image_size=64, patch_size=16, intermediate_size=192, num_register_tokens=4, **COMMON
    )
    model = _ready(transformers.DINOv3ViTModel(config))
    backbone = _load_from(model, tmp_path, form, side)
    with torch.inference_mode():
        reference = model(_images(side)).last_hidden_state
    _assert_same(_tokens(backbone, _images(side)), reference)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("base", "biased"),
    [
        ("vit_huge_plus_patch16_dinov3_qkvb", True),
        ("vit_huge_plus_patch16_dinov3", False),
        ("vit_7b_patch16_dinov3", False),
    ],
)
def test_transformers_dinov3_with_a_gated_perceptron(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str, base: str, biased: bool
) -> None:
    spec = shrink(base, native_size=64, global_pool="token")
    module: Any = build_module(spec, 64, meta=True)
    config = transformers.DINOv3ViTConfig(
        image_size=64,
        patch_size=16,
        intermediate_size=module.blocks[0].mlp.fc1_g.out_features,
        num_register_tokens=4,
        use_gated_mlp=True,
        hidden_act="silu",
        query_bias=biased,
        value_bias=biased,
        **COMMON,
    )
    model = _ready(transformers.DINOv3ViTModel(config))
    backbone = _load_from(model, tmp_path, form, 64)
    with torch.inference_mode():
        reference = model(_images(64)).last_hidden_state
    _assert_same(_tokens(backbone, _images(64)), reference)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["ViTModel", "ViTForImageClassification", "ViTMSNModel"])
def test_transformers_vit_and_msn(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str, kind: str
) -> None:
    shrink("msn_l16" if "MSN" in kind else "vitl16_in21k", native_size=64)
    configuration = transformers.ViTMSNConfig if "MSN" in kind else transformers.ViTConfig
    config = configuration(
        image_size=64, patch_size=16, intermediate_size=192, layer_norm_eps=1e-6, **COMMON
    )
    model = _ready(getattr(transformers, kind)(config))
    backbone = _load_from(model, tmp_path, form, 64)
    body = getattr(model, "vit", model)
    with torch.inference_mode():
        reference = body(_images(64)).last_hidden_state
    _assert_same(_tokens(backbone, _images(64)), reference)


@pytest.mark.parametrize("form", FORMS)
def test_transformers_distilled_deit(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str
) -> None:
    shrink("deit_tiny_distilled_patch16_224", native_size=64)
    config = transformers.DeiTConfig(
        image_size=64, patch_size=16, intermediate_size=192, layer_norm_eps=1e-6, **COMMON
    )
    model = _ready(transformers.DeiTModel(config))
    backbone = _load_from(model, tmp_path, form, 64)
    with torch.inference_mode():
        reference = model(_images(64)).last_hidden_state
    _assert_same(_tokens(backbone, _images(64)), reference)


@pytest.mark.parametrize("form", FORMS)
def test_transformers_beit(transformers: Any, tmp_path: Path, shrink: Shrink, form: str) -> None:
    shrink("beit_base_patch16_224", native_size=64, img_size=64)
    config = transformers.BeitConfig(
        image_size=64,
        patch_size=16,
        intermediate_size=192,
        layer_norm_eps=1e-6,
        use_relative_position_bias=True,
        **COMMON,
    )
    model = _ready(transformers.BeitModel(config))
    backbone = _load_from(model, tmp_path, form, 64)
    with torch.inference_mode():
        reference = model(_images(64)).pooler_output
        _assert_same(backbone.module(_images(64)), reference)


@pytest.mark.parametrize("form", FORMS)
def test_transformers_mae(transformers: Any, tmp_path: Path, shrink: Shrink, form: str) -> None:
    shrink("mae_l16", native_size=64)
    config = transformers.ViTMAEConfig(
        image_size=64,
        patch_size=16,
        intermediate_size=192,
        layer_norm_eps=1e-6,
        mask_ratio=0.0,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
        **COMMON,
    )
    model = _ready(transformers.ViTMAEForPreTraining(config))
    backbone = _load_from(model, tmp_path, form, 64)
    with torch.inference_mode():
        order = torch.arange(16.0).repeat(2, 1)
        reference = model.vit(_images(64), noise=order).last_hidden_state
    _assert_same(_tokens(backbone, _images(64)), reference)
    assert any("decoder" in note for note in backbone.weights.notes)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("whole", [False, True], ids=["tower", "both towers"])
def test_transformers_clip(
    transformers: Any, tmp_path: Path, shrink: Shrink, form: str, whole: bool
) -> None:
    shrink("clip_l14")
    vision = {"image_size": 70, "patch_size": 14, "intermediate_size": 192, **COMMON}
    if whole:
        text = {
            **COMMON,
            "intermediate_size": 64,
            "vocab_size": 9,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        config = transformers.CLIPConfig(vision_config=vision, text_config=text)
        model = _ready(transformers.CLIPModel(config))
    else:
        model = _ready(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision)))
    backbone = _load_from(model, tmp_path, form, 70)
    tower = model.vision_model if whole else model
    with torch.inference_mode():
        reference = tower(_images(70)).pooler_output
    _assert_same(_tokens(backbone, _images(70))[:, 0], reference)


@pytest.mark.parametrize("form", FORMS)
def test_transformers_sam(transformers: Any, tmp_path: Path, shrink: Shrink, form: str) -> None:
    shrink("sam_b16", native_size=64, global_attn_indexes=(1,), window_size=2)
    vision = {"image_size": 64, "patch_size": 16, "global_attn_indexes": [1], "window_size": 2}
    config = transformers.SamConfig(vision_config={**vision, "mlp_dim": 192, **COMMON})
    model = _ready(transformers.SamModel(config))
    backbone = _load_from(model, tmp_path, form, 64)
    with torch.inference_mode():
        states = model.vision_encoder(_images(64), output_hidden_states=True).hidden_states
        pooled = backbone.module(_images(64))
    _assert_same(pooled, states[-1].mean((1, 2)))


def _official_dinov2(state: State, *, registers: bool, swiglu: bool, chunked: bool) -> State:
    """timm's state under the official names, with what training leaves in the file."""
    official: State = {"mask_token": torch.zeros(1, 48)}
    for key, value in state.items():
        if swiglu:
            key = key.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        if chunked and key.startswith("blocks."):
            key = f"blocks.{int(key.split('.')[1]) // 2}.{key.removeprefix('blocks.')}"
        official[key] = value
    if registers:
        official["register_tokens"] = official.pop("reg_token")
        official["pos_embed"] = torch.cat(
            (torch.full((1, 1, 48), 0.3), official["pos_embed"]), dim=1
        )
    return official


@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
@pytest.mark.parametrize("base", ["vits14", "vits14_reg", "vitg14", "vitg14_reg"])
def test_official_dinov2_names(tmp_path: Path, shrink: Shrink, base: str, chunked: bool) -> None:
    shrink(base, native_size=518)
    shape = {"registers": base.endswith("_reg"), "swiglu": base.startswith("vitg")}
    state = dict(load_backbone("tiny", weights="random").module.state_dict())
    with torch.device("meta"):
        target = build_module(registry.get_spec("tiny"), 518)
    expected = timm_vit_filter(_official_dinov2(state, chunked=False, **shape), target)
    path = tmp_path / "dinov2_pretrain.pth"
    torch.save(_official_dinov2(state, chunked=chunked, **shape), path)
    loaded = load_backbone("tiny", weights=path, image_size=518).module.state_dict()
    assert set(loaded) == set(expected)
    for key, value in loaded.items():
        torch.testing.assert_close(value, expected[key], atol=0, rtol=0)


def test_official_dinov3_names(tmp_path: Path, shrink: Shrink) -> None:
    shrink("dinov3_s16", native_size=64)
    state = dict(load_backbone("tiny", weights="random").module.state_dict())
    official: State = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(4)}
    for key, value in state.items():
        name = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        official[name.replace("reg_token", "storage_tokens")] = value
    for index in range(3):
        stem = f"blocks.{index}.attn."
        query, value = official.pop(f"{stem}q_bias"), official.pop(f"{stem}v_bias")
        official[f"{stem}qkv.bias"] = torch.cat((query, torch.randn(48), value))
        mask = torch.ones(144)
        mask[48:96] = 0
        official[f"{stem}qkv.bias_mask"] = mask
    with torch.device("meta"):
        target = build_module(registry.get_spec("tiny"), 64)
    expected = timm_eva_filter(dict(official), target)
    path = tmp_path / "dinov3_pretrain.pth"
    torch.save(official, path)
    loaded = load_backbone("tiny", weights=path).module.state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())


def _openai_names(state: State) -> State:
    """timm's CLIP state under OpenAI's names, inside a model with a text tower."""
    renames = (
        ("blocks.", "transformer.resblocks."),
        ("patch_embed.proj.", "conv1."),
        ("norm_pre.", "ln_pre."),
        (".norm1.", ".ln_1."),
        (".norm2.", ".ln_2."),
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj.", "attn.out_proj."),
        ("mlp.fc1.", "mlp.c_fc."),
        ("mlp.fc2.", "mlp.c_proj."),
    )
    named: State = {"logit_scale": torch.ones(()), "visual.proj": torch.randn(48, 32)}
    named |= {
        "transformer.resblocks.0.ln_1.weight": torch.ones(4),
        "positional_embedding": torch.ones(7, 4),
    }
    for key, value in state.items():
        if key == "cls_token":
            named["visual.class_embedding"] = value.flatten()
        elif key == "pos_embed":
            named["visual.positional_embedding"] = value[0]
        elif key.startswith("norm."):
            named[key.replace("norm.", "visual.ln_post.")] = value
        else:
            for ours, theirs in renames:
                key = key.replace(ours, theirs)
            named["visual." + key] = value
    return named


@pytest.mark.parametrize("file", ["open_clip_pytorch_model.bin", "open_clip_model.safetensors"])
def test_openai_and_open_clip_names(tmp_path: Path, shrink: Shrink, file: str) -> None:
    shrink("openclip_h14")
    given = _openai_names(dict(load_backbone("tiny", weights="random").module.state_dict()))
    with torch.device("meta"):
        target = build_module(registry.get_spec("tiny"), 70)
    expected = timm_vit_filter(dict(given), target)
    if file.endswith(".safetensors"):
        save_file({key: value.clone() for key, value in given.items()}, tmp_path / file)
    else:
        torch.save(given, tmp_path / file)
    backbone = load_backbone("tiny", weights=tmp_path)
    loaded = backbone.module.state_dict()
    assert set(loaded) == set(expected) - {"head.weight", "head.bias"}
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())
    assert any("outside visual" in note for note in backbone.weights.notes)


def test_biomedclip_names(tmp_path: Path, shrink: Shrink) -> None:
    shrink("biomedclip_b16", native_size=64)
    state = load_backbone("tiny", weights="random").module.state_dict()
    given = {f"visual.trunk.{key}": value for key, value in state.items()}
    given |= {
        "visual.head.proj.weight": torch.randn(32, 48),
        "text.transformer.embeddings.word_embeddings.weight": torch.randn(9, 8),
        "text.proj.0.weight": torch.randn(8, 8),
        "logit_scale": torch.ones(()),
    }
    torch.save(given, tmp_path / "open_clip_pytorch_model.bin")
    loaded = load_backbone("tiny", weights=tmp_path).module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("official", [True, False])
@pytest.mark.parametrize("prefix", ["image_encoder.", ""])
def test_official_sam_at_another_size(
    tmp_path: Path, shrink: Shrink, prefix: str, official: bool
) -> None:
    """timm resizes SAM's positions while it runs; ours are resized once, to the same numbers."""
    shrink("sam_b16", native_size=128, global_attn_indexes=(1,), window_size=2)
    reference = load_backbone("tiny", weights="random").module
    given = {
        prefix + (key.replace(".mlp.fc", ".mlp.lin") if official else key): value
        for key, value in reference.state_dict().items()
    }
    given |= {prefix + "neck.0.weight": torch.zeros(2, 48, 1, 1)}
    if prefix:
        given |= {"mask_decoder.x": torch.zeros(1)}
    torch.save(given, tmp_path / "sam.pth")
    backbone = load_backbone("tiny", weights=tmp_path / "sam.pth", image_size=64)
    with torch.inference_mode():
        _assert_same(backbone.module(_images(64)), reference(_images(64)))


def test_ibot_with_the_embedding_of_masked_patches(tmp_path: Path, shrink: Shrink) -> None:
    shrink("dino_s16", native_size=64)
    state = load_backbone("tiny", weights="random").module.state_dict()
    given = {**state, "masked_embed": torch.zeros(1, 48)}
    torch.save({"state_dict": given}, tmp_path / "ibot.pth")
    loaded = load_backbone("tiny", weights=tmp_path / "ibot.pth").module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


def test_deit3_official_layer_scale(tmp_path: Path, shrink: Shrink) -> None:
    shrink("deit3_b16", native_size=64)
    state = load_backbone("tiny", weights="random").module.state_dict()
    given = {
        key.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): value
        for key, value in state.items()
    }
    torch.save({"model": {**given, "head.weight": torch.zeros(9, 48)}}, tmp_path / "deit3.pth")
    loaded = load_backbone("tiny", weights=tmp_path / "deit3.pth").module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "squeezenet1_1", "mobilenet_v2"])
def test_torchvision_files(tmp_path: Path, name: str) -> None:
    model = torchvision.models.get_model(name, weights=None)
    fill_random(model, 5, convolutional=True)
    torch.save(model.eval().state_dict(), tmp_path / "published.pth")
    backbone = load_backbone(name, weights=tmp_path / "published.pth", image_size=64)
    images = _images(64)
    with torch.inference_mode():
        if name == "resnet18":
            model.fc = torch.nn.Identity()
            reference = model(images)
        else:
            grid = model.features(images)
            grid = grid.relu() if name == "densenet121" else grid
            reference = grid.mean((2, 3))
        torch.testing.assert_close(backbone.module(images), reference, atol=1e-4, rtol=1e-3)


def test_chexnets_classifier_in_a_sequence_is_left_out(tmp_path: Path) -> None:
    """The DenseNet-121 of arnoweng/CheXNet: old names of layers, a classifier with its sigmoid."""
    model = torchvision.models.densenet121(weights=None)
    fill_random(model, 5, convolutional=True)
    model.classifier = torch.nn.Sequential(torch.nn.Linear(1024, 14), torch.nn.Sigmoid())
    given = {
        "module.densenet121." + re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", key): value
        for key, value in model.eval().state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in given
    torch.save({"epoch": 1, "best_loss": 0.1, "state_dict": given}, tmp_path / "model.pth.tar")
    backbone = load_backbone("densenet121", weights=tmp_path / "model.pth.tar", image_size=64)
    with torch.inference_mode():
        reference = model.features(_images(64)).relu().mean((2, 3))
        torch.testing.assert_close(backbone.module(_images(64)), reference, atol=1e-4, rtol=1e-3)
    assert "left out: classifier head (2)" in backbone.weights.notes


@pytest.mark.parametrize("prefix", ["backbone.", "", "encoder.features."])
@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_layers_that_have_numbers_for_names(tmp_path: Path, name: str, prefix: str) -> None:
    """RadImageNet's files: torchvision's children in `nn.Sequential`, without the classifier."""
    model = torchvision.models.get_model(name, weights=None)
    fill_random(model, 5, convolutional=True)
    body = torch.nn.Sequential(*list(model.eval().children())[:-1])
    given = {prefix + key: value for key, value in body.state_dict().items()}
    torch.save(given | {"head.weight": torch.zeros(2, 8)}, tmp_path / "rad.pt")
    backbone = load_backbone(name, weights=tmp_path / "rad.pt", image_size=64)
    with torch.inference_mode():
        grid = body(_images(64))
        reference = (grid.relu() if name == "densenet121" else grid).mean((2, 3))
        torch.testing.assert_close(backbone.module(_images(64)), reference, atol=1e-4, rtol=1e-3)


def test_torchvision_vgg_linear_layers_become_convolutions() -> None:
    """A linear layer over a flattened 7 x 7 grid, as torchvision's VGG has, on a small copy."""
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 49, 8))
    given = {f"classifier.0.{kind}": value for kind, value in linear[1].state_dict().items()}
    renamed = rename({**given, "classifier.6.weight": torch.zeros(3, 8)})
    target = torch.nn.Module()
    target.pre_logits = torch.nn.Module()
    target.pre_logits.fc1 = torch.nn.Conv2d(4, 8, 7)
    adapt(renamed.tensors, target, "none")
    target.pre_logits.fc1.weight.data = renamed.tensors["pre_logits.fc1.weight"]
    target.pre_logits.fc1.bias.data = renamed.tensors["pre_logits.fc1.bias"]
    grid = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(target.pre_logits.fc1(grid).flatten(1), linear(grid))


def test_official_convnext_goes_through_timms_converter(tmp_path: Path) -> None:
    """Names that are not ours to know: facebookresearch/ConvNeXt calls its layers otherwise."""
    state = load_backbone("convnext_atto", weights="random").module.state_dict()
    given: State = {"head.weight": torch.zeros(9, 320), "head.bias": torch.zeros(9)}
    for key, value in state.items():
        key = re.sub(r"stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2.", key)
        key = re.sub(r"stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        key = key.replace("stem.", "downsample_layers.0.").replace("conv_dw", "dwconv")
        key = re.sub(r"mlp\.fc(\d)", r"pwconv\1", key).replace("head.norm.", "norm.")
        given[key] = value.flatten(1) if "pwconv" in key and value.ndim == 4 else value
    torch.save({"model": given}, tmp_path / "convnext.pth")
    backbone = load_backbone("convnext_atto", weights=tmp_path / "convnext.pth")
    loaded = backbone.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert any("timm's converter" in note for note in backbone.weights.notes)


@pytest.mark.parametrize("order", [("student", "teacher"), ("teacher", "student")])
def test_the_teacher_is_taken_under_the_names_of_transformers(
    transformers: Any, tmp_path: Path, shrink: Shrink, order: tuple[str, str]
) -> None:
    shrink("vits14")
    config = transformers.Dinov2Config(image_size=70, patch_size=14, **COMMON)
    models = {name: _ready(transformers.Dinov2Model(config)) for name in order}
    fill_random(models["student"], 12, convolutional=False)
    given = {
        f"{name}.{key}": value
        for name, model in models.items()
        for key, value in model.state_dict().items()
    }
    torch.save({"state_dict": given}, tmp_path / "distilled.ckpt")
    backbone = load_backbone("tiny", weights=tmp_path / "distilled.ckpt")
    with torch.inference_mode():
        reference = models["teacher"](_images(70)).last_hidden_state
    _assert_same(_tokens(backbone, _images(70)), reference)
    assert any("outside teacher: student" in note for note in backbone.weights.notes)


def test_two_towers_of_which_none_is_the_teacher(tmp_path: Path, shrink: Shrink) -> None:
    shrink("vits14")
    key = "embeddings.patch_embeddings.projection.weight"
    given = {f"{name}.{key}": torch.zeros(48, 3, 14, 14) for name in ("online", "momentum")}
    torch.save(given, tmp_path / "byol.pth")
    with pytest.raises(WeightsError, match=r"2 backbones, under the keys momentum\.\*, online"):
        load_backbone("tiny", weights=tmp_path / "byol.pth")
