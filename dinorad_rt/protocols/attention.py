"""Attention pooling: each head learns which slices of a volume to read.

A head has a query; the weight of a slice is the softmax over the volume's slices of their product
with it, divided by the root of its length (Ilse et al., arXiv 1802.04712, without the gate). The
query begins at zero, where attention is the mean. As in `heads`, all heads are trained at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.protocols.heads import (
    Head,
    Plan,
    batches,
    columns_of,
    gradient_scale,
    start_weights,
)
from dinorad_rt.types import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AttentionHeads:
    """Trained heads.

    Attributes:
        heads: as they were given.
        spans: columns that each reads.
        queries: (columns,) of each head.
        weights: (columns, outputs) of each head.
        biases: (outputs,) of each head.
    """

    heads: tuple[Head, ...]
    spans: tuple[tuple[int, int], ...]
    queries: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def logits(self, index: int, X: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        """(volumes, outputs) of one head.

        Args:
            index: of the head.
            X: (slices, columns) of `heads.head_input`.
            volumes: (slices,) volume of each, from 0.
        """
        start, stop = self.spans[index]
        rows = X[:, start:stop]
        score = rows @ self.queries[index] / math.sqrt(stop - start)
        count = int(volumes.max()) + 1
        highest = np.full(count, -np.inf, np.float32)
        np.maximum.at(highest, volumes, score)
        weight = np.exp(score - highest[volumes])
        total = np.bincount(volumes, weights=weight, minlength=count)
        pooled = np.zeros((count, stop - start))
        np.add.at(pooled, volumes, rows * (weight / total[volumes])[:, None])
        return np.asarray(pooled @ self.weights[index] + self.biases[index])


def train_attention(
    X: np.ndarray,
    volumes: np.ndarray,
    targets: np.ndarray,
    heads: Sequence[Head],
    plan: Plan,
    *,
    dim: int,
    task: Task,
) -> AttentionHeads:
    """Train heads with attention over slices.

    Args:
        X: (slices, columns) of `heads.head_input`.
        volumes: (slices,) volume of each, from 0.
        targets: (volumes, outputs) float32.
        heads: any number.
        plan: how; a batch is of volumes.
        dim: size of one embedding.
        task: decides the loss.
    """
    import torch

    blocks = max(head.blocks for head in heads)
    spans = [columns_of(head, blocks, dim) for head in heads]
    groups = [
        _Group(
            [i for i, own in enumerate(spans) if own == span], span, heads, targets.shape[1], plan
        )
        for span in dict.fromkeys(spans)
    ]
    padded, mask = _padded(X, volumes)
    rows, present, truth = (
        torch.from_numpy(part).to(plan.device) for part in (padded, mask, targets)
    )
    size = min(plan.batch_size, len(targets))
    scale = gradient_scale(plan.loss, task, size, targets.shape[1])
    for step, index in enumerate(batches(len(targets), plan)):
        picked = torch.from_numpy(index).to(plan.device)
        rate = 0.5 * (1 + math.cos(math.pi * step / plan.steps))
        for group in groups:
            group.step((rows[picked], present[picked]), truth[picked], rate, scale, task)
    found = {member: part for group in groups for member, part in group.parts()}
    parts = [found[i] for i in range(len(heads))]
    return AttentionHeads(
        tuple(heads),
        tuple(spans),
        tuple(part[0] for part in parts),
        tuple(part[1] for part in parts),
        tuple(part[2] for part in parts),
    )


def _padded(X: np.ndarray, volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(volumes, most slices, columns) with zeros where there is none, and where there is one."""
    counts = np.bincount(volumes)
    order = np.argsort(volumes, kind="stable")
    place = np.arange(len(X)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded = np.zeros((len(counts), int(counts.max()), X.shape[1]), np.float32)
    mask = np.zeros(padded.shape[:2], bool)
    padded[volumes[order], place] = X[order]
    mask[volumes[order], place] = True
    return padded, mask


class _Group:
    """Heads that read the same columns; the gradient is autograd's, the steps are ours."""

    def __init__(
        self,
        members: list[int],
        span: tuple[int, int],
        heads: Sequence[Head],
        outputs: int,
        plan: Plan,
    ) -> None:
        import torch

        self._members, self._span, self._momentum = members, span, plan.momentum
        shape = (span[1] - span[0], outputs)
        start = np.stack([start_weights(heads[i], shape, plan.seed) for i in members])
        rates = torch.tensor([heads[i].learning_rate for i in members], device=plan.device)
        self._parameters = [
            torch.zeros((shape[0], len(members)), device=plan.device),  # queries
            torch.from_numpy(start).to(plan.device),  # (heads, columns, outputs)
            torch.zeros((len(members), outputs), device=plan.device),
        ]
        self._rates = [rates, rates[:, None, None], rates[:, None]]
        self._speeds = [torch.zeros_like(item) for item in self._parameters]
        for item in self._parameters:
            item.requires_grad_()

    def step(
        self,
        batch: tuple[torch.Tensor, torch.Tensor],
        truth: torch.Tensor,
        rate: float,
        scale: float,
        task: Task,
    ) -> None:
        """One step of SGD with momentum for every head."""
        import torch

        logits = self._logits(*batch)
        with torch.no_grad():
            guess = logits.softmax(dim=2) if task == "multiclass" else logits.sigmoid()
            error = (guess - truth[:, None, :]) * scale
        gradients = torch.autograd.grad(logits, self._parameters, error)
        with torch.no_grad():
            for item, speed, own, gradient in zip(
                self._parameters, self._speeds, self._rates, gradients, strict=True
            ):
                speed.mul_(self._momentum).add_(gradient)
                item.addcmul_(speed, own.expand_as(item), value=-rate)

    def _logits(self, rows: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(volumes, heads, outputs) of (volumes, slices, columns)."""
        import torch

        queries, weights, biases = self._parameters
        inputs = rows[:, :, self._span[0] : self._span[1]]
        score = inputs @ queries / math.sqrt(inputs.shape[2])
        score = score.masked_fill(~present[:, :, None], -torch.inf)
        pooled = score.softmax(dim=1).transpose(1, 2) @ inputs
        return torch.einsum("vhc,hco->vho", pooled, weights) + biases

    def parts(self) -> list[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        """Each member with its query, weights and bias."""
        queries, weights, biases = (item.detach().cpu().numpy() for item in self._parameters)
        return [
            (member, (queries[:, place].copy(), weights[place].copy(), biases[place].copy()))
            for place, member in enumerate(self._members)
        ]
