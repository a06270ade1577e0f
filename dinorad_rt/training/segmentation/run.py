"""`train_segmentation`: from a dataset with masks to a run folder with its test results.

    tokens or slices, once ─► fit ─► best checkpoint ─► test volumes on their own grids ─► results

Imported late: torch.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import DivergedError
from dinorad_rt.optional import require, version_of
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.progress import Progress, Say, silent
from dinorad_rt.training.loop import fit
from dinorad_rt.training.parallel import is_main_process
from dinorad_rt.training.run_folder import claimed_run
from dinorad_rt.training.segmentation.evaluate import judge_cases, segment_cases, write_results
from dinorad_rt.training.segmentation.prepare import prepare
from dinorad_rt.training.segmentation.work import Prepared, Work, check_dataset
from dinorad_rt.training.trained_on import write_trained_on
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.reports.results import Results
    from dinorad_rt.training.history import History
    from dinorad_rt.training.segmentation.settings import SegmentationSettings
    from dinorad_rt.training.settings import TrainSettings

SEARCH_SUFFIX = "-search"
"""The search of learning rates is a run of its own, beside the run's folder."""


@dataclass(frozen=True)
class TrainedSegmenter:
    """What training gave.

    Attributes:
        history: of the run.
        results: on the test split; None in all processes but the main one.
    """

    history: History
    results: Results | None


def train_segmentation(
    settings: SegmentationSettings,
    loop: TrainSettings,
    dataset: Dataset,
    out: Path,
    *,
    request: EngineRequest | None = None,
    workers: int | None = None,
    say: Say = silent,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> TrainedSegmenter:
    """Train a segmentation model, or go on with an interrupted run, and judge it on the test split.

    Args:
        settings: what is segmented by what.
        loop: how it is trained.
        dataset: of the task segmentation.
        out: run folder.
        request: backend, precision and seed of the engine behind a cached encoder; its model,
            weights and image size are those of the settings.
        workers: decoders of images, and processes that make batches; None to choose.
        say, progress: told of decisions, and of (done, total) samples or steps.
        tensorboard: also write event files.

    Raises:
        ProtocolError, DataError: the data or settings do not fit.
        TrainingError, WeightsError, OutputError: see `fit` and `load_backbone`.
    """
    require("monai", "training segmentation")
    check_dataset(dataset)
    work = Work(
        settings=settings,
        loop=loop,
        dataset=dataset,
        request=_request(settings, request),
        workers=workers,
        say=say,
        progress=progress,
    )
    with claimed_run(Path(out)) if is_main_process() else nullcontext():
        return _train(work, Path(out), tensorboard=tensorboard)


def _train(work: Work, out: Path, *, tensorboard: bool) -> TrainedSegmenter:
    say, progress = work.say, work.progress
    began = time.perf_counter()
    if work.settings.learning_rates:
        work = _searched(work, out, progress)
    prepared = prepare(work)
    ready = time.perf_counter()
    for note in prepared.notes:
        say(note)
    told: dict[str, Any] = {"say": say, "progress": progress, "tensorboard": tensorboard}
    begun = partial(write_trained_on, out, work.dataset)
    history = fit(prepared.job, work.loop, out, **told, claimed=True, begun=begun)
    fitted = time.perf_counter()
    if not is_main_process():
        return TrainedSegmenter(history, None)
    timings = {"prepare_s": ready - began, "train_s": fitted - ready}
    results = _judge(prepared, work, history, out, timings)
    return TrainedSegmenter(history, results)


def _searched(work: Work, out: Path, progress: Progress | None) -> Work:
    """Train a decoder for each learning rate; the work of training the best again, on train + val.

    The best is the one with the highest pooled Dice at the end, as in the study.
    """
    rates = work.settings.learning_rates
    work.say(f"searching {len(rates)} learning rates: one decoder each, trained at once")
    job = prepare(replace(work, stage="search")).job
    folder = out.with_name(out.name + SEARCH_SUFFIX)
    try:
        history = fit(job, work.loop, folder, say=work.say, progress=progress)
    except DivergedError as error:
        lower = sorted(rates)[:-1] or [rates[0] / 10]
        raise DivergedError(
            error.problem,
            "Train again into a new folder without the largest rate: --learning-rates "
            + ",".join(f"{rate:g}" for rate in lower),
        ) from error
    ends = [history.epochs[-1].metrics[f"dice_pooled lr={rate:g}"] for rate in rates]
    dice, lr = max(zip(ends, rates, strict=True))
    work.say(f"learning rate {lr:g}: Dice {dice:.4f} on validation; training on train and val")
    return replace(work, stage="refit", loop=replace(work.loop, lr=lr))


def _judge(
    prepared: Prepared, work: Work, history: History, out: Path, timings: dict[str, float]
) -> Results:
    from dinorad_rt.embeddings.provenance import dataset_facts
    from dinorad_rt.machine import machine_facts

    settings, dataset = work.settings, work.dataset
    samples = dataset.of_split("test")
    work.say(
        f"segmenting {count_of(len(samples), 'test image or volume', 'test images or volumes')}"
    )
    start = time.perf_counter()
    with prepared.open() as segmenter:
        cases, failed = segment_cases(
            segmenter, dataset, samples, tolerance=settings.tolerance, progress=work.progress
        )
    segmented = time.perf_counter() - start
    best = history.best
    provenance: dict[str, Any] = prepared.provenance | {
        "dataset": dataset_facts(dataset),
        "training": {
            "loop": work.loop.as_dict(),
            "best_epoch": None if best is None else best.epoch,
            "validation": None if best is None else best.metrics,
        },
        "versions": {name: version_of(name) for name in ("dinorad-rt", "torch", "monai")},
        "machine": machine_facts(),
    }
    results = judge_cases(
        cases,
        dataset,
        settings=settings.as_dict(),
        provenance=provenance,
        tolerance=settings.tolerance,
        seed=work.loop.seed,
    )
    results.notes.extend(prepared.notes)
    if failed:
        results.notes.append(
            f"{len(failed)} of {len(samples)} test images could not be read and are missing here: "
            f"{'; '.join(sorted(set(failed.values()))[:3])}"
        )
    results.timings |= timings | {"segment_s": segmented}
    write_results(results, cases, out)
    return results


def _request(settings: SegmentationSettings, request: EngineRequest | None) -> EngineRequest:
    return replace(
        request or EngineRequest(),
        model=settings.model,
        weights=settings.weights,
        image_size=settings.image_size,
        dense=True,
    )
