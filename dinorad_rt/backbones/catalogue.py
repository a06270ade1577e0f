"""Published backbones as data: every fact about a set of weights stands here, once.

Sources of the facts: timm's pretrained configurations, the publishers' model cards, and the hub
code of DINO and DINOv2. Encoders trained with text stand in `vision_language`. Nothing is imported
but the records themselves.
"""

from __future__ import annotations

from typing import Any

from dinorad_rt.backbones.spec import BackboneSpec, timm_source
from dinorad_rt.backbones.vision_language import VISION_LANGUAGE

MOCO_V3_HEADS = 12
"""Of all its transformers, ViT-S too, where others have 6: vits.py of facebookresearch/moco-v3."""

_HALF = (0.5, 0.5, 0.5)
_DIM = {"s": 384, "b": 768, "l": 1024, "g": 1536}
_SIZE = {"s": "small", "b": "base", "l": "large", "g": "giant"}

_DINOV2_SHA256 = {
    "vits14": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    "vitb14": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    "vitl14": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
}


def _dinov2(size: str, *, registers: bool) -> BackboneSpec:
    """DINOv2, arXiv 2304.07193; with registers, arXiv 2309.16588."""
    name = f"vit{size}14" + ("_reg" if registers else "")
    kind = "reg4_dinov2" if registers else "dinov2"
    return BackboneSpec(
        name=name,
        **timm_source(f"vit_{_SIZE[size]}_patch14_{kind}", "lvd142m"),
        family="vit",
        licence="Apache-2.0",
        title=f"DINOv2 ViT-{size if size == 'g' else size.upper()}/14"
        + (" with registers" if registers else ""),
        training="self-supervised, LVD-142M",
        dim=_DIM[size],
        patch=14,
        native_size=518,
        position="timm" if registers else "hub",
        sha256=_DINOV2_SHA256.get(name),
        in_study=not registers,
    )


def _dinov3(size: str) -> BackboneSpec:
    """DINOv3, arXiv 2508.10104; the variant that keeps the query and value biases."""
    return BackboneSpec(
        name=f"dinov3_{size}16",
        **timm_source(f"vit_{_SIZE[size]}_patch16_dinov3_qkvb", "lvd1689m"),
        family="eva",
        licence="DINOv3 License",
        title=f"DINOv3 ViT-{size.upper()}/16",
        training="self-supervised, LVD-1689M",
        dim=_DIM[size],
        patch=16,
        image_size=256,
        native_size=256,
        crop=1.0,
        position="rope",
        create=(("global_pool", "token"),),
    )


def _dino(size: str, patch: int) -> BackboneSpec:
    """DINO, arXiv 2104.14294."""
    return BackboneSpec(
        name=f"dino_{size}{patch}",
        **timm_source(f"vit_{_SIZE[size]}_patch{patch}_224", "dino"),
        family="vit",
        licence="Apache-2.0",
        title=f"DINO ViT-{size.upper()}/{patch}",
        training="self-supervised, ImageNet-1k",
        dim=_DIM[size],
        patch=patch,
        crop=0.9,
        position="hub",
    )


def _moco(size: str) -> BackboneSpec:
    """MoCo v3, arXiv 2104.02057."""
    file = f"vit-{size}-300ep"
    return BackboneSpec(
        name=f"moco_{size}16",
        architecture=f"vit_{_SIZE[size]}_patch16_224",
        source=f"https://dl.fbaipublicfiles.com/moco-v3/{file}/{file}.pth.tar",
        family="vit",
        licence="CC-BY-NC-4.0",
        title=f"MoCo v3 ViT-{size.upper()}/16",
        training="self-supervised, ImageNet-1k",
        dim=_DIM[size],
        patch=16,
        create=(("num_heads", MOCO_V3_HEADS),),
    )


def _deit3(size: str, side: int, *, in22k: bool) -> BackboneSpec:
    """DeiT III, arXiv 2204.07118."""
    suffix = ("_384" if side == 384 else "") + ("_in22k" if in22k else "")
    data = "ImageNet-22k, then 1k" if in22k else "ImageNet-1k"
    return BackboneSpec(
        name=f"deit3_{size}16{suffix}",
        **timm_source(
            f"deit3_{_SIZE[size]}_patch16_{side}", "fb_in22k_ft_in1k" if in22k else "fb_in1k"
        ),
        family="vit",
        licence="Apache-2.0",
        title=f"DeiT III ViT-{size.upper()}/16" + (" 384 px" if side == 384 else ""),
        training=f"supervised, {data}",
        dim=_DIM[size],
        patch=16,
        image_size=side,
        native_size=side,
        crop=1.0 if in22k or side == 384 else 0.9,
    )


def _bit(name: str, architecture: str, title: str, dim: int) -> BackboneSpec:
    """Big Transfer, arXiv 1912.11370."""
    return BackboneSpec(
        name=name,
        **timm_source(architecture, "goog_in21k"),
        family="cnn",
        licence="Apache-2.0",
        title=f"BiT {title}",
        training="supervised, ImageNet-21k",
        dim=dim,
        patch=None,
        mean=_HALF,
        std=_HALF,
        interpolation="bilinear",
        position="none",
    )


def _cnn(
    name: str, source: dict[str, Any], title: str, dim: int, *, in_study: bool = True
) -> BackboneSpec:
    """Convolutional networks of torchvision, supervised on ImageNet-1k."""
    return BackboneSpec(
        name=name,
        **source,
        family="cnn",
        licence="BSD-3-Clause",
        title=title,
        training="supervised, ImageNet-1k",
        dim=dim,
        patch=None,
        interpolation="bilinear",
        position="none",
        in_study=in_study,
    )


