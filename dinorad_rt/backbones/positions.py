"""Position embeddings at another input size, resolved once so that no graph has to resize.

Imported late: it needs torch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from dinorad_rt.backbones.spec import PositionRule

HUB_OFFSET = 0.1
"""Added to the grid before dividing: the hub's guard against rounding, part of its numbers."""


def resample_grid(grid: torch.Tensor, side: int, rule: PositionRule) -> torch.Tensor:
    """Resample a square grid of position embeddings.

    Args:
        grid: (1, dim, n, n), float32.
        side: patches per side wanted.
        rule: `hub` or `timm`.

    Returns:
        (1, dim, side, side).

    Raises:
        ValueError: the rule does not resample.

    Source: `interpolate_pos_encoding` of facebookresearch/dinov2; `resample_abs_pos_embed` of timm.
    """
    known = grid.shape[-1]
    if known == side:
        return grid
    if rule == "hub":
        scale = float(side + HUB_OFFSET) / known
        return F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    if rule == "timm":
        return F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    raise ValueError(f"rule {rule!r} does not resample position embeddings")


def resample_tokens(
    positions: torch.Tensor, side: int, *, prefix: int, rule: PositionRule
) -> torch.Tensor:
    """Resample (1, prefix + n², dim) to (1, prefix + side², dim); prefix tokens stay as they are.

    Raises:
        ValueError: the patch positions are no square grid, or the rule does not resample.
    """
    fixed, patches = positions[:, :prefix], positions[:, prefix:]
    known = math.isqrt(patches.shape[1])
    if known * known != patches.shape[1]:
        raise ValueError(f"{patches.shape[1]} patch positions are no square grid")
    if known == side:
        return positions
    dim = patches.shape[-1]
    grid = patches.float().reshape(1, known, known, dim).permute(0, 3, 1, 2)
    resampled = resample_grid(grid, side, rule).permute(0, 2, 3, 1).reshape(1, side * side, dim)
    return torch.cat((fixed.float(), resampled), dim=1)


def resample_relative(table: torch.Tensor, length: int) -> torch.Tensor:
    """Resample relative positions (2n - 1, dim) to (length, dim), linearly, as SAM's code does."""
    if table.shape[0] == length:
        return table
    columns = table.float().t().unsqueeze(0)
    return F.interpolate(columns, size=length, mode="linear").squeeze(0).t().contiguous()
