"""Image encoder of Segment Anything: relative positions as matrix products, no Einsum.

Imported late: it needs torch.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dinorad_rt.export.graphs.attention import split_linears


class SamEmbedding(nn.Module):
    """The embedding graph of a timm VisionTransformerSAM: the mean over all patch tokens.

    Args:
        source: the encoder in eval mode at its input size; its neck is not used.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.patch_embed = source.patch_embed
        self.pos_embed = source.pos_embed
        self.norm_pre = source.norm_pre
        self.blocks = nn.ModuleList(_block(block) for block in source.blocks)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(batch, 3, H, W) → `cls` (batch, 1, dim)."""
        x = self.patch_embed(pixel_values)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        return (x.flatten(1, 2).mean(dim=1, keepdim=True),)


class RelativeAttention(nn.Module):
    """Attention over a grid with decomposed relative positions.

    Source: get_decomposed_rel_pos_bias of timm, after MViTv2, arXiv 2112.01526.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.heads = int(source.num_heads)
        self.q, self.k, self.v = split_linears(source)
        self.proj = source.proj
        unscaled = source.head_dim**0.5  # the query here is scaled, positions meet the plain one
        self.register_buffer("rows", _by_offset(source.rel_pos_h) * unscaled)
        self.register_buffer("columns", _by_offset(source.rel_pos_w) * unscaled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(windows, height, width, dim) → the same."""
        height, width = x.shape[1:3]
        q, k, v = (self._heads(layer(x)) for layer in (self.q, self.k, self.v))
        grid = q.unflatten(2, (height, width))
        by_row = grid @ self.rows
        by_column = (grid.transpose(2, 3) @ self.columns).transpose(2, 3)
        bias = by_row.unsqueeze(-1) + by_column.unsqueeze(-2)
        bias = bias.flatten(4, 5).flatten(2, 3)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        out: torch.Tensor = self.proj(mixed.transpose(1, 2).flatten(2)).unflatten(
            1, (height, width)
        )
        return out

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = x.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads


def _by_offset(positions: torch.Tensor) -> torch.Tensor:
    """(2n - 1, d) relative positions → (n, d, n): for each query place, one column per key place.

    Source: get_rel_pos of timm for grids of one size.
    """
    side = (positions.shape[0] + 1) // 2
    place = torch.arange(side)
    offsets = place[:, None] - place[None, :] + side - 1
    return positions.detach()[offsets].transpose(1, 2).contiguous()


def _block(block: Any) -> nn.Module:
    """The source's own block around our attention; all other weights are shared, not copied."""
    source = block.attn
    plain = all(isinstance(norm, nn.Identity) for norm in (source.q_norm, source.k_norm))
    if not (source.use_rel_pos and plain):
        kept: nn.Module = block
        return kept
    clean: nn.Module = copy.copy(block)
    clean._modules = dict(block._modules)
    clean.attn = RelativeAttention(source)
    return clean