def _torchvision(name: str, file: str) -> dict[str, Any]:
    return {
        "architecture": f"torchvision:{name}",
        "source": f"https://download.pytorch.org/models/{file}",
    }


def _vit_l16(name: str, **facts: Any) -> BackboneSpec:
    return BackboneSpec(name=name, family="vit", dim=1024, patch=16, in_study=True, **facts)


def _sam(name: str, size: str, *, in_study: bool) -> BackboneSpec:
    """Image encoder of Segment Anything without its neck, arXiv 2304.02643."""
    return BackboneSpec(
        name=name,
        **timm_source(f"samvit_{_SIZE[size]}_patch16", "sa1b"),
        family="sam",
        licence="Apache-2.0",
        title=f"SAM ViT-{size.upper()}/16",
        training="promptable segmentation, SA-1B",
        dim=_DIM[size],
        patch=16,
        image_size=1024,
        native_size=1024,
        crop=1.0,
        create=(("neck_chans", 0),),
        in_study=in_study,
    )


_VIT_LARGE = (
    _vit_l16(
        "vitl16_in21k",
        architecture="vit_large_patch16_224",
        source="hf:google/vit-large-patch16-224",
        licence="Apache-2.0",
        title="ViT-L/16 IN-21k",
        training="supervised, ImageNet-21k, then 1k",
        mean=_HALF,
        std=_HALF,
        crop=1.0,
        interpolation="bilinear",
    ),
    _vit_l16(
        "msn_l16",
        architecture="vit_large_patch16_224",
        source="hf:facebook/vit-msn-large",
        licence="Apache-2.0",
        title="MSN ViT-L/16",
        training="self-supervised, ImageNet-1k",
    ),
    _vit_l16(
        "mae_l16",
        architecture="vit_large_patch16_224",
        source="hf:timm/vit_large_patch16_224.mae",
        licence="CC-BY-NC-4.0",
        title="MAE ViT-L/16",
        crop=0.9,
        training="self-supervised, ImageNet-1k",
    ),
)

_RAD_DINO = BackboneSpec(
    name="rad_dino",
    architecture="vit_base_patch14_dinov2",
    family="vit",
    source="hf:microsoft/rad-dino",
    licence="MIT (model card: research use only)",
    title="RAD-DINO ViT-B/14",
    training="self-supervised, chest X-rays",
    dim=768,
    patch=14,
    image_size=518,
    native_size=518,
    mean=(0.5307, 0.5307, 0.5307),
    std=(0.2583, 0.2583, 0.2583),
    crop=1.0,
    position="hub",
)

_X_RAY_MEAN = (0.49185243, 0.49185243, 0.49185243)
_X_RAY_STD = (0.28509309, 0.28509309, 0.28509309)


def _eva_x(size: str, name: str, dim: int) -> BackboneSpec:
    """EVA-X, arXiv 2405.05237: EVA-02 on chest X-rays, with patches of 16 pixels.

    Shapes: eva_x.py of hustvl/EVA-X; transform: classification/utils/datasets.py there.
    """
    return BackboneSpec(
        name=f"eva_x_{size}16",
        architecture=f"eva02_{name}_patch14_224",
        source=f"hf:MapleF/eva_x/eva_x_{name}_patch16_merged520k_mim.pt",
        family="eva",
        licence="MIT",
        title=f"EVA-X ViT-{size.capitalize()}/16",
        training="self-supervised, chest X-rays",
        dim=dim,
        patch=16,
        mean=_X_RAY_MEAN,
        std=_X_RAY_STD,
        create=(("patch_size", 16), ("ref_feat_shape", (14, 14))),
    )


CATALOGUE: tuple[BackboneSpec, ...] = (
    *(_dinov2(size, registers=False) for size in "sblg"),
    *(_dinov2(size, registers=True) for size in "sblg"),
    *(_dinov3(size) for size in "sbl"),
    *_VIT_LARGE,
    *VISION_LANGUAGE,
    _sam("sam_l16", "l", in_study=True),
    _sam("sam_b16", "b", in_study=False),
    _RAD_DINO,
    _eva_x("ti", "tiny", 192),
    _eva_x("s", "small", 384),
    _eva_x("b", "base", 768),
    *(_dino(size, patch) for size in "sb" for patch in (16, 8)),
    *(_moco(size) for size in "sb"),
    *(
        _deit3(size, side, in22k=in22k)
        for size in "bl"
        for side in (224, 384)
        for in22k in (False, True)
    ),
    _cnn("resnet152", timm_source("resnet152", "tv2_in1k"), "ResNet-152", 2048),
    _cnn("densenet201", timm_source("densenet201", "tv_in1k"), "DenseNet-201", 1920),
    _cnn("vgg19", timm_source("vgg19", "tv_in1k"), "VGG-19", 4096),
    _bit("bit_r50", "resnetv2_50x1_bit", "ResNet-50x1", 2048),
    _bit("bit_r101", "resnetv2_101x1_bit", "ResNet-101x1", 2048),
    _bit("bit_r152x2", "resnetv2_152x2_bit", "ResNet-152x2", 4096),
    _cnn(
        "squeezenet1_1",
        _torchvision("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth"),
        "SqueezeNet 1.1",
        512,
        in_study=False,
    ),
    _cnn(
        "mobilenet_v2",
        _torchvision("mobilenet_v2", "mobilenet_v2-7ebf99e0.pth"),
        "MobileNetV2",
        1280,
        in_study=False,
    ),
)
