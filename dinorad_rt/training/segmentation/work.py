"""`Work`: one question of segmentation, as every way of preparing it sees it. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.datasets.mask_classes import class_facts
from dinorad_rt.errors import EmptyDataError, ProtocolError
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.preprocessing.presets import preset
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.progress import Progress, Say
from dinorad_rt.training.modalities import modalities_of
from dinorad_rt.training.segmentation import predict
from dinorad_rt.training.segmentation.arrays import ArrayStore
from dinorad_rt.training.segmentation.augment import may_mirror
from dinorad_rt.training.segmentation.decoders import Candidates, build_decoder
from dinorad_rt.training.segmentation.grid import check_invertible
from dinorad_rt.training.segmentation.jobs import AbstractSegmentationJob, Plan
from dinorad_rt.training.segmentation.rows import AbstractRows
from dinorad_rt.training.segmentation.settings import SegmentationSettings

if TYPE_CHECKING:
    from dinorad_rt.backbones.load import Backbone
    from dinorad_rt.training.settings import TrainSettings

Opener: TypeAlias = Callable[[], AbstractContextManager[predict.AnySegmenter]]
SCRATCH_SIZE = 224


@dataclass(frozen=True)
class Prepared:
    """What a run needs.

    Attributes:
        job: for `fit`.
        open: gives the segmenter with the job's present weights.
        provenance: of weights, engine and preprocessing, for the results.
        notes: what a reader must know.
    """

    job: AbstractSegmentationJob
    open: Opener
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """One question, as all ways of preparing it see it.

    Attributes:
        settings, loop, dataset, request: as in `run.train_segmentation`.
        workers: decoders of images, and processes that make batches; None to choose.
        say, progress: told of decisions and of samples done.
        stage: of a search of learning rates: `search` trains one decoder for each, `refit` the
            chosen one on train and val; empty for a run without a search.
    """

    settings: SegmentationSettings
    loop: TrainSettings
    dataset: Dataset
    request: EngineRequest
    workers: int | None
    say: Say
    progress: Progress | None
    stage: Literal["", "search", "refit"] = ""

    @property
    def classes(self) -> int:
        """With the background."""
        return len(self.dataset.class_names)

    @property
    def mirror(self) -> bool:
        """Whether augmentation may swap left and right."""
        return may_mirror(self.dataset.class_names, self.settings.flip)

    def samples(self, split: str) -> tuple[Sample, ...]:
        """Of one split, with masks."""
        return self.dataset.of_split(split)  # type: ignore[arg-type]

    def plan(
        self,
        rows: AbstractRows,
        val: list[Sample],
        masks: ArrayStore,
        facts: dict[str, Any],
    ) -> Plan:
        """What the jobs share."""
        settings = self.settings
        return Plan(
            rows=rows,
            val=val,
            masks=masks,
            classes=self.classes,
            batch_size=self.loop.batch_size,
            loss=settings.loss,
            pooled_loss=settings.pooled_loss,
            select="epoch" if self.stage == "refit" else settings.select,
            facts=facts | {"data": data_facts(self.dataset)},
            lr=self.loop.lr,
            workers=self.workers,
            say=self.say,
        )

    def training(self, train: list[Sample], val: list[Sample]) -> list[Sample]:
        """What is trained on: after a search, validation images as well."""
        return [*train, *val] if self.stage == "refit" else train

    def decoder(self, head: Mapping[str, Any], image_size: int) -> torch.nn.Module:
        """A fresh decoder, or one for each learning rate of a search."""
        torch.manual_seed(self.loop.seed)
        rates = self.settings.learning_rates if self.stage == "search" else ()
        made = [
            build_decoder(
                head["decoder"],
                dim=head["dim"],
                grid=head["grid"],
                classes=self.classes,
                image_size=image_size,
            )
            for _ in rates or (None,)
        ]
        return Candidates(made, rates) if rates else made[0]

    def method(self, **more: Any) -> dict[str, Any]:
        """The choices that decide the numbers, for train.json."""
        values = self.settings.as_dict()
        for name in ("model", "weights", "tolerance"):
            values.pop(name)
        return {"protocol": "segmentation", "stage": self.stage, **values, **more}


def check_dataset(dataset: Dataset) -> None:
    """Refuse, before any work, data that cannot be trained on.

    Raises:
        ProtocolError: no masks.
        EmptyDataError: an empty split.
    """
    if dataset.task != "segmentation":
        raise ProtocolError(
            f"{dataset.name} is a dataset of the task {dataset.task}: it has no masks.",
            "Give images with masks: a table with a mask column, folders images/ and masks/, or "
            "the layout of nnU-Net or the Decathlon (--data DIR).",
        )
    uses = {"train": "to train on", "val": "to choose the best epoch by", "test": "to judge"}
    for split, use in uses.items():
        if not dataset.of_split(split):  # type: ignore[arg-type]
            raise EmptyDataError(
                f"{dataset.name} has no {split} images {use}.",
                "Give the CSV a split column with train, val and test, or none at all: then "
                "splits by patient are made.",
            )


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """What train.json says of the data."""
    splits = [sample.split for sample in dataset.samples]
    return {
        "name": dataset.name,
        "task": dataset.task,
        **class_facts(dataset),
        "fingerprint": dataset.fingerprint,
        "split_hash": dataset.split_hash,
        "splits": {name: splits.count(name) for name in ("train", "val", "test")},
        "modalities": modalities_of(dataset.of_split("train")),
        "notes": list(dataset.notes),
    }


def backbone_spec(settings: SegmentationSettings, backbone: Backbone) -> PreprocessSpec:
    """The preprocessing; the study segments without the central crop of its kNN."""
    return _uncropped(preset(settings.preprocessing, backbone.spec, backbone.image_size))


def scratch_spec(settings: SegmentationSettings, size: int) -> PreprocessSpec:
    """Networks from scratch have no normalisation of their own: ImageNet's, as in the study."""
    return _uncropped(preset(settings.preprocessing, get_spec("vits14"), size))


def _uncropped(spec: PreprocessSpec) -> PreprocessSpec:
    check_invertible(spec)
    return replace(spec, resize_to=None) if spec.preset.startswith("study") else spec
