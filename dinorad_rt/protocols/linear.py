"""Linear probing: a grid of heads trained at once, one chosen on validation, one look at test.

The study trains 16 heads ({1, 4} blocks, with and without the patch mean, four learning rates),
DINOv2 52 (thirteen learning rates). Both run the backbone again for each batch; here heads read
stored embeddings, so images are not augmented.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.embeddings.table import joined
from dinorad_rt.progress import Progress, Stages, unseen
from dinorad_rt.protocols.attention import train_attention
from dinorad_rt.protocols.heads import Head, Loss, Plan, head_input, train_heads
from dinorad_rt.protocols.knn import votes_of
from dinorad_rt.protocols.linear_probe import scores_of, targets_of
from dinorad_rt.protocols.logistic import check_two_classes
from dinorad_rt.protocols.selection import SelectBy, check_metric, choose, with_validation
from dinorad_rt.protocols.settings import AbstractSettings
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.attention import AttentionHeads
    from dinorad_rt.protocols.augmented import AugmentedImages
    from dinorad_rt.protocols.heads import TrainedHeads
    from dinorad_rt.protocols.truth import Truth
    from dinorad_rt.reports.results import Results

STUDY_RATES = (1e-3, 5e-3, 1e-2, 5e-2)
DINOV2_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
PatchMean = Literal["both", "with", "without"]


@dataclass(frozen=True, kw_only=True)
class LinearSettings(AbstractSettings):
    """Settings of `linear`.

    Attributes:
        learning_rates: of the grid.
        scale_rates: multiply them by batch size / 256, as DINOv2 does.
        blocks: how many last blocks' class tokens a head may read.
        patch_mean: heads with the mean of the patch tokens, without it, or both.
        epochs: passes, of `epoch_length` batches each.
        epoch_length: batches of an epoch; None for one pass over the images.
        batch_size: images per batch, as far as there are so many.
        momentum: of SGD.
        loss: of multi-label tasks: see `heads.Plan`.
        select_by: metric on validation that chooses the head.
        retrain: train the chosen head anew on train and val; otherwise it is judged as it is.
        activation: scores of multi-class tasks. The study takes the sigmoid of each logit alone.
        augment: embed new random crops of the training images for each pass over them, through the
            engine, as the study and DINOv2 do. Slow: nothing of it can be stored, and the engine
            sees about steps x batch size images.
        crop_scale: smallest and largest part of the area that a crop keeps.
        device: where the products run, such as cpu or cuda.
    """

    learning_rates: tuple[float, ...] = DINOV2_RATES
    scale_rates: bool = True
    blocks: tuple[int, ...] = (1, 4)
    patch_mean: PatchMean = "both"
    epochs: int = 10
    epoch_length: int | None = 250
    batch_size: int = 128
    momentum: float = 0.9
    loss: Loss = "per-label"
    select_by: SelectBy = "auroc"
    retrain: bool = True
    activation: Literal["softmax", "sigmoid"] = "softmax"
    augment: bool = False
    crop_scale: tuple[float, ...] = (0.75, 1.0)
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = self.learning_rates
        self.require(bool(rates) and min(rates, default=0) > 0, "learning_rates", "above 0")
        self.require(bool(self.blocks) and min(self.blocks, default=0) > 0, "blocks", "from 1")
        self.require(self.epochs >= 1, "epochs", "at least 1")
        self.require(self.epoch_length is None or self.epoch_length >= 1, "epoch_length", "from 1")
        self.require(self.batch_size >= 1, "batch_size", "at least 1")
        self.require(0 <= self.momentum < 1, "momentum", "from 0 to below 1")
        scale = self.crop_scale
        fits = len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1
        self.require(fits, "crop_scale", "two parts of the area above 0, up to 1")
        fits = not self.augment or self.pooling != "attention"
        self.require(fits, "augment", "false with attention pooling: it takes single images")

    @classmethod
    def preset(cls, name: str) -> LinearSettings:
        """The grid of DINOv2 with short training; the study's; or DINOv2's own."""
        if name == "study":
            return cls(
                preset_name=name,
                learning_rates=STUDY_RATES,
                scale_rates=False,
                epoch_length=None,
                loss="study",
                activation="sigmoid",
            )
        if name == "dinov2":
            return cls(
                preset_name=name,
                epoch_length=1250,
                crop_scale=(0.08, 1.0),
                loss="mean",
                select_by="accuracy",
                retrain=False,
            )
        return cls(preset_name=name)

    @property
    def can_train_pooling(self) -> bool:
        """Heads may attend to slices."""
        return True

    @property
    def needs_images(self) -> bool:
        """Crops are cut from the images themselves."""
        return self.augment

    @property
    def reads(self) -> tuple[int | None, bool]:
        """As many blocks as the head that reads most."""
        return max(self.blocks), self.patch_mean != "without"

    def check(self, truth: Truth) -> None:
        """Refuse a metric that the task does not have, and training rows of one class only."""
        check_metric(self.select_by, truth.task)
        check_two_classes(truth)

    def plan(self, rows: int, seed: int) -> Plan:
        """How heads are trained on so many rows."""
        size = min(self.batch_size, rows)
        once = -(-rows // size)
        length = self.epoch_length or once
        return Plan(
            self.epochs * length,
            self.batch_size,
            self.momentum,
            self.loss,
            seed,
            self.device,
            once if self.augment else None,
        )

    def heads(self, table: EmbeddingTable) -> tuple[list[Head], list[str]]:
        """The grid as far as the backbone serves it, and what was left out."""
        available = table.cls.shape[1]
        blocks = [count for count in self.blocks if count <= available]
        notes = []
        if len(blocks) < len(self.blocks):
            blocks = blocks or [available]
            notes.append(
                f"The backbone gives {count_of(available, 'class token')}: heads read "
                f"{' or '.join(map(str, blocks))}, not {' or '.join(map(str, self.blocks))}."
            )
        means = {"both": [False, True], "with": [True], "without": [False]}[self.patch_mean]
        if table.patch_mean is None and means != [False]:
            means = [False]
            notes.append("The backbone gives no patch tokens: heads do without their mean.")
        scale = min(self.batch_size, len(table)) / 256 if self.scale_rates else 1.0
        grid = [
            Head(count, mean, rate * scale)
            for count in blocks
            for mean in means
            for rate in self.learning_rates
        ]
        return grid, notes

    def deviations(self, truth: Truth) -> list[str]:
        """Where the study's code, its text and this run differ from each other."""
        if self.preset_name == "dinorad":
            return []
        found = []
        if not self.augment:
            found.append(
                f"{self.preset_name}: trains on randomly cropped and flipped images; here heads "
                "read stored embeddings of the whole image. --set augment=true crops."
            )
        if self.preset_name == "dinov2":
            found.append("dinov2: the chosen head is judged as it is, not trained anew.")
            return found
        found.append(
            "study: epochs and batch sizes of its tables are not published; these are its "
            "code's defaults."
        )
        if not truth.count("val"):
            found.append(
                "study: without a val split its code chooses the head on TEST; here a part of "
                "train is set apart by patient instead."
            )
        if truth.task == "multilabel" and self.loss == "study":
            found.append(
                "study: its multi-label loss is summed over images, so its step grows with the "
                "batch size; --set loss=mean takes the mean."
            )
        if truth.task == "multiclass" and self.activation == "sigmoid":
            found.append(
                "study: scores of classes that exclude each other are sigmoids of single logits, "
                "not a softmax; --set activation=softmax takes it."
            )
        return found


