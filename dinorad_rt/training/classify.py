"""`train_classifier`: from a dataset to a run folder with its test results.

    decode train, val ─► backbone + head ─► fit ─► adapter/ ─► decode test, once ─► results.json

Imported late: it needs torch.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dinorad_rt.backbones.load import Backbone
from dinorad_rt.errors import DataError
from dinorad_rt.pipeline import EngineRequest, load
from dinorad_rt.preprocessing.presets import preset as preprocessing_preset
from dinorad_rt.progress import Progress, Say, silent
from dinorad_rt.training.base import backbone_facts, remember_weights
from dinorad_rt.training.classifier import Classifier
from dinorad_rt.training.classify_job import ClassifyJob
from dinorad_rt.training.images import ImageBank
from dinorad_rt.training.judged import judge_scores, stored_results
from dinorad_rt.training.loop import fit
from dinorad_rt.training.methods import apply_method, save_adapter
from dinorad_rt.training.modalities import modalities_of
from dinorad_rt.training.parallel import device_for, is_main_process
from dinorad_rt.training.probe import evenly, standardise, start_from_probe
from dinorad_rt.training.run_folder import ADAPTER_FOLDER, claimed_run
from dinorad_rt.training.splits import check_training_splits
from dinorad_rt.training.trained_on import write_trained_on
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.reports.results import Results
    from dinorad_rt.training.history import History
    from dinorad_rt.training.presets import ClassifyRecipe


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Attributes:
        history: of the run.
        results: on the test split; None if the dataset has none, and in processes beside the main.
        parameters: trained parameters of backbone and head, and all.
    """

    history: History
    results: Results | None
    parameters: dict[str, int]


def train_classifier(
    request: EngineRequest,
    recipe: ClassifyRecipe,
    dataset: Dataset,
    out: Path,
    *,
    say: Say = silent,
    progress: Progress | None = None,
    workers: int | None = None,
    tensorboard: bool = False,
) -> Trained:
    """Train a classifier, or go on with an interrupted run, and evaluate it once on the test split.

    Args:
        request: backbone, weights and input size.
        recipe: every other choice.
        dataset: images with labels, patients and splits.
        out: run folder.
        say, progress: told of decisions, and of (steps done, all).
        workers: decoders of images, and processes that make batches; None to choose.
        tensorboard: also write event files.

    Raises:
        DataError: no training or validation images, or a validation split of one class.
        TrainingError, WeightsError, OutputError: see `fit` and `load_backbone`.
    """
    main = is_main_process()
    say, progress = (say, progress) if main else (silent, None)
    check_training_splits(dataset)
    with claimed_run(out) if main else nullcontext():
        backbone = load(request, say)
        remember_weights(backbone, request.weights)
        spec = training_spec(recipe, backbone)
        banks = _decode(dataset, spec, workers, say)
        torch.manual_seed(recipe.settings.seed)
        model = Classifier(backbone, recipe.head, len(dataset.class_names))
        parts = (backbone, recipe, dataset, spec)
        facts = _facts(parts, banks, request.seed)
        job = ClassifyJob(model, recipe, dataset.task, banks, facts, workers=workers, say=say)
        model.to(device_for(recipe.settings.device))
        _start_head(job, say)
        adapted = apply_method(backbone.module, backbone.spec.family, recipe.method)
        model.to(device_for(recipe.settings.device))
        parameters = count_parameters(model)
        say(told_parameters(recipe.method.protocol, parameters))
        history = fit(
            job,
            recipe.settings,
            out,
            say=say,
            progress=progress,
            tensorboard=tensorboard,
            claimed=True,
            begun=partial(write_trained_on, out, dataset),
        )
        if not main:
            return Trained(history, None, parameters)
        if adapted is not None:
            save_adapter(adapted, out / ADAPTER_FOLDER)
        results = _test(job, dataset, spec, out, workers=workers, say=say)
        return Trained(history, results, parameters)


def training_spec(recipe: ClassifyRecipe, backbone: Backbone) -> PreprocessSpec:
    """The preprocessing; the study's trains without the central crop of its kNN."""
    spec = preprocessing_preset(recipe.preprocessing, backbone.spec, backbone.image_size)
    return replace(spec, resize_to=None) if recipe.preprocessing == "study" else spec


def count_parameters(model: Classifier) -> dict[str, int]:
    """Trained parameters of backbone and head, and all of the backbone as it is deployed."""
    trained = sum(p.numel() for p in model.backbone.parameters() if p.requires_grad)
    names = ("lora_", "hada_", "lokr_", "lora_magnitude")
    own = sum(
        p.numel()
        for n, p in model.backbone.named_parameters()
        if not any(name in n for name in names)
    )
    head = sum(p.numel() for p in model.head.parameters())
    return {"backbone_trained": trained, "backbone": own, "head": head}


