"""Backbones with one pooled embedding, traced as they are. Imported late: it needs torch."""

from __future__ import annotations

import torch
from torch import nn


class PooledEmbedding(nn.Module):
    """The embedding graph of anything that gives (batch, dim).

    Args:
        source: the backbone without a classifier, in eval mode.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.backbone = source

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(batch, 3, H, W) → `cls` (batch, 1, dim)."""
        pooled: torch.Tensor = self.backbone(pixel_values)
        return (pooled.unsqueeze(1),)
