"""The jobs that the training loop runs: decoders on tokens, networks on slices or patches.

Imported late: torch and MONAI.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.segmentation import confusion_matrix, pooled_dice
from dinorad_rt.optional import require
from dinorad_rt.progress import Say, silent
from dinorad_rt.training.feed import Feed
from dinorad_rt.training.job import AbstractJob, Selection
from dinorad_rt.training.segmentation.decoders import Candidates
from dinorad_rt.training.segmentation.model import Segmenter
from dinorad_rt.training.segmentation.rows import (
    AbstractRows,
    Planned,
    batch_of,
    num_batches,
    planned,
)
from dinorad_rt.training.segmentation.windows import sliding_logits

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.training.segmentation.arrays import ArrayStore

EVAL_ROWS = 16


def build_loss(name: str, *, pooled: bool = False) -> nn.Module:
    """MONAI's Dice loss over softmax, all classes, or its sum with cross entropy.

    Args:
        name: dice or dice-ce.
        pooled: one Dice for the pixels of a whole batch. One for each item rewards an empty answer
            on slices without foreground, which most slices of a volume are.

    Raises:
        MissingPackageError: MONAI is not installed.
    """
    losses = require("monai.losses", "training segmentation")
    make = losses.DiceLoss if name == "dice" else losses.DiceCELoss
    module: nn.Module = make(softmax=True, to_onehot_y=True, batch=pooled)
    return module


@dataclass(frozen=True)
class Plan:
    """What all jobs share.

    Attributes:
        rows: training items.
        val: validation samples.
        masks: their masks on the network's grid.
        classes: with the background.
        batch_size: items per step.
        loss: dice or dice-ce.
        pooled_loss: see `build_loss`.
        select: dice, dice_pooled, or epoch for the last weights.
        facts: what train.json says.
        lr: learning rate of the loop.
        workers: processes that make batches; None to choose by the device.
        say: told of them.
    """

    rows: AbstractRows
    val: Sequence[Sample]
    masks: ArrayStore
    classes: int
    batch_size: int
    loss: str
    pooled_loss: bool
    select: str
    facts: dict[str, Any]
    lr: float
    workers: int | None = None
    say: Say = silent


class AbstractSegmentationJob(AbstractJob):
    """Loss, order of batches and validation; what the inputs are is the subclass's.

    Validation is on the network's grid. The test split is judged on the files' own grids.
    """

    def __init__(self, module: nn.Module, plan: Plan) -> None:
        self.module = module
        self.plan = plan
        self.selection = Selection(plan.select, tie="loss")
        self.criterion = build_loss(plan.loss, pooled=plan.pooled_loss)
        self._epoch, self._item_bytes = 0, 0
        _check_foreground(plan)
        make = partial(batch_of, plan.rows)
        self._feed = Feed(make, self._nbytes, workers=plan.workers, say=plan.say)

    def facts(self) -> dict[str, Any]:
        """See `AbstractJob`."""
        return self.plan.facts

    def num_batches(self) -> int:
        """See `AbstractJob`."""
        return num_batches(self.plan.rows, self.plan.batch_size)

    def train_batches(self, epoch: int, seed: int, start: int = 0, step: int = 1) -> Iterator[Any]:
        """Batches of {inputs, mask}."""
        plan, self._epoch = self.plan, epoch
        wanted = range(start, self.num_batches(), step)
        plans = planned(plan.rows, epoch, seed, size=plan.batch_size, wanted=wanted)
        return self._feed.batches(plans, self.device)

    def end_batches(self) -> None:
        """See `AbstractJob`."""
        self._feed.close()

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of {inputs, mask}, summed over candidates; its parts are not told apart."""
        mask = batch["mask"]
        each = _each(self.logits(batch["inputs"]), mask)
        total = torch.stack([self.criterion(logits.float(), mask[:, None]) for logits in each])
        return total.sum(), {}

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs of a batch → (batch, classes, *size)."""
        found: torch.Tensor = self.module(inputs)
        return found

    @abstractmethod
    def sample_logits(self, sample: Sample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Logits (n, classes, *size) and masks (n, *size) of a validation sample, in parts."""

    def validate(self) -> dict[str, float]:
        """Mean Dice over volumes, Dice over all pixels, and the loss; those of the best candidate.

        A search adds `dice_pooled lr=...` of each.
        """
        tallies = [_Tally(self.plan.classes) for _ in self._rates() or (0.0,)]
        for sample in self.plan.val:
            for logits, mask in self.sample_logits(sample):
                for tally, one in zip(tallies, _each(logits, mask), strict=True):
                    tally.add(one, mask, float(self.criterion(one.float(), mask[:, None])))
            for tally in tallies:
                tally.end_sample()
        found = [tally.metrics() for tally in tallies]
        best = max(found, key=lambda metrics: metrics["dice_pooled"])
        named = {
            f"dice_pooled lr={rate:g}": metrics["dice_pooled"]
            for rate, metrics in zip(self._rates(), found, strict=False)
        }
        return {**best, "epoch": float(self._epoch + 1), **named}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group for each candidate of a search, at its own rate, as if it were alone."""
        rates = self._rates()
        if not rates:
            return super().parameter_groups()
        members = self.module.decoder.members  # type: ignore[union-attr]
        return [
            {"params": list(member.parameters()), "lr_scale": rate / self.plan.lr, "alone": True}
            for rate, member in zip(rates, members, strict=True)  # type: ignore[arg-type]
        ]

    def _nbytes(self, batch: Sequence[Planned]) -> int:
        """Bytes of a batch; all items are of one size."""
        if not self._item_bytes:
            item = self.plan.rows.item(*batch[0])
            self._item_bytes = sum(tensor.nbytes for tensor in item.values())
        return self._item_bytes * len(batch)

    def _rates(self) -> tuple[float, ...]:
        decoder = getattr(self.module, "decoder", None)
        return decoder.rates if isinstance(decoder, Candidates) else ()

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device


class _Tally:
    """Validation counts of one candidate."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._total = np.zeros((classes, classes), np.int64)
        self._sample = np.zeros_like(self._total)
        self._dices: list[float] = []
        self._losses: list[float] = []
        self._weights: list[int] = []

    def add(self, logits: torch.Tensor, mask: torch.Tensor, loss: float) -> None:
        """Count a part of a sample."""
        found = logits.argmax(dim=1).cpu().numpy()
        self._sample += confusion_matrix(mask.cpu().numpy(), found, self._classes)
        self._losses.append(loss)
        self._weights.append(len(mask))

    def end_sample(self) -> None:
        """Take the Dice of the sample."""
        self._dices.append(_mean(pooled_dice(self._sample)))
        self._total += self._sample
        self._sample = np.zeros_like(self._total)

    def metrics(self) -> dict[str, float]:
        """Dice over volumes and over pixels, and the mean loss."""
        return {
            "dice": _mean(np.asarray(self._dices)),
            "dice_pooled": _mean(pooled_dice(self._total)),
            "loss": float(np.average(self._losses, weights=self._weights)),
        }


