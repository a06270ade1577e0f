"""Published encoders that were trained with text: CLIP, SigLIP and theirs in medicine."""

from __future__ import annotations

from typing import Any

from dinorad_rt.backbones.spec import BackboneSpec, timm_source

TANH_GELU = (("act_layer", "gelu_tanh"),)
"""The activation of SigLIP in its authors' code; timm's architectures have either form."""

_HALF = (0.5, 0.5, 0.5)
_OF_CLIP: dict[str, Any] = {
    "family": "vit",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "crop": 1.0,
    "in_study": True,
}
_OF_SIGLIP: dict[str, Any] = {
    "family": "siglip",
    "mean": _HALF,
    "std": _HALF,
    "resize": "squash",
    "crop": 1.0,
    "create": TANH_GELU,
}
_DIM = {"b": 768, "l": 1024, "so400m": 1152}
_SIZE = {"b": "base", "l": "large", "so400m": "so400m"}

_CLIP = (
    BackboneSpec(
        name="clip_l14",
        architecture="vit_large_patch14_clip_quickgelu_224",
        **_OF_CLIP,
        source="hf:timm/vit_large_patch14_clip_224.openai",
        licence="MIT",
        title="CLIP ViT-L/14",
        training="weakly supervised, WIT-400M",
        dim=1024,
        patch=14,
    ),
    BackboneSpec(
        name="openclip_h14",
        **timm_source("vit_huge_patch14_clip_224", "laion2b"),
        **_OF_CLIP,
        licence="MIT",
        title="OpenCLIP ViT-H/14",
        training="weakly supervised, LAION-2B",
        dim=1280,
        patch=14,
    ),
    BackboneSpec(
        name="biomedclip_b16",
        architecture="vit_base_patch16_224",
        **_OF_CLIP,
        source="hf:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
        "/open_clip_pytorch_model.bin",
        licence="MIT",
        title="BiomedCLIP ViT-B/16",
        training="weakly supervised, PMC-15M",
        dim=768,
        patch=16,
    ),
)


def _siglip(size: str, patch: int, side: int, *, second: bool) -> BackboneSpec:
    """SigLIP, arXiv 2303.15343, and SigLIP 2, arXiv 2502.14786."""
    title = "So400m" if size == "so400m" else f"ViT-{size.upper()}"
    return BackboneSpec(
        name=f"siglip{'2' if second else ''}_{size}{patch}",
        **timm_source(
            f"vit_{_SIZE[size]}_patch{patch}_siglip_{side}",
            "v2_webli" if second else "webli",
        ),
        **_OF_SIGLIP,
        licence="Apache-2.0",
        title=f"SigLIP{' 2' if second else ''} {title}/{patch}",
        training="weakly supervised, WebLI",
        dim=_DIM[size],
        patch=patch,
        image_size=side,
        native_size=side,
        interpolation="bilinear" if second else "bicubic",
    )


_MEDSIGLIP = BackboneSpec(
    name="medsiglip_so400m14",
    architecture="vit_so400m_patch14_siglip_378",
    **_OF_SIGLIP,
    source="hf:google/medsiglip-448",
    licence="Health AI Developer Foundations terms of use",
    title="MedSigLIP So400m/14",
    training="weakly supervised, medical and natural images with text",
    dim=1152,
    patch=14,
    image_size=448,
    native_size=448,
)

VISION_LANGUAGE: tuple[BackboneSpec, ...] = (
    *_CLIP,
    _siglip("b", 16, 224, second=False),
    _siglip("l", 16, 256, second=False),
    _siglip("so400m", 14, 378, second=False),
    _siglip("b", 16, 224, second=True),
    _siglip("l", 16, 256, second=True),
    _siglip("so400m", 14, 378, second=True),
    _siglip("so400m", 16, 256, second=True),
    _MEDSIGLIP,
)
