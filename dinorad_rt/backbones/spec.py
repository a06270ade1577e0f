"""`BackboneSpec`: the facts of one set of weights, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

PositionRule = Literal["hub", "timm", "fixed", "rope", "none"]
"""How position embeddings reach another input size.

hub    bicubic, scale factor (n + 0.1) / n0, no antialias: DINO, DINOv2's hub without registers, and
       the study.
timm   bicubic with antialias to the exact size: timm; also (offset 0) the hub with registers.
fixed  the weights know one size only.
rope   rotary: computed from the grid, nothing to interpolate.
none   convolutional.
"""


@dataclass(frozen=True)
class BackboneSpec:
    """Facts of one set of weights.

    Attributes:
        name: our short name, such as `vitl14`, or timm's own name.
        architecture: timm model name without a tag, such as `vit_large_patch14_dinov2`, or
            `torchvision:NAME`.
        family: recipe under `export/` that says how it leaves PyTorch: `vit` and `eva` (class and
            patch tokens), `siglip` (an attention-pooling head in place of a class token), `sam` and
            `cnn` (one pooled embedding).
        source: where the published weights are: `hf:OWNER/REPO`, `hf:OWNER/REPO/FILE` or an https
            URL; empty if none are published.
        licence: SPDX name of the licence of the weights, or the publisher's own words.
        title: name for tables, such as "DINOv2 ViT-L/14".
        training: how it was trained, such as "self-supervised, LVD-142M".
        dim: embedding size.
        patch: patch side in pixels; None for convolutional networks.
        image_size: default input side in pixels.
        native_size: side the position embeddings were trained at.
        mean, std: normalisation per channel.
        resize: of the publisher's evaluation transform: the shorter side, or both (squash).
        crop: share of what is resized that it keeps.
        interpolation: of that transform.
        position: rule for other input sizes.
        sha256: of the publisher's own checkpoint, where it is known: a file with this hash carries
            the publisher's licence, and a download of that checkpoint must have it.
        create: extra keyword arguments of `timm.create_model`.
        in_study: True if the study evaluates it.
    """

    name: str
    architecture: str
    family: str
    source: str
    licence: str
    title: str
    training: str
    dim: int
    patch: int | None
    image_size: int = 224
    native_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: Literal["shortest", "squash"] = "shortest"
    crop: float = 0.875
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    position: PositionRule = "timm"
    sha256: str | None = None
    create: tuple[tuple[str, object], ...] = ()
    in_study: bool = False


def timm_source(architecture: str, tag: str) -> dict[str, Any]:
    """Architecture and source of weights that timm publishes."""
    return {"architecture": architecture, "source": f"hf:timm/{architecture}.{tag}"}