class TokenJob(AbstractSegmentationJob):
    """A decoder on cached patch tokens.

    Args:
        decoder: what is trained.
        plan: rows are `TokenRows`.
        tokens: of the validation samples.
    """

    def __init__(self, decoder: nn.Module, plan: Plan, tokens: ArrayStore) -> None:
        super().__init__(Segmenter(decoder), plan)
        self._tokens = tokens

    def sample_logits(self, sample: Sample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """See `AbstractSegmentationJob`."""
        tokens = self._tokens.read(sample.sample_id)
        for part, mask in _parts(tokens, self.plan.masks.read(sample.sample_id), self.device):
            yield self.logits(part), mask


class SliceJob(AbstractSegmentationJob):
    """A network, or encoder and decoder, on grey slices that are normalised on the device.

    Args:
        module: (batch, 3, H, W) → logits.
        plan: rows are `SliceRows`.
        greys: of the validation samples.
        normalisation: (mean, std) per channel.
        encoder_lr: share of the learning rate that a trained encoder gets.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        greys: ArrayStore,
        normalisation: tuple[Sequence[float], Sequence[float]],
        *,
        encoder_lr: float = 1.0,
    ) -> None:
        super().__init__(module, plan)
        self._greys, self._encoder_lr = greys, encoder_lr
        self._mean, self._std = (torch.tensor(v).view(1, 3, 1, 1) for v in normalisation)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Decoder and encoder apart."""
        if self._rates():
            return super().parameter_groups()
        encoder = [p for n, p in self._trained() if n.startswith("encoder.")]
        rest = [p for n, p in self._trained() if not n.startswith("encoder.")]
        groups: list[dict[str, Any]] = [{"params": rest}]
        return [*groups, {"params": encoder, "lr_scale": self._encoder_lr}] if encoder else groups

    def train_mode(self) -> None:
        """A frozen encoder stays in eval mode."""
        self.module.train()
        encoder = getattr(self.module, "encoder", None)
        if encoder is not None and not any(p.requires_grad for p in encoder.parameters()):
            encoder.eval()

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Grey (batch, 1 or 3, H, W) → logits."""
        mean, std = self._mean.to(inputs.device), self._std.to(inputs.device)
        return super().logits((inputs - mean) / std)

    def sample_logits(self, sample: Sample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """See `AbstractSegmentationJob`."""
        greys = self._greys.read(sample.sample_id)
        for part, mask in _parts(greys, self.plan.masks.read(sample.sample_id), self.device):
            yield self.logits(part), mask

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]


class PatchJob(AbstractSegmentationJob):
    """A 3-D network on patches; whole volumes by sliding windows in validation.

    Args:
        module: (batch, 1, slices, height, width) → logits.
        plan: rows are `PatchRows`.
        volumes: of the validation samples.
        patch: (slices, height, width).
    """

    def __init__(
        self, module: nn.Module, plan: Plan, volumes: ArrayStore, patch: Sequence[int]
    ) -> None:
        super().__init__(module, plan)
        self._volumes, self._patch = volumes, tuple(patch)

    def sample_logits(self, sample: Sample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """See `AbstractSegmentationJob`."""
        volume = torch.from_numpy(np.asarray(self._volumes.read(sample.sample_id), np.float32))
        mask = torch.from_numpy(np.array(self.plan.masks.read(sample.sample_id)))
        volume = volume[None, None].to(self.device)
        yield sliding_logits(self.module, volume, self._patch), mask[None].to(self.device)


def _each(logits: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Logits of each candidate: of a search (members, batch, classes, ...), else the one."""
    return logits.unbind(0) if logits.ndim == mask.ndim + 2 else (logits,)


def _parts(
    inputs: np.ndarray, masks: np.ndarray, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for at in range(0, len(masks), EVAL_ROWS):
        part = slice(at, at + EVAL_ROWS)
        yield (
            torch.from_numpy(np.asarray(inputs[part], np.float32)).to(device),
            torch.from_numpy(np.array(masks[part])).to(device),
        )


def _check_foreground(plan: Plan) -> None:
    if any(plan.masks.read(sample.sample_id).any() for sample in plan.val):
        return
    raise ProtocolError(
        f"No mask of the {len(plan.val)} validation images has any foreground: no epoch could be "
        "told from another.",
        "Give the validation split images with foreground.",
    )


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
