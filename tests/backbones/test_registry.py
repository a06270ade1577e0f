"""Names, facts and closest names."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import timm
import torch

from dinorad_rt.backbones import registry
from dinorad_rt.backbones.catalogue import CATALOGUE
from dinorad_rt.backbones.load import build_module
from dinorad_rt.backbones.registry import get_spec, list_specs, register
from dinorad_rt.errors import UnknownNameError

FROM_TIMM = [s for s in CATALOGUE if not s.architecture.startswith("torchvision:")]
STUDY = {
    *("vits14", "vitb14", "vitl14", "vitg14", "vitl16_in21k", "resnet152", "densenet201"),
    *("vgg19", "msn_l16", "mae_l16", "clip_l14", "openclip_h14", "sam_l16", "biomedclip_b16"),
}


def test_every_backbone_of_the_study_is_registered() -> None:
    assert {spec.name for spec in list_specs() if spec.in_study} == STUDY


def test_names_are_unique_and_resolve_to_themselves() -> None:
    names = [spec.name for spec in CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(get_spec(spec.name) is spec for spec in CATALOGUE)


@pytest.mark.parametrize("spec", FROM_TIMM, ids=lambda spec: spec.name)
def test_shape_facts_are_those_of_the_architecture(spec: registry.BackboneSpec) -> None:
    module = build_module(spec, spec.image_size, meta=True)
    assert registry._dim(module) == spec.dim
    assert registry._family(module) == (spec.family, spec.patch)
    if spec.patch is not None and spec.family in ("vit", "siglip"):
        with torch.device("meta"):
            native = timm.create_model(
                spec.architecture, num_classes=0, img_size=spec.native_size, **dict(spec.create)
            )
        assert native.patch_embed.grid_size == (spec.native_size // spec.patch,) * 2


@pytest.mark.parametrize(
    "spec", [s for s in CATALOGUE if s.source.startswith("hf:timm/")], ids=lambda spec: spec.name
)
def test_normalisation_is_timms_for_timms_files(spec: registry.BackboneSpec) -> None:
    tag = spec.source.removeprefix("hf:timm/")
    config = timm.get_pretrained_cfg(tag)
    assert config is not None
    assert (spec.mean, spec.std) == (tuple(config.mean), tuple(config.std))
    assert spec.native_size == config.input_size[-1] or spec.family == "cnn"


def test_a_timm_name_works_with_and_without_its_tag() -> None:
    bare, tagged = get_spec("deit_tiny_patch16_224"), get_spec("deit_tiny_patch16_224.fb_in1k")
    assert bare.name == "deit_tiny_patch16_224"
    assert bare.source == tagged.source == "hf:timm/deit_tiny_patch16_224.fb_in1k"
    assert (bare.dim, bare.patch, bare.family, bare.position) == (192, 16, "vit", "timm")


@pytest.mark.parametrize(
    ("name", "family", "position", "dim"),
    [
        ("convnext_atto", "cnn", "none", 320),
        ("swin_tiny_patch4_window7_224", "cnn", "fixed", 768),
        ("vit_base_patch16_siglip_224", "siglip", "timm", 768),
        ("vit_base_patch16_siglip_gap_224", "cnn", "timm", 768),
        ("eva02_tiny_patch14_224", "eva", "timm", 192),
        ("vit_small_patch16_dinov3", "eva", "rope", 384),
        ("vgg11", "cnn", "none", 4096),
    ],
)
def test_specs_derived_from_timm(name: str, family: str, position: str, dim: int) -> None:
    spec = get_spec(name)
    assert (spec.family, spec.position, spec.dim) == (family, position, dim)


@pytest.mark.parametrize(
    ("name", "quick"),
    [
        ("vit_base_patch16_clip_224.openai", True),
        ("vit_huge_patch14_clip_378.dfn5b", True),
        ("vit_base_patch16_clip_quickgelu_224.openai", True),
        ("vit_base_patch16_clip_224.laion2b", False),
    ],
)
def test_a_clip_tag_has_the_activation_it_was_trained_with(name: str, quick: bool) -> None:
    """timm gives the weights of OpenAI and others to both architectures, and says so in a note."""
    spec = get_spec(name)
    assert spec.name == name
    assert ("quickgelu" in spec.architecture) == quick
    act = build_module(spec, spec.image_size, meta=True).blocks[0].mlp.act  # type: ignore[index, union-attr]
    assert type(act).__name__ == ("QuickGELU" if quick else "GELU")


def test_an_unknown_name_gets_the_closest_ones() -> None:
    with pytest.raises(UnknownNameError, match="vitl14") as caught:
        get_spec("vit_l14")
    assert "dinorad-rt list models" in caught.value.fix


def test_an_unknown_tag_gets_the_published_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"vit_small_patch14_dinov2\.lvd142m"):
        get_spec("vit_small_patch14_dinov2.nonsense")


def test_a_hub_address_is_no_model_name() -> None:
    with pytest.raises(UnknownNameError):
        get_spec("hf-hub:owner/model")


def test_a_name_cannot_be_taken_twice() -> None:
    register(get_spec("vits14"))
    other = get_spec("deit_tiny_patch16_224")
    with pytest.raises(ValueError, match="registered already"):
        register(dataclasses.replace(other, name="vits14"))


@pytest.mark.parametrize("many", [False, True], ids=["one", "several"])
def test_a_package_adds_its_own_backbones(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = dataclasses.replace(get_spec("vits14"), name="mine")

    class Point:
        def load(self) -> object:
            return [mine] if many else mine

    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group else [])
    registry._load_plugins.cache_clear()
    assert get_spec("mine") is mine
    assert mine in list_specs()
    registry._load_plugins.cache_clear()


def test_short_names_load_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from dinorad_rt.backbones.registry import get_spec, list_specs;"
        "import dinorad_rt.backbones.load;"
        "get_spec('vitl14'); list_specs();"
        "sys.exit(bool({'torch', 'timm', 'torchvision', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_evaluation_transform_is_the_one_timm_records() -> None:
    """Crop and normalisation of every spec with timm weights equal timm's own record.

    Left out: DINOv2 and torchvision's networks, whose publishers' evaluation crops (256 → 224)
    differ from timm's defaults, and SigLIP, whose publishers squash the whole image.
    """
    import timm

    for spec in list_specs():
        if not spec.source.startswith("hf:timm/") or "dinov2" in spec.architecture:
            continue
        config = timm.get_pretrained_cfg(spec.source.removeprefix("hf:timm/"))
        assert (spec.mean, spec.std) == (config.mean, config.std), spec.name
        if spec.resize == "shortest":
            assert spec.crop == config.crop_pct, spec.name
