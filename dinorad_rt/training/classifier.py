"""`Classifier`: a backbone with a linear head on its class tokens and patch mean.

Imported late: it needs torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from dinorad_rt.backbones.load import Backbone
from dinorad_rt.errors import TrainingError
from dinorad_rt.export.graphs.vit import final_norm, pooling_head
from dinorad_rt.export.recipe import load_recipe


@dataclass(frozen=True)
class HeadSpec:
    """What the head sees of a backbone; backbones without tokens give their one embedding.

    Attributes:
        blocks: class tokens of this many last blocks.
        patch_mean: also the mean of the last block's patch tokens.
    """

    blocks: int = 1
    patch_mean: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for train.json."""
        return asdict(self)


class LinearHead(nn.Module):
    """Standardises features by fixed statistics, then one linear layer.

    Args:
        dim: of the features.
        classes: number of logits.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.normal_(self.weight, std=0.01)
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(rows, dim) → (rows, classes) logits."""
        return nn.functional.linear((features - self.mean) * self.scale, self.weight, self.bias)

    def folded(self) -> nn.Linear:
        """The same function as one plain linear layer."""
        with torch.no_grad():
            weight = self.weight.double() * self.scale.double()
            bias = self.bias.double() - weight @ self.mean.double()
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        return layer.requires_grad_(False).eval()


class Classifier(nn.Module):
    """Backbone and head.

    Args:
        backbone: loaded; its module is used, not copied.
        head: what the head sees.
        classes: number of logits.

    Raises:
        TrainingError: more blocks than the backbone has.
    """

    def __init__(self, backbone: Backbone, head: HeadSpec, classes: int) -> None:
        super().__init__()
        self.backbone: Any = backbone.module
        recipe = load_recipe(backbone.spec.family)
        self.tokens = recipe.graph == "tokens"
        self.spec = head if self.tokens else HeadSpec(1, patch_mean=False)
        depth = len(backbone.module.blocks) if self.tokens else 1  # type: ignore[arg-type]
        most = min(recipe.cls_blocks, depth)
        if not 1 <= head.blocks <= most:
            raise TrainingError(
                f"The head is to see {head.blocks} blocks; {backbone.spec.name} has {depth}, and "
                f"its graph gives the last {recipe.cls_blocks} at most.",
                "Use --blocks 1" + (f" to {most}." if most > 1 else "."),
            )
        parts = self.spec.blocks + self.spec.patch_mean
        self.head = LinearHead(parts * backbone.spec.dim, classes)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(rows, 3, size, size) normalised → (rows, dim of the head)."""
        if not self.tokens:
            pooled: torch.Tensor = self.backbone(pixels)
            return pooled
        found = self.backbone.forward_intermediates(
            pixels,
            indices=self.spec.blocks,
            norm=False,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        norm, pool = final_norm(self.backbone), pooling_head(self.backbone)
        if pool is None:
            parts = [norm(prefix[:, :1])[:, 0] for _, prefix in found]
            last = found[-1][0]
        else:
            last = found[-1]
            parts = [pool(norm(last))]
        if self.spec.patch_mean:
            parts.append(norm(last).mean(dim=1))
        return torch.cat(parts, dim=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(rows, 3, size, size) normalised → (rows, classes) logits.

        The logits of a volume are the mean of its slices' logits, which is the same as the logits
        of its mean embedding, since the head is linear.
        """
        logits: torch.Tensor = self.head(self.features(pixels))
        return logits


def per_sample(rows: torch.Tensor, sample: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of the rows of each sample.

    Args:
        rows: (rows, dim).
        sample: (rows,) number of the sample that a row belongs to.
        count: samples.
    """
    if len(rows) == count:
        return rows
    sums = rows.new_zeros(count, rows.shape[1]).index_add(0, sample, rows)
    slices = torch.bincount(sample, minlength=count).clamp(min=1).to(rows.dtype)
    return sums / slices[:, None]
