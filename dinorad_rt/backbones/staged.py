"""Names of networks in stages and timm's: transformers' ConvNeXt (1, 2, DINOv3's) and Swin, and the
DaViT of Florence and MedImageInsight.

A downsampling layer closes a stage of Swin in transformers and opens the next one in timm.
"""

from __future__ import annotations

import re

from dinorad_rt.backbones.rules import Rules

_CONVNEXT_LAYER: Rules = (
    (r"^(?:encoder\.|model\.)?stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.(?:dwconv|depthwise_conv)\.", ".conv_dw."),
    (r"\.layer_?norm\.", ".norm."),
    (r"\.(?:pwconv|pointwise_conv)(\d)\.", r".mlp.fc\1."),
    (r"\.grn\.", ".mlp.grn."),
    (r"\.layer_scale_parameter$", ".gamma"),
)

CONVNEXT: Rules = (
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^layernorm\.", "head.norm."),
    (r"^encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    *_CONVNEXT_LAYER,
)

DINOV3_CONVNEXT: Rules = (
    (r"^layer_norm\.", "head.norm."),
    (r"^(?:model\.)?stages\.0\.downsample_layers\.", "stem."),
    (r"^(?:model\.)?stages\.(\d+)\.downsample_layers\.", r"stages.\1.downsample."),
    *_CONVNEXT_LAYER,
)

SWIN: Rules = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layers\.", "layers."),
    (r"\.attention\.(?:self\.)?(?:relative_position_bias\.)?(relative_position)", r".attn.\1"),
    (r"\.attention\.(?:self\.)?(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.(q|k|v)_proj\.", r".attn.\1."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)


DAVIT: Rules = (
    (r"^convs\.0\.proj\.", "stem.conv."),
    (r"^convs\.0\.", "stem."),
    (r"^convs\.(\d+)\.proj\.", r"stages.\1.downsample.conv."),
    (r"^convs\.(\d+)\.", r"stages.\1.downsample."),
    (r"^blocks\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.conv(\d)\.fn\.dw\.", r".cpe\1.proj."),
    (r"\.(?:window|channel)_attn\.norm\.", ".norm1."),
    (r"\.(?:window|channel)_attn\.fn\.", ".attn."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".mlp."),
    (r"^norms\.", "head.norm."),
)


def next_stage(key: str) -> str:
    """Key of a downsampling layer of Swin with timm's number of its stage."""
    return re.sub(
        r"^layers\.(\d+)(?=\.downsample\.)", lambda found: f"layers.{int(found[1]) + 1}", key
    )
