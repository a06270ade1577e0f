"""Many linear heads trained at once, each as if it were alone.

Heads that read the same columns lie side by side in one weight matrix: a step is one product
forward and one back for all of them. Each head keeps its own learning rate, momentum and start;
all see the same batches in the same order, as they would one after another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinorad_rt.progress import Progress, uncounted
from dinorad_rt.types import Task

if TYPE_CHECKING:
    import torch

    from dinorad_rt.embeddings.table import EmbeddingTable

Loss = Literal["per-label", "mean", "study"]
TOLD_STEPS = 25
START_STD = 0.01
"""Weights begin normal with this deviation, biases at 0, as in DINOv2 and the study."""


@dataclass(frozen=True, order=True)
class Head:
    """One linear head.

    Attributes:
        blocks: it reads the class tokens of so many last blocks.
        patch_mean: and the mean of the last block's patch tokens.
        learning_rate: at the start of the cosine, as it is applied.
    """

    blocks: int
    patch_mean: bool
    learning_rate: float


@dataclass(frozen=True)
class Plan:
    """How heads are trained: SGD with momentum, learning rates falling to 0 along a cosine.

    Attributes:
        steps: number of batches.
        batch_size: images per batch; no more than there are.
        momentum: of SGD.
        loss: of multi-label tasks. per-label: the mean over images, summed over labels, so that
            each label learns as it would alone. mean: over images and labels. study: summed over
            images and divided by the number of labels, as its code does.
        seed: of the start and of the order of images.
        device: where the products run.
        epoch_steps: batches of a pass, where the rows are others in each.
    """

    steps: int
    batch_size: int = 128
    momentum: float = 0.9
    loss: Loss = "per-label"
    seed: int = 0
    device: str = "cpu"
    epoch_steps: int | None = None


@dataclass(frozen=True)
class TrainedHeads:
    """Heads and their weights.

    Attributes:
        heads: as they were given.
        weights: (columns that it reads, outputs) of each head, float32.
        biases: (outputs,) of each head.
        starts: first column of each head's input.
    """

    heads: tuple[Head, ...]
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    starts: tuple[int, ...] = field(default=())

    def logits(self, index: int, X: np.ndarray) -> np.ndarray:
        """(samples, outputs) of one head."""
        weight, start = self.weights[index], self.starts[index]
        return np.asarray(X[:, start : start + len(weight)] @ weight + self.biases[index])


def head_input(table: EmbeddingTable, blocks: int) -> np.ndarray:
    """What any head reads, side by side: class tokens of the last blocks, then the patch mean.

    Args:
        table: rows of a store.
        blocks: of the head that reads most.

    Returns:
        (rows, columns) float32, contiguous; each head reads a range of the columns.
    """
    parts = [table.cls[:, -blocks:].reshape(len(table), -1)]
    if table.patch_mean is not None:
        parts.append(table.patch_mean)
    return np.ascontiguousarray(np.hstack(parts), dtype=np.float32)


def columns_of(head: Head, blocks: int, dim: int) -> tuple[int, int]:
    """First and last + 1 column of `head_input` that a head reads."""
    return (blocks - head.blocks) * dim, (blocks + head.patch_mean) * dim


def train_heads(
    X: np.ndarray | Iterator[np.ndarray],
    targets: np.ndarray,
    heads: Sequence[Head],
    plan: Plan,
    *,
    dim: int,
    task: Task,
    progress: Progress = uncounted,
) -> TrainedHeads:
    """Train heads, all at once.

    Args:
        X: (samples, columns) of `head_input`, for the most blocks among the heads; or one such
            array for each epoch of `plan.epoch_steps` batches.
        targets: (samples, outputs) float32: one column for a binary task, else one per class.
        heads: any number.
        plan: how.
        dim: size of one embedding.
        task: decides the loss.
        progress: called with (done, total) steps, now and then.

    Returns:
        Trained heads, in the order given.
    """
    import torch

    blocks = max(head.blocks for head in heads)
    truth = torch.from_numpy(targets).to(plan.device)
    epochs = iter([X]) if isinstance(X, np.ndarray) else X
    groups = [
        _Group([i for i, head in enumerate(heads) if columns_of(head, blocks, dim) == span], span)
        for span in dict.fromkeys(columns_of(head, blocks, dim) for head in heads)
    ]
    size = min(plan.batch_size, len(targets))
    scale = gradient_scale(plan.loss, task, size, targets.shape[1])
    with torch.inference_mode():
        for group in groups:
            group.start(heads, targets.shape[1], plan)
        for step, index in enumerate(batches(len(targets), plan)):
            if step % (plan.epoch_steps or plan.steps) == 0:
                rows = torch.from_numpy(next(epochs)).to(plan.device)
            picked = torch.from_numpy(index).to(plan.device)
            batch, wanted = rows[picked], truth[picked]
            rate = 0.5 * (1 + math.cos(math.pi * step / plan.steps))
            for group in groups:
                group.step(batch, wanted, rate, scale, task == "multiclass")
            if (step + 1) % TOLD_STEPS == 0 or step + 1 == plan.steps:
                progress(step + 1, plan.steps)
    return _collected(heads, groups, targets.shape[1])


def batches(rows: int, plan: Plan) -> Iterator[np.ndarray]:
    """Indices of each batch: one shuffle after another, cut without regard to where they meet."""
    random = np.random.default_rng(plan.seed)
    size = min(plan.batch_size, rows)
    waiting = np.empty(0, np.int64)
    for _ in range(plan.steps):
        while len(waiting) < size:
            waiting = np.concatenate([waiting, random.permutation(rows)])
        yield waiting[:size]
        waiting = waiting[size:]


def start_weights(head: Head, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Where a head begins, whatever other heads are trained with it: float32."""
    own = [seed, head.blocks, int(head.patch_mean), round(head.learning_rate * 1e9)]
    random = np.random.default_rng(own)
    return random.normal(0.0, START_STD, shape).astype(np.float32)


