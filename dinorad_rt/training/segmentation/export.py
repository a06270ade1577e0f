"""Encoder and decoder as one graph: what `export --checkpoint` traces for a segmenter.

Needs torch.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dinorad_rt.errors import ExportError
from dinorad_rt.export.graphs.build import traced_module
from dinorad_rt.export.graphs.volume import with_fixed_masks
from dinorad_rt.export.recipe import load_recipe

if TYPE_CHECKING:
    from dinorad_rt.training.checkpoint import TunedModel


class SegmentationGraph(nn.Module):
    """pixel_values (batch, 3, H, W), normalised → `logits` (batch, classes, H, W) float32.

    Args:
        embedding: the dense embedding graph, whose last output is `patch_tokens`.
        decoder: tokens → logits.
        blocks: that the decoder reads; a graph of fewer outputs is not needed.
    """

    def __init__(self, embedding: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.decoder = decoder

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        """See the class."""
        return (self.decoder(self.embedding(pixel_values)[-1]),)


class NetworkGraph(nn.Module):
    """A network from scratch in the same form: of images, or of patches of volumes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        """(batch, 3, H, W) or (batch, 1, D, H, W) → `logits` (batch, classes, *sides)."""
        return (self.network(pixel_values),)


def segmentation_graph(tuned: TunedModel) -> nn.Module:
    """The module to trace for a run; batch norms of the decoder are folded into convolutions.

    Args:
        tuned: of kind segmenter.

    Returns:
        Module from pixel_values to a tuple of one output, named `predict.LOGITS`.

    Raises:
        ExportError: the run holds no decoder.
    """
    if tuned.backbone is None:
        network = fold_batch_norms(tuned.module)
        if tuned.patch is not None:
            network = with_fixed_masks(network, tuned.patch)
        return NetworkGraph(network).eval()
    recipe = load_recipe(tuned.backbone.spec.family)
    embedding = traced_module(tuned.backbone, recipe, dense=True)
    decoder = tuned.module.decoder
    if not isinstance(decoder, nn.Module):
        raise ExportError("The run holds no decoder.", "Train again.")
    return SegmentationGraph(embedding, fold_batch_norms(decoder)).eval()


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy whose batch norms behind convolutions are part of these; the function is the same."""
    folded = copy.deepcopy(module).eval()
    for parent in list(folded.modules()):
        names = list(parent._modules)
        for name, following in zip(names, names[1:], strict=False):
            conv, norm = parent._modules[name], parent._modules[following]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent._modules[name] = fuse_conv_bn_eval(conv, norm)
                parent._modules[following] = nn.Identity()
    return folded