def evaluate_linear(
    train: EmbeddingTable,
    val: EmbeddingTable,
    test: EmbeddingTable,
    dataset: DatasetInfo,
    settings: LinearSettings,
    *,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    images: AugmentedImages | None = None,
    stages: Stages = unseen,
) -> Results:
    """Train the grid, choose on validation, retrain on train and val, look at test once.

    Args: as for `evaluate_knn`. Without a val split one is cut from train by patient. `images`
        are those that augmented probing crops.

    Raises:
        ProtocolError: the metric that chooses is undefined on validation.
    """
    from dinorad_rt.protocols.judge import judge
    from dinorad_rt.protocols.pooling import pool
    from dinorad_rt.reports.results import Predictions

    start = time.perf_counter()
    fitting, choosing, notes = with_validation(train, val, dataset, seed)
    heads, dropped = settings.heads(fitting)
    probe = _Probe(heads, dataset, settings, seed)
    with stages("training the grid of heads", "steps") as progress:
        probe.train(fitting, images, progress)
    judged = pool(choosing, settings.without_attention())
    best, values = choose(
        [probe.scores(i, choosing) for i in range(len(heads))],
        judged.labels,
        dataset.task,
        settings.select_by,
    )
    searched = time.perf_counter() - start
    if settings.retrain:
        probe = _Probe([heads[best]], dataset, settings, seed)
        with stages("training the chosen head", "steps") as progress:
            probe.train(joined([train, val]), images, progress)
    scores = probe.scores(0 if settings.retrain else best, test)
    trained = time.perf_counter() - start
    chosen = _setting(heads[best])
    results = judge(
        "linear",
        pool(test, settings.without_attention()),
        dataset,
        [Predictions(chosen, scores)],
        settings,
        resolved={
            "grid": [_setting(head) for head in heads],
            "validation": values,
            "validation_images": len(judged),
            "steps": probe.plan.steps,
        },
        chosen=chosen,
        seed=seed,
        provenance=provenance,
        stages=stages,
    )
    results.timings |= {"search_s": searched, "retrain_s": trained - searched}
    results.notes.extend([*notes, *dropped])
    return results