def gradient_scale(loss: Loss, task: Task, batch: int, outputs: int) -> float:
    """What (probability - truth) is multiplied by to be the gradient of the loss."""
    if task != "multilabel" or loss == "per-label":
        return 1 / batch
    return 1 / outputs if loss == "study" else 1 / (batch * outputs)


class _Group:
    """Heads that read the same columns."""

    def __init__(self, members: list[int], span: tuple[int, int]) -> None:
        self.members, self.span = members, span

    def start(self, heads: Sequence[Head], outputs: int, plan: Plan) -> None:
        """Lay the heads' weights side by side."""
        import torch

        chosen = [heads[i] for i in self.members]
        shape = (self.span[1] - self.span[0], outputs)
        weights = np.hstack([start_weights(head, shape, plan.seed) for head in chosen])
        self.weight = torch.from_numpy(weights).to(plan.device)
        self.speed = torch.zeros_like(self.weight)
        self.bias = torch.zeros(len(weights[0]), device=plan.device)
        self.bias_speed = torch.zeros_like(self.bias)
        rates = np.repeat([head.learning_rate for head in chosen], outputs)
        self.rates = torch.from_numpy(rates.astype(np.float32)).to(plan.device)
        self.momentum = plan.momentum

    def step(
        self, batch: torch.Tensor, truth: torch.Tensor, rate: float, scale: float, softmax: bool
    ) -> None:
        """One step of SGD: the gradient of all heads is one product."""
        import torch

        inputs = batch[:, self.span[0] : self.span[1]]
        shape = (len(batch), len(self.members), truth.shape[1])
        logits = torch.addmm(self.bias, inputs, self.weight).view(shape)
        error = logits.softmax(dim=2) if softmax else logits.sigmoid_()
        error -= truth[:, None, :]
        error *= scale
        flat = error.view(len(batch), -1)
        torch.addmm(self.speed, inputs.T, flat, beta=self.momentum, out=self.speed)
        self.bias_speed.mul_(self.momentum).add_(flat.sum(dim=0))
        self.weight.addcmul_(self.speed, self.rates, value=-rate)
        self.bias.addcmul_(self.bias_speed, self.rates, value=-rate)


def _collected(heads: Sequence[Head], groups: Sequence[_Group], outputs: int) -> TrainedHeads:
    """Each head's own weights, copied out."""
    weights: dict[int, tuple[np.ndarray, np.ndarray, int]] = {}
    for group in groups:
        weight, bias = group.weight.cpu().numpy(), group.bias.cpu().numpy()
        for place, member in enumerate(group.members):
            own = slice(place * outputs, (place + 1) * outputs)
            weights[member] = (weight[:, own].copy(), bias[own].copy(), group.span[0])
    ordered = [weights[i] for i in range(len(heads))]
    return TrainedHeads(
        tuple(heads),
        tuple(item[0] for item in ordered),
        tuple(item[1] for item in ordered),
        tuple(item[2] for item in ordered),
    )
