"""Resizing of feature maps as two matrix products. Imported late: it needs torch.

`Resize` nodes mean different things to different backends, and exported graphs may hold none
(export/common.toml). Sizes are fixed per graph, so the weights of `interpolate` are constants.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

Mode = Literal["bilinear", "bicubic"]


class Resample(nn.Module):
    """`torch.nn.functional.interpolate` of square maps from one fixed size to another.

    Args:
        source, target: sides in pixels.
        mode: bilinear or bicubic.
        align_corners: as in `interpolate`.
    """

    def __init__(
        self, source: int, target: int, *, mode: Mode = "bilinear", align_corners: bool = False
    ) -> None:
        super().__init__()
        self.same = source == target
        columns = torch.eye(source)[None, :, :, None].expand(1, source, source, source)
        weights = F.interpolate(
            columns, size=(target, source), mode=mode, align_corners=align_corners
        )
        matrix = weights[0, :, :, 0].T.contiguous()
        self.register_buffer("rows", matrix, persistent=False)
        self.register_buffer("columns", matrix.T.contiguous(), persistent=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(batch, channels, source, source) → (batch, channels, target, target)."""
        if self.same:
            return maps
        rows, columns = self.get_buffer("rows"), self.get_buffer("columns")
        resized: torch.Tensor = torch.matmul(torch.matmul(rows, maps), columns)
        return resized
