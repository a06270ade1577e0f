"""Whole volumes through a network of patches, in training as in deployment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dinorad_rt.optional import require

if TYPE_CHECKING:
    import torch


def sliding_logits(
    network: Callable[[torch.Tensor], torch.Tensor],
    volume: torch.Tensor,
    patch: Sequence[int],
    *,
    rows: int = 2,
) -> torch.Tensor:
    """Logits of a whole volume from patches that overlap by half, weighted by a Gaussian (MONAI).

    Args:
        network: (rows, 1, *patch) → (rows, classes, *patch); a module or an engine.
        volume: (1, 1, slices, height, width); smaller than the patch is padded.
        patch: (slices, height, width).
        rows: patches of one call.
    """
    inferers = require("monai.inferers", "segmenting volumes")
    logits: torch.Tensor = inferers.sliding_window_inference(
        volume, tuple(patch), rows, network, overlap=0.5, mode="gaussian"
    )
    return logits
