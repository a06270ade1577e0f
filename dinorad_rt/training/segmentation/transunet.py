"""TransUNet (Chen et al. 2021, arXiv 2102.04306) on timm's hybrid of ResNetV2-50 and ViT.

The encoder is timm's `vit_base_r50_s16_224` (ResNetV2 with stages of 3, 4 and 9 blocks, 1/16, then
the transformer), at any width and depth: the default is the paper's R50-ViT-B/16, and the study's
R50-ViT-L/16 is dim 1024, depth 24, heads 16. The decoder is the paper's cascaded upsampler with
skips at 1/8, 1/4 and 1/2. Nothing is pre-trained. Needs torch and timm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dinorad_rt.training.segmentation.decoders import as_map
from dinorad_rt.training.segmentation.resample import Resample

STRIDE = 16
_HEAD = 512
_WIDTHS = (256, 128, 64, 16)


class TransUNet(nn.Module):
    """Images (batch, 3, H, W) → logits (batch, classes, H, W).

    Args:
        classes: with the background.
        image_size: side in pixels, a multiple of 16.
        dim, depth, heads: of the transformer.
    """

    def __init__(
        self, classes: int, image_size: int, *, dim: int = 768, depth: int = 12, heads: int = 12
    ) -> None:
        super().__init__()
        import timm

        encoder: Any = timm.create_model(
            "vit_base_r50_s16_224",
            pretrained=False,
            num_classes=0,
            img_size=image_size,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            class_token=False,
            global_pool="avg",
            fc_norm=False,
        )
        self.grid = image_size // STRIDE
        backbone = encoder.patch_embed.backbone
        self.stem, self.stages = backbone.stem, backbone.stages
        self.proj, self.position = encoder.patch_embed.proj, encoder.pos_embed
        self.transformer, self.norm = encoder.blocks, encoder.norm
        self.head = _conv(dim, _HEAD)
        skips = (512, 256, 64, 0)
        sides = [self.grid * 2**step for step in range(1, 5)]
        incoming = (_HEAD, *_WIDTHS[:-1])
        self.decoder = nn.ModuleList(
            _Up(width + skip, out, Resample(side // 2, side))
            for width, skip, out, side in zip(incoming, skips, _WIDTHS, sides, strict=True)
        )
        self.classify = nn.Conv2d(_WIDTHS[-1], classes, 3, padding=1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, 3, H, W) → (batch, classes, H, W)."""
        half = self.stem.norm(self.stem.conv(pixel_values))
        x = self.stem.pool(half)
        skips: list[torch.Tensor | None] = [None, half]
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        x = self.proj(x)
        skips.pop()  # the map at 1/16 is what the transformer reads
        tokens = x.flatten(2).transpose(1, 2) + self.position
        for block in self.transformer:
            tokens = block(tokens)
        x = self.head(as_map(self.norm(tokens), self.grid))
        for block in self.decoder:
            x = block(x, skips.pop())
        logits: torch.Tensor = self.classify(x)
        return logits


class _Up(nn.Module):
    """Twice the side, the skip beside it, two convolutions."""

    def __init__(self, incoming: int, outgoing: int, resize: Resample) -> None:
        super().__init__()
        self.resize = resize
        self.convs = nn.Sequential(_conv(incoming, outgoing), _conv(outgoing, outgoing))

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None) -> torch.Tensor:
        x = self.resize(x)
        x = x if skip is None else torch.cat([x, skip], dim=1)
        result: torch.Tensor = self.convs(x)
        return result


def _conv(incoming: int, outgoing: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(inplace=True),
    )
