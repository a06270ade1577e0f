"""Self-attention in the form that every backend fuses: MatMul, Softmax, MatMul, Q already scaled.

Imported late: it needs torch.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class ScaledAttention(nn.Module):
    """Attention of one block with separate query, key and value matrices.

    The scale 1/√d is in the query's weights (or in the affine part of its norm), so that scores
    stay small in FP16. Rotary tables are in the half layout and cover the prefix tokens, which
    they leave as they are.

    Args:
        source: a timm attention that `is_supported` accepts.
        rotary: (sin, cos), each (tokens, d) or (heads, tokens, d), or None.
        interleaved: the source rotates pairs of neighbours; query and key are reordered once.
    """

    def __init__(
        self,
        source: Any,
        rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        interleaved: bool = False,
    ) -> None:
        super().__init__()
        parts = projections(source)
        self.heads = parts.heads
        order = _half_order(parts.head_dim) if rotary is not None and interleaved else None
        self.q_norm, q_scale = _scaled_norm(source.q_norm, parts.head_dim**-0.5, order)
        self.k_norm, _ = _scaled_norm(source.k_norm, 1.0, order)
        self.q = _linear(parts.q, q_scale, order, parts.heads)
        self.k = _linear(parts.k, 1.0, order, parts.heads)
        self.v = _linear(parts.v, 1.0, None, parts.heads)
        self.norm = getattr(source, "norm", None) or nn.Identity()
        self.gate = getattr(source, "gate", None)
        self.proj = source.proj
        self.rotary = None if rotary is None else Rotary(*rotary, order=order)

    def forward(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
        """(batch, tokens, dim) → the same; masks of the source's signature are never used here."""
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.q, self.k, self.v))
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        out = self.norm(mixed.transpose(1, 2).flatten(2))
        if self.gate is not None:
            out = out * self.gate(x).sigmoid()
        projected: torch.Tensor = self.proj(out)
        return projected


class LatentPool(nn.Module):
    """Attention of one learned query over all tokens, then a perceptron.

    The query does not depend on the image: it is projected, split into heads and scaled once.

    Args:
        source: timm's AttentionPoolLatent with one latent and a perceptron, as SigLIP has.
    """

    query: torch.Tensor

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.heads = int(source.num_heads)
        with torch.no_grad():
            query = source.q_norm(source.q(source.latent).unflatten(-1, (self.heads, -1)))
            self.register_buffer("query", query.transpose(1, 2) * float(source.scale))
        weights, biases = source.kv.weight.detach().chunk(2), source.kv.bias.detach().chunk(2)
        self.k, self.v = (
            _linear(pair, 1.0, None, self.heads) for pair in zip(weights, biases, strict=True)
        )
        self.k_norm = source.k_norm
        self.proj, self.norm, self.mlp = source.proj, source.norm, source.mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, dim) → (batch, 1, dim)."""
        k, v = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.k, self.v))
        k, v = self.k_norm(k).transpose(1, 2), v.transpose(1, 2)
        mixed = F.scaled_dot_product_attention(self.query, k, v, scale=1.0)
        out = self.proj(mixed.transpose(1, 2).flatten(2))
        pooled: torch.Tensor = out + self.mlp(self.norm(out))
        return pooled


class Rotary(nn.Module):
    """Rotary position embedding as two products: x·cos + swap(x)·sin, signs inside the table.

    Source: RoFormer, arXiv 2104.09864; the half layout of GPT-NeoX and DINOv3.
    """

    sin: torch.Tensor
    cos: torch.Tensor

    def __init__(self, sin: torch.Tensor, cos: torch.Tensor, *, order: torch.Tensor | None) -> None:
        super().__init__()
        if order is not None:
            sin, cos = sin[..., order], cos[..., order]
        half = sin.shape[-1] // 2
        self.pairs = half
        signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        self.register_buffer("sin", _beside_heads(signed))
        self.register_buffer("cos", _beside_heads(cos))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rotate (batch, tokens, heads, d)."""
        first, second = x.split(self.pairs, dim=-1)
        swapped = torch.cat((second, first), dim=-1)
        return x * self.cos + swapped * self.sin


