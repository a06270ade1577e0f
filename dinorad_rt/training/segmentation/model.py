"""`Segmenter`: encoder and decoder as one module. Needs torch.

The encoder gives what the dense graph gives (`patch_tokens`): the normed patch tokens of the last
blocks, the last block last.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dinorad_rt.errors import ProtocolError
from dinorad_rt.export.graphs.vit import final_norm


class PatchTokens(nn.Module):
    """Normed patch tokens of the last blocks of a timm transformer.

    Args:
        source: timm module with `forward_intermediates`, at its input size.
        blocks: how many of the last blocks.

    Raises:
        ProtocolError: the backbone has no patch tokens.
    """

    def __init__(self, source: nn.Module, blocks: int) -> None:
        super().__init__()
        if not hasattr(source, "forward_intermediates") or not hasattr(source, "blocks"):
            raise ProtocolError(
                f"{type(source).__name__} has no blocks of patch tokens.",
                "Use a vision transformer (dinorad-rt list models), or a network from scratch: "
                "--model unet",
            )
        self.source = source
        self.blocks = blocks
        self.norm = final_norm(source)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, 3, H, W) → (batch, blocks, N, dim)."""
        source: Any = self.source
        layers = source.forward_intermediates(
            pixel_values,
            indices=self.blocks,
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return torch.stack([self.norm(layer) for layer in layers], dim=1)


class Segmenter(nn.Module):
    """Pixels to logits; without an encoder it takes the tokens that an engine computed.

    Args:
        decoder: (batch, blocks, N, dim) → (batch, classes, H, W).
        encoder: (batch, 3, H, W) → tokens; None while tokens come from the cache.
    """

    def __init__(self, decoder: nn.Module, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pixels (batch, 3, H, W), or tokens if there is no encoder → logits."""
        tokens = inputs if self.encoder is None else self.encoder(inputs)
        logits: torch.Tensor = self.decoder(tokens)
        return logits


def encoder_of(source: nn.Module, blocks: int, *, trained: bool) -> PatchTokens:
    """The encoder in eval mode, every parameter of it trained or none.

    A loaded backbone asks for no gradients; a trained encoder has to.

    Raises:
        ProtocolError: the backbone has no patch tokens.
    """
    encoder = PatchTokens(source, blocks)
    return encoder.requires_grad_(trained).eval()