def told_parameters(protocol: str, counts: dict[str, int]) -> str:
    """The counts in one sentence."""
    share = counts["backbone_trained"] / counts["backbone"]
    return (
        f"{protocol}: {counts['backbone_trained']:,} parameters of the backbone are trained "
        f"({share:.2%} of {counts['backbone']:,}), and {counts['head']:,} of the head"
    )


def _facts(
    parts: tuple[Backbone, ClassifyRecipe, Dataset, PreprocessSpec],
    banks: tuple[ImageBank, ImageBank],
    seed: int,
) -> dict[str, Any]:
    backbone, recipe, dataset, spec = parts
    splits = [sample.split for sample in dataset.samples]
    values = recipe.as_dict()
    method, head = values.pop("method"), values.pop("head")
    return {
        "kind": "classifier",
        "backbone": backbone_facts(backbone, seed),
        "method": method,
        "head": head,
        "recipe": values,
        "preprocessing": spec.as_dict(),
        "data": {
            "name": dataset.name,
            "task": dataset.task,
            "class_names": list(dataset.class_names),
            "fingerprint": dataset.fingerprint,
            "split_hash": dataset.split_hash,
            "splits": {name: splits.count(name) for name in ("train", "val", "test")},
            "unreadable": {
                name: sum(bank.failed.values())
                for name, bank in zip(("train", "val"), banks, strict=True)
            },
            "modalities": modalities_of(dataset.of_split("train")),
            "notes": list(dataset.notes),
        },
    }


def _decode(
    dataset: Dataset, spec: PreprocessSpec, workers: int | None, say: Say
) -> tuple[ImageBank, ImageBank]:
    found = []
    for split in ("train", "val"):
        samples = dataset.of_split(split)
        say(f"decoding {count_of(len(samples), f'{split} image')}")
        bank = ImageBank(samples, spec, multilabel=dataset.task == "multilabel", workers=workers)
        _tell_failures(bank, split, say)
        _refuse_one_kind(bank, split, dataset.name)
        found.append(bank)
    return found[0], found[1]


def _refuse_one_kind(bank: ImageBank, split: str, name: str) -> None:
    """Of a split with two classes the images of one may all be unreadable."""
    if bool((bank.labels != bank.labels[0]).any()):
        return
    raise DataError(
        f"All {len(bank)} {split} images of {name} that can be read have the same labels "
        f"({count_of(sum(bank.failed.values()), 'other')} cannot: "
        f"{bank.failed.most_common(1)[0][0]}): no class can be told from another.",
        "Look at what cannot be read: dinorad-rt inspect FOLDER",
    )


def _tell_failures(bank: ImageBank, split: str, say: Say) -> None:
    for reason, count in bank.failed.most_common(3):
        say(f"{count_of(count, f'{split} image')} cannot be read, left out: {reason}")


def _start_head(job: ClassifyJob, say: Say) -> None:
    """Standardise the head's features and start it from a logistic regression, as the recipe says.

    The features are those of the backbone before training.
    """
    recipe, head = job.recipe, job.model.head
    if not recipe.standardise and recipe.head_init == "random":
        return
    job.model.eval()
    chosen = evenly(len(job.train))
    features = job.features(job.train, chosen).cpu().numpy()
    if recipe.standardise:
        standardise(head, features)
    if recipe.head_init == "probe":
        val = (job.features(job.val).cpu().numpy(), job.val.labels.numpy())
        train = (features, job.train.labels.numpy()[chosen])
        strength = start_from_probe(head, train, val, job.task)
        say(f"head starts from a logistic regression (C = {strength:g})")


def _test(
    job: ClassifyJob,
    dataset: Dataset,
    spec: PreprocessSpec,
    out: Path,
    *,
    workers: int | None,
    say: Say,
) -> Results | None:
    """Evaluate the best checkpoint on the test split, once; nothing is chosen on it."""
    samples = dataset.of_split("test")
    if not samples:
        say("no test split: nothing is evaluated")
        return None
    stored = stored_results(out)
    if stored is not None:
        return stored
    say(f"evaluating {count_of(len(samples), 'test image')}")
    start = time.perf_counter()
    bank = ImageBank(samples, spec, multilabel=dataset.task == "multilabel", workers=workers)
    _tell_failures(bank, "test", say)
    logits = job.logits(bank).cpu().numpy().astype(np.float64)
    results = judge_scores(
        logits, bank.samples, dataset, job.facts(), seed=job.recipe.settings.seed
    )
    results.timings["test_s"] = time.perf_counter() - start
    if unread := sum(bank.failed.values()):
        missing = count_of(unread, "image or slice", "images or slices")
        reason = bank.failed.most_common(1)[0][0]
        results.notes.append(f"{missing} could not be read, missing here: {reason}")
    results.write(out)
    return results
