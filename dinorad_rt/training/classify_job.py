"""`ClassifyJob`: a classifier with its images and its loss. Imported late: it needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from dinorad_rt.progress import Say, silent
from dinorad_rt.training.augment import augmentation
from dinorad_rt.training.classifier import Classifier, per_sample
from dinorad_rt.training.classify_data import (
    Planned,
    TrainingImages,
    epoch_order,
    num_batches,
)
from dinorad_rt.training.feed import Feed
from dinorad_rt.training.images import ImageBank, normalise
from dinorad_rt.training.job import AbstractJob, Batch, Selection
from dinorad_rt.training.methods import hold_statistics, parameter_groups
from dinorad_rt.training.presets import ClassifyRecipe
from dinorad_rt.types import Task

EVAL_ROWS = 64
"""Rows of one forward pass without gradients, at most; twice a training batch fits in any case."""


class ClassifyJob(AbstractJob):
    """Trains a classifier; validates by macro AUROC, ties by the loss.

    Args:
        model: backbone and head; what requires gradients is trained.
        recipe: every choice.
        task: binary, multiclass or multilabel.
        banks: training and validation images.
        facts: for train.json.
        workers: processes that make batches; None to choose by the device.
        say: told of them.
    """

    def __init__(
        self,
        model: Classifier,
        recipe: ClassifyRecipe,
        task: Task,
        banks: tuple[ImageBank, ImageBank],
        facts: dict[str, Any],
        *,
        workers: int | None = None,
        say: Say = silent,
    ) -> None:
        self.module = self.model = model
        self.recipe, self.task = recipe, task
        self.train, self.val = banks
        self.selection = Selection("auroc", "max", tie="loss")
        self._facts = facts
        augment = augmentation(recipe.augmentation, self.train.spec.image_size, flip=recipe.flip)
        images = TrainingImages(self.train, augment, recipe.slices)
        self._feed = Feed(images.batch, images.nbytes, workers=workers, say=say)
        self._weights = _class_weights(self.train.labels, model.head.weight.shape[0], task)
        if not recipe.class_weights:
            self._weights = torch.ones_like(self._weights)
        self._features: dict[str, torch.Tensor] = {}
        self._cached = recipe.method.protocol == "linear" and augment is None

    def facts(self) -> dict[str, Any]:
        """See `AbstractJob`."""
        return self._facts

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Backbone by layer if the method says so, head by its own rate."""
        return parameter_groups(
            self.model.backbone,
            self.model.head,
            self.recipe.method,
            self.recipe.settings.weight_decay,
        )

    def num_batches(self) -> int:
        """Batches that hold all training samples."""
        return num_batches(len(self.train), self.recipe.settings.batch_size)

    def train_batches(
        self, epoch: int, seed: int, start: int = 0, step: int = 1
    ) -> Iterator[Batch]:
        """Augmented images, or features that a frozen backbone gave once."""
        size = self.recipe.settings.batch_size
        wanted = epoch_order(len(self.train), size, seed, epoch)[start::step]
        if self._cached:
            features = self._frozen("train", self.train)
            for indices in wanted:
                yield {"features": features[indices], "labels": self.train.labels[indices]}
            return
        plans = [Planned(seed, epoch, rows) for rows in wanted]
        yield from self._feed.batches(plans, next(self.model.parameters()).device)

    def end_batches(self) -> None:
        """See `AbstractJob`."""
        self._feed.close()

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Cross-entropy, or its binary form for each label of a multi-label task."""
        if "features" in batch:
            logits = self.model.head(batch["features"])
        else:
            rows = self.model(normalise(batch["pixels"], self.train.spec))
            logits = per_sample(rows, batch["sample"], len(batch["labels"]))
        return self._criterion(logits.float(), batch["labels"], smooth=True), {}

    def train_mode(self) -> None:
        """Training mode; batch norms of a frozen backbone keep their statistics."""
        self.model.train()
        hold_statistics(self.model.backbone, self.recipe.method)

    def validate(self) -> dict[str, float]:
        """auroc (macro over classes that val shows), balanced accuracy or accuracy, and loss."""
        from dinorad_rt.training.scores import validation_metrics

        logits = self._val_logits()
        loss = self._criterion(logits, self.val.labels.to(logits.device), smooth=False)
        truth = self.val.labels.numpy()
        return validation_metrics(logits.cpu().numpy(), truth, self.task) | {"loss": float(loss)}

    def shrink(self, batch: Batch, rows: int) -> Batch:
        """The first samples of a batch, with all their slices."""
        if "features" in batch:
            return super().shrink(batch, rows)
        keep = batch["sample"] < rows
        return {
            "pixels": batch["pixels"][keep],
            "sample": batch["sample"][keep],
            "labels": batch["labels"][:rows],
        }

    @torch.no_grad()
    def logits(self, bank: ImageBank) -> torch.Tensor:
        """(samples, classes) float32 of every sample of a bank, on the model's device."""
        return self._of_samples(bank, self.model)

    @torch.no_grad()
    def features(self, bank: ImageBank, samples: np.ndarray | None = None) -> torch.Tensor:
        """(samples, dim of the head) float32: what the head sees, meaned over slices."""
        return self._of_samples(bank, self.model.features, samples)

    def _of_samples(
        self, bank: ImageBank, function: Any, samples: np.ndarray | None = None
    ) -> torch.Tensor:
        device = next(self.model.parameters()).device
        chosen = np.arange(len(bank)) if samples is None else samples
        found: list[torch.Tensor] = []
        rows: list[int] = []
        owners: list[int] = []
        for place, sample in enumerate(chosen):
            rows += bank.rows_of(int(sample))
            owners += [place] * int(bank.count[sample])
        size = min(EVAL_ROWS, 2 * self.recipe.settings.batch_size)
        for start in range(0, len(rows), size):
            found.append(function(bank.rows(rows[start : start + size]).to(device)))
        owner = torch.tensor(owners, device=device)
        return per_sample(torch.cat(found).float(), owner, len(chosen))

    def _val_logits(self) -> torch.Tensor:
        if self.recipe.method.protocol != "linear":
            return self.logits(self.val)
        features = self._frozen("val", self.val)
        logits: torch.Tensor = self.model.head(features.to(self.model.head.weight.device))
        return logits.float()

    def _frozen(self, split: str, bank: ImageBank) -> torch.Tensor:
        """Features of a backbone that stays as it is, computed once."""
        if split not in self._features:
            self.model.backbone.eval()
            self._features[split] = self.features(bank).cpu()
        return self._features[split]

    def _criterion(
        self, logits: torch.Tensor, labels: torch.Tensor, *, smooth: bool
    ) -> torch.Tensor:
        """Mean over the samples, each weighted by its own class (each label by its own value).

        PyTorch's own mean divides by the weights of a batch: with one image in it there would be
        no weighting left, and accumulated batches would not train like a large one. And its own
        weights also multiply the share of a smoothed target that goes to the other classes: with a
        class of 3 %, images that surely do not show it would be drawn to a probability of 0.63.
        """
        share = self.recipe.label_smoothing if smooth else 0.0
        weights = self._weights.to(logits.device)
        if self.task == "multilabel":
            target = labels.to(logits.dtype) * (1 - share) + share / 2
            each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            return (each * torch.where(labels > 0, weights, 1.0)).mean()
        if not smooth:  # validation may show classes that training does not
            weights = torch.where(weights > 0, weights, 1.0)
        each = nn.functional.cross_entropy(logits, labels, label_smoothing=share, reduction="none")
        return (each * weights[labels]).mean()


def _class_weights(labels: torch.Tensor, classes: int, task: Task) -> torch.Tensor:
    """Inverse frequency with mean 1 over the samples; for multi-label negatives over positives.

    A label's weight is bounded by 20, so that one rare finding cannot rule the gradient.
    """
    if task == "multilabel":
        positives = labels.sum(0).clamp(min=1).float()
        return ((len(labels) - positives) / positives).clamp(0.05, 20.0)
    counts = torch.bincount(labels, minlength=classes).float()
    present = counts > 0
    weights = torch.where(present, len(labels) / (present.sum() * counts.clamp(min=1)), 0.0)
    return weights.clamp(max=20.0)