def _beside_heads(table: torch.Tensor) -> torch.Tensor:
    """(tokens, d) or (heads, tokens, d) → (tokens, 1 or heads, d)."""
    table = table if table.ndim == 3 else table.unsqueeze(0)
    return table.transpose(0, 1).contiguous()


@dataclass(frozen=True)
class Projections:
    """Weight and bias of query, key and value, each (heads · d, dim) and (heads · d,) or None."""

    q: tuple[torch.Tensor, torch.Tensor | None]
    k: tuple[torch.Tensor, torch.Tensor | None]
    v: tuple[torch.Tensor, torch.Tensor | None]
    heads: int
    head_dim: int


def is_supported(attention: nn.Module) -> bool:
    """Whether `ScaledAttention` computes the same function as this timm attention."""
    from timm.layers.attention import Attention, AttentionRope
    from timm.models.eva import EvaAttention

    return type(attention) in (Attention, AttentionRope, EvaAttention)


def projections(source: Any) -> Projections:
    """Query, key and value of a timm attention, however it stores them."""
    heads, head_dim = int(source.num_heads), int(source.head_dim)
    if source.qkv is not None:
        weights = source.qkv.weight.detach().chunk(3)
        bias = source.qkv.bias
        biases: list[torch.Tensor | None] = [None] * 3
        if bias is not None:
            biases = list(bias.detach().chunk(3))
        elif getattr(source, "q_bias", None) is not None:
            biases = [source.q_bias.detach(), None, source.v_bias.detach()]
        pairs = list(zip(weights, biases, strict=True))
    else:
        layers = (source.q_proj, source.k_proj, source.v_proj)
        pairs = [
            (layer.weight.detach(), None if layer.bias is None else layer.bias.detach())
            for layer in layers
        ]
        groups = int(getattr(source, "num_kv_groups", 1))
        if groups > 1:  # grouped queries: every head gets its own copy of the shared matrices
            pairs[1:] = [_repeat_heads(pair, groups, head_dim) for pair in pairs[1:]]
    query, key, value = pairs
    return Projections(query, key, value, heads=heads, head_dim=head_dim)


def split_linears(source: Any) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Query (scaled by 1/√d), key and value of a timm attention as layers of their own."""
    parts = projections(source)
    return (
        _linear(parts.q, parts.head_dim**-0.5, None, parts.heads),
        _linear(parts.k, 1.0, None, parts.heads),
        _linear(parts.v, 1.0, None, parts.heads),
    )


def _repeat_heads(
    pair: tuple[torch.Tensor, torch.Tensor | None], groups: int, head_dim: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    weight, bias = pair
    weight = weight.unflatten(0, (-1, head_dim)).repeat_interleave(groups, 0).flatten(0, 1)
    if bias is not None:
        bias = bias.unflatten(0, (-1, head_dim)).repeat_interleave(groups, 0).flatten(0, 1)
    return weight, bias


def _linear(
    pair: tuple[torch.Tensor, torch.Tensor | None],
    scale: float,
    order: torch.Tensor | None,
    heads: int,
) -> nn.Linear:
    """A linear layer on a copy of a part of the source's matrix, scaled and reordered."""
    weight, bias = (None if item is None else item * scale for item in pair)
    assert weight is not None
    if order is not None:
        weight = weight.unflatten(0, (heads, -1))[:, order].flatten(0, 1)
        bias = None if bias is None else bias.unflatten(0, (heads, -1))[:, order].flatten(0, 1)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _scaled_norm(
    norm: nn.Module, scale: float, order: torch.Tensor | None
) -> tuple[nn.Module, float]:
    """The norm of query or key with the scale in its affine part, and the scale left over."""
    weight = getattr(norm, "weight", None)
    if isinstance(norm, nn.Identity) or weight is None:
        return norm, scale
    norm = copy.deepcopy(norm)
    for name in ("weight", "bias"):
        value = getattr(norm, name, None)
        if value is not None:
            value = value.detach() * scale
            value = value if order is None else value[order]
            setattr(norm, name, nn.Parameter(value, requires_grad=False))
    return norm, 1.0


def _half_order(dim: int) -> torch.Tensor:
    """Even places first: turns rotation of neighbours into rotation of halves."""
    return torch.cat((torch.arange(0, dim, 2), torch.arange(1, dim, 2)))
