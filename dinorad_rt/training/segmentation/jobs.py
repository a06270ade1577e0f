"""The jobs that the training loop runs: decoders on tokens, networks on slices or patches.

Imported late: torch and MONAI.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.segmentation import confusion_matrix, pooled_dice
from dinorad_rt.optional import require
from dinorad_rt.training.job import AbstractJob, Selection
from dinorad_rt.training.segmentation.model import Segmenter
from dinorad_rt.training.segmentation.rows import AbstractRows, batches, num_batches

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.training.segmentation.arrays import ArrayStore

EVAL_ROWS = 16


def build_loss(name: str) -> nn.Module:
    """MONAI's Dice loss over softmax, all classes, or its sum with cross entropy.

    Raises:
        MissingPackageError: MONAI is not installed.
    """
    losses = require("monai.losses", "training segmentation")
    make = losses.DiceLoss if name == "dice" else losses.DiceCELoss
    module: nn.Module = make(softmax=True, to_onehot_y=True)
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
        select: dice or dice_pooled.
        facts: what train.json says.
        workers: processes that make training items.
    """

    rows: AbstractRows
    val: Sequence[Sample]
    masks: ArrayStore
    classes: int
    batch_size: int
    loss: str
    select: str
    facts: dict[str, Any]
    workers: int = 0


class AbstractSegmentationJob(AbstractJob):
    """Loss, order of batches and validation; what the inputs are is the subclass's.

    Validation is on the network's grid. The test split is judged on the files' own grids.
    """

    def __init__(self, module: nn.Module, plan: Plan) -> None:
        self.module = module
        self.plan = plan
        self.selection = Selection(plan.select, tie="loss")
        self.criterion = build_loss(plan.loss)
        _check_foreground(plan)

    def facts(self) -> dict[str, Any]:
        """See `AbstractJob`."""
        return self.plan.facts

    def num_batches(self) -> int:
        """See `AbstractJob`."""
        return num_batches(self.plan.rows, self.plan.batch_size)

    def train_batches(self, epoch: int, seed: int, start: int = 0) -> Iterator[Any]:
        """Batches of {inputs, mask}."""
        plan = self.plan
        return batches(
            plan.rows, epoch, seed, size=plan.batch_size, start=start, workers=plan.workers
        )

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of {inputs, mask}; its parts are not told apart."""
        logits = self.logits(batch["inputs"])
        value: torch.Tensor = self.criterion(logits.float(), batch["mask"][:, None])
        return value, {}

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs of a batch → (batch, classes, *size)."""
        found: torch.Tensor = self.module(inputs)
        return found

    @abstractmethod
    def sample_logits(self, sample: Sample) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Logits (n, classes, *size) and masks (n, *size) of a validation sample, in parts."""

    def validate(self) -> dict[str, float]:
        """Mean Dice over volumes, Dice over all pixels, and the loss."""
        total = np.zeros((self.plan.classes, self.plan.classes), np.int64)
        dices, losses, weights = [], [], []
        for sample in self.plan.val:
            counts = np.zeros_like(total)
            for logits, mask in self.sample_logits(sample):
                losses.append(float(self.criterion(logits.float(), mask[:, None])))
                weights.append(len(mask))
                found = logits.argmax(dim=1).cpu().numpy()
                counts += confusion_matrix(mask.cpu().numpy(), found, self.plan.classes)
            dices.append(_mean(pooled_dice(counts)))
            total += counts
        return {
            "dice": _mean(np.asarray(dices)),
            "dice_pooled": _mean(pooled_dice(total)),
            "loss": float(np.average(losses, weights=weights)),
        }

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device


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


def sliding_logits(
    module: nn.Module, volume: torch.Tensor, patch: Sequence[int], overlap: float = 0.5
) -> torch.Tensor:
    """Logits of a whole volume from overlapping patches, weighted by a Gaussian (MONAI).

    Args:
        module: network on patches.
        volume: (1, 1, slices, height, width); smaller than the patch is padded.
        patch: (slices, height, width).
        overlap: of neighbouring patches.
    """
    inferers = require("monai.inferers", "segmenting volumes")
    logits: torch.Tensor = inferers.sliding_window_inference(
        volume, tuple(patch), 2, module, overlap=overlap, mode="gaussian"
    )
    return logits


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
