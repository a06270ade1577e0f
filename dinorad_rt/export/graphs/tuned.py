"""A tuned backbone and its head as one graph. Imported late: it needs torch."""

from __future__ import annotations

import torch
from torch import nn


class ClassifierGraph(nn.Module):
    """The embedding graph with one more output, `logits`.

    Args:
        embedding: the traced form of the backbone: `cls`, and `patch_mean` where it has patches.
        head: linear layer on the class tokens of the last blocks, joined by the patch mean.
        blocks: class tokens that it sees, counted from the last.
        patch_mean: whether it sees the patch mean.
    """

    def __init__(
        self, embedding: nn.Module, head: nn.Linear, *, blocks: int, patch_mean: bool
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.head = head
        self.blocks = blocks
        self.patch_mean = patch_mean

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(batch, 3, H, W) → the embedding's outputs, then `logits` (batch, classes)."""
        outputs = self.embedding(pixel_values)
        cls = outputs[0]
        seen = cls[:, cls.shape[1] - self.blocks :].flatten(1)
        if self.patch_mean:
            seen = torch.cat((seen, outputs[1]), dim=1)
        return (*outputs, self.head(seen))