class _Probe:
    """A grid of heads on tables, whose slices are pooled before or by the heads themselves."""

    def __init__(
        self, heads: list[Head], dataset: DatasetInfo, settings: LinearSettings, seed: int
    ) -> None:
        self._heads, self._dataset, self._settings = heads, dataset, settings
        self._seed = seed
        self._blocks = max(head.blocks for head in heads)
        self._trained: TrainedHeads | AttentionHeads

    def train(
        self, table: EmbeddingTable, images: AugmentedImages | None, progress: Progress
    ) -> None:
        """Fit all heads."""
        dim, task = table.cls.shape[2], self._dataset.task
        X: np.ndarray = head_input(table, self._blocks)
        if self._settings.pooling == "attention":
            names, first, volumes = _volumes(table)
            self.plan = self._settings.plan(len(names), self._seed)
            targets = targets_of(self._votes(table.labels[first]), task)
            self._trained = train_attention(
                X, volumes, targets, self._heads, self.plan, dim=dim, task=task
            )
            return
        self.plan = self._settings.plan(len(X), self._seed)
        targets = targets_of(self._votes(table.labels), task)
        rows: np.ndarray | Iterator[np.ndarray] = X
        if images is not None:
            settings = self._settings
            scale = (settings.crop_scale[0], settings.crop_scale[1])
            passes = -(-self.plan.steps // (self.plan.epoch_steps or self.plan.steps))
            crops = images.epochs(table, passes, scale, self._seed)
            rows = (head_input(item, self._blocks) for item in crops)
        self._trained = train_heads(
            rows, targets, self._heads, self.plan, dim=dim, task=task, progress=progress
        )

    def scores(self, index: int, table: EmbeddingTable) -> np.ndarray:
        """(rows or volumes, classes) of one head."""
        from dinorad_rt.protocols.attention import AttentionHeads

        X = head_input(table, self._blocks)
        if isinstance(self._trained, AttentionHeads):
            logits = self._trained.logits(index, X, _volumes(table)[2])
        else:
            logits = self._trained.logits(index, X)
        return scores_of(logits, self._dataset.task, self._settings.activation)

    def _votes(self, labels: np.ndarray) -> np.ndarray:
        return votes_of(labels, len(self._dataset.class_names))


def _volumes(table: EmbeddingTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample ids in order of first appearance, their first rows, and each row's volume."""
    groups = by_appearance(table.sample_ids)
    return groups.keys, groups.first, groups.index


def _setting(head: Head) -> dict[str, Any]:
    return {
        "blocks": head.blocks,
        "patch_mean": "yes" if head.patch_mean else "no",
        "learning_rate": float(f"{head.learning_rate:.3g}"),
    }
