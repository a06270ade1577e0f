"""Vision transformers with class and patch tokens: timm's VisionTransformer and Eva.

Where there is no class token, as in SigLIP, the attention-pooling head's embedding stands for it.

    patch embedding ─► zero rows in front + one additive table ─► blocks ─► norm ─► outputs

The table holds class token, register tokens and every position, so that no token is expanded over
the batch. Imported late: it needs torch.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dinorad_rt.export.graphs.attention import LatentPool, ScaledAttention, is_supported


class TokenEmbeddings(nn.Module):
    """The embedding graph of a transformer with tokens.

    Args:
        source: timm VisionTransformer or Eva with a class token or a pooling head, in eval mode, at
            its input size.
        cls_blocks: blocks whose class token is given, counted from the last; a pooling head reads
            the last one alone.
        patch_blocks: blocks whose patch tokens are given; 0 for none.
    """

    tokens: torch.Tensor

    def __init__(self, source: Any, *, cls_blocks: int, patch_blocks: int = 0) -> None:
        super().__init__()
        self.patch_embed = source.patch_embed
        table, rotary = _tables(source)
        self.prefix = int(source.num_prefix_tokens)
        self.register_buffer("tokens", table)
        self.norm_pre = source.norm_pre
        self.blocks = nn.ModuleList(
            _block(block, source, rotary, index) for index, block in enumerate(source.blocks)
        )
        self.norm = final_norm(source)
        head = pooling_head(source)
        self.attn_pool = None if head is None else LatentPool(head)
        self.cls_blocks = min(cls_blocks, len(self.blocks))
        self.patch_blocks = min(patch_blocks, len(self.blocks))

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(batch, 3, H, W) → `cls`, `patch_mean` and, for dense graphs, `patch_tokens`."""
        x = self.patch_embed(pixel_values)
        x = x.flatten(1, 2) if x.ndim == 4 else x
        x = (F.pad(x, (0, 0, self.prefix, 0)) if self.prefix else x) + self.tokens
        x = self.norm_pre(x)
        kept: list[torch.Tensor] = []
        for block in self.blocks:
            x = block(x)
            kept.append(x)
        return self._outputs(kept)

    def _outputs(self, kept: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        last = self.norm(kept[-1])
        dense = [self.norm(x) for x in kept[-self.patch_blocks : -1]] if self.patch_blocks else []
        normed = [*dense, last]
        full = {len(kept) - len(normed) + i: x for i, x in enumerate(normed)}
        patches = last[:, self.prefix :]
        if self.attn_pool is not None:
            outputs = [self.attn_pool(patches), patches.mean(dim=1)]
        else:
            cls = [
                full[i][:, :1] if i in full else self.norm(kept[i][:, :1])
                for i in range(len(kept) - self.cls_blocks, len(kept))
            ]
            outputs = [torch.cat(cls, dim=1), patches.mean(dim=1)]
        if self.patch_blocks:
            stacked = [x[:, None, self.prefix :] for x in normed]
            outputs.append(torch.cat(stacked, dim=1))
        return tuple(outputs)


def pooling_head(source: Any) -> nn.Module | None:
    """The attention-pooling head of a transformer without a class token; None where there is one.

    It maps normed patch tokens (batch, N, dim) to the model's own image embedding (batch, dim).
    """
    head: nn.Module | None = getattr(source, "attn_pool", None)
    return head if getattr(source, "cls_token", None) is None else None


def final_norm(source: Any) -> nn.Module:
    """The norm behind the last block, where timm keeps it before the pooling or after."""
    norm: nn.Module = source.norm
    fc_norm: nn.Module = getattr(source, "fc_norm", nn.Identity())
    return fc_norm if isinstance(norm, nn.Identity) else norm


def _tables(source: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the source adds to zero patch tokens, (1, tokens, dim), and its rotary embedding."""
    height, width = source.patch_embed.img_size
    with torch.no_grad():
        patches = source.patch_embed(torch.zeros(1, 3, height, width))
        found = source._pos_embed(torch.zeros_like(patches))
    table, rotary = found if isinstance(found, tuple) else (found, None)
    return table.detach().contiguous(), rotary


def _block(block: Any, source: Any, rotary: torch.Tensor | None, index: int) -> nn.Module:
    """The source's own block around our attention; all other weights are shared, not copied."""
    if not is_supported(block.attn):
        kept: nn.Module = block
        return kept
    clean: nn.Module = copy.copy(block)
    clean._modules = dict(block._modules)
    half = bool(getattr(block.attn, "rotate_half", False))
    tables = None
    if rotary is not None:
        mine = rotary[index] if getattr(source, "rope_mixed", False) else rotary
        tables = _rotary_tables(mine, int(source.num_prefix_tokens))
    clean.attn = ScaledAttention(block.attn, tables, interleaved=not half)
    return clean


def _rotary_tables(embedding: torch.Tensor, prefix: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split (…, patches, 2d) into sin and cos with rows for the prefix that change nothing."""
    sin, cos = embedding.detach().float().chunk(2, dim=-1)
    return F.pad(sin, (0, 0, prefix, 0)), F.pad(cos, (0, 0, prefix, 0), value=1.0)
