"""`traced_module`: the module that is traced for a backbone. Imported late: it needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from dinorad_rt.errors import ExportError
from dinorad_rt.export.graphs.pooled import PooledEmbedding
from dinorad_rt.export.graphs.sam import SamEmbedding
from dinorad_rt.export.graphs.vit import TokenEmbeddings
from dinorad_rt.export.recipe import Recipe

if TYPE_CHECKING:
    from dinorad_rt.backbones.load import Backbone


def traced_module(backbone: Backbone, recipe: Recipe, *, dense: bool) -> nn.Module:
    """The embedding graph of a backbone as a PyTorch module, in FP32.

    Weights are shared with the backbone where the graph uses them unchanged.

    Args:
        backbone: loaded by `load_backbone`.
        recipe: of its family.
        dense: add the patch tokens of the last blocks.

    Returns:
        Module whose forward maps pixel_values (batch, 3, H, W) float32 to a tuple of float32
        outputs in the order of `Recipe.output_names`.

    Raises:
        ExportError: the module is not of its family.
    """
    source = backbone.module
    if recipe.graph == "pooled":
        return PooledEmbedding(source).eval()
    if recipe.graph == "sam":
        _check_parts(backbone, ("patch_embed", "pos_embed", "blocks"))
        return SamEmbedding(source).eval()
    _check_parts(backbone, ("patch_embed", "cls_token", "blocks", "norm", "num_prefix_tokens"))
    patch_blocks = recipe.patch_blocks if dense else 0
    return TokenEmbeddings(source, cls_blocks=recipe.cls_blocks, patch_blocks=patch_blocks).eval()


def _check_parts(backbone: Backbone, parts: tuple[str, ...]) -> None:
    missing = [part for part in parts if not hasattr(backbone.module, part)]
    if missing:
        raise ExportError(
            f"{backbone.spec.name} is registered under the family {backbone.spec.family!r}, but "
            f"its module {type(backbone.module).__name__} has no {', '.join(missing)}.",
            "Register it under the family 'cnn', which takes any module with one embedding.",
        )
