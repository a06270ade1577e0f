"""Networks of patches of volumes, with what depends on the patch alone computed before the trace.

Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dinorad_rt.optional import require


class FixedMaskLayer(nn.Module):
    """A stage of MONAI's SwinTransformer whose mask of shifted windows is a constant.

    The original builds it from slices of an empty volume at every call.

    Args:
        source: MONAI's `BasicLayer`, in eval mode.
        sides: (slices, rows, columns) of its input.
    """

    mask: torch.Tensor | None

    def __init__(self, source: Any, sides: Sequence[int]) -> None:
        super().__init__()
        self.blocks = source.blocks
        self.downsample = source.downsample
        self.register_buffer("mask", _mask(source, tuple(sides)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, *sides) → (batch, 2 channels, *half the sides)."""
        x = x.permute(0, 2, 3, 4, 1)
        for block in self.blocks:
            x = block(x, self.mask)
        if self.downsample is not None:
            x = self.downsample(x)
        return x.permute(0, 4, 1, 2, 3)


def with_fixed_masks(network: nn.Module, patch: Sequence[int]) -> nn.Module:
    """Put `FixedMaskLayer` in place of the stages of a SwinUNETR; other networks stay as they are.

    Args:
        network: changed in place; its weights are shared.
        patch: (slices, rows, columns) of its input, multiples of 32.
    """
    transformer: Any = getattr(network, "swinViT", None)
    if transformer is None:
        return network
    sides = [side // step for side, step in zip(patch, transformer.patch_size, strict=True)]
    for name in ("layers1", "layers2", "layers3", "layers4"):
        stages = getattr(transformer, name)
        stages[0] = FixedMaskLayer(stages[0], sides)
        sides = [-(-side // 2) for side in sides]
    return network


def _mask(layer: Any, sides: tuple[int, ...]) -> torch.Tensor | None:
    """(windows, places, places), 0 within a region and -100 between two; None without a shift."""
    swin = require("monai.networks.nets.swin_unetr", "exporting a SwinUNETR")
    window, shift = swin.get_window_size(sides, layer.window_size, layer.shift_size)
    if not any(shift):
        return None
    padded = [-(-side // step) * step for side, step in zip(sides, window, strict=True)]
    mask: torch.Tensor = swin.compute_mask(padded, window, shift, torch.device("cpu"))
    return mask
