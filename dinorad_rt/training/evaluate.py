"""A trained classifier on its engine: the test split judged, the validation split as task gate.

Imported late: it needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinorad_rt.errors import EmptyDataError, RunError
from dinorad_rt.files import claimed_dir
from dinorad_rt.metrics.cases import CASES_FILE
from dinorad_rt.pipeline import build_engine, resolve_precision
from dinorad_rt.progress import Say, silent
from dinorad_rt.reports.results import PREDICTIONS_FILE, RESULTS_FILE
from dinorad_rt.training.checkpoint import TunedModel, load_tuned
from dinorad_rt.training.export import LOGITS, export_tuned
from dinorad_rt.training.judged import judge_scores
from dinorad_rt.training.scores import probabilities
from dinorad_rt.training.trained_on import Seen, without_seen
from dinorad_rt.types import Precision
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.task_gate import TaskGate
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.reports.results import Results

Infer = Callable[[np.ndarray], np.ndarray]
"""(rows, 3, size, size) → (rows, classes) logits."""
TORCH_ROWS = 16


@dataclass(frozen=True)
class RunRequest:
    """How a run is deployed: as `EngineRequest`, with a checkpoint for a model."""

    run: Path
    weights: str | None = None
    precision: Precision | Literal["auto"] = "auto"
    backend: str = "auto"
    profile: str = "default"


@dataclass(frozen=True)
class Logits:
    """Logits of samples, one row each; the slices of a volume are meaned.

    Attributes:
        samples: those that could be read.
        values: (samples, classes) float64.
        failed: reasons of the others.
    """

    samples: tuple[Sample, ...]
    values: np.ndarray
    failed: tuple[str, ...]


def engine_of_run(tuned: TunedModel, request: RunRequest, say: Say = silent) -> Engine:
    """Export and build a run, or take graph and engine from the cache.

    Raises:
        ExportError, EngineError, ParityError: with the way out.
    """
    precision = resolve_precision(request.precision, request.backend)
    graph = export_tuned(tuned, precision=precision, say=say)
    return build_engine(graph, backend=request.backend, profile=request.profile, say=say)


def evaluate_run(
    request: RunRequest,
    dataset: Dataset,
    *,
    out: Path | None = None,
    workers: int | None = None,
    seed: int = 0,
    trained_on: Seen = "refuse",
    say: Say = silent,
) -> tuple[Results, Path]:
    """Evaluate a trained classifier or segmenter on the test split through its engine.

    The validation split, if there is one, goes through the engine and through PyTorch as well: the
    paired difference of their AUROC (Dice) stands in the provenance (`task_gate`) and in the notes.

    Args:
        request: which run, and how it is deployed.
        dataset: with the classes of the run; its test split is judged.
        out: folder of the results; None for `engine` in the run folder.
        workers: decoders.
        seed: of the intervals.
        trained_on: what is done with test patients that the run was trained on, where the dataset
            is another one, or split otherwise.
        say: told of each step.

    Raises:
        LeakageError: there are such patients, and they are to be refused.
        RunError: the run has other classes or another task.
    """
    folder = out or request.run / "engine"
    told: dict[str, Any] = {"seed": seed, "trained_on": trained_on, "say": say}
    with claimed_dir(folder, RESULTS_FILE, PREDICTIONS_FILE, CASES_FILE):
        judged = _evaluated(request, dataset, folder, workers=workers, **told)
    return judged, folder


def _evaluated(
    request: RunRequest,
    dataset: Dataset,
    folder: Path,
    *,
    workers: int | None,
    seed: int,
    trained_on: Seen,
    say: Say,
) -> Results:
    start = time.perf_counter()
    weights = None if request.weights in (None, "hub") else request.weights
    tuned = load_tuned(request.run, weights=weights)
    if tuned.kind == "segmenter":
        from dinorad_rt.training.segmentation.on_engine import evaluate_segmenter

        told: dict[str, Any] = {"seed": seed, "trained_on": trained_on, "say": say}
        return evaluate_segmenter(tuned, request, dataset, folder, **told)
    check_same_task(tuned, dataset)
    dataset, notes = without_seen(request.run, tuned.facts["data"], dataset, trained_on, say)
    engine = engine_of_run(tuned, request, say)
    built = time.perf_counter()
    from dinorad_rt.engines.build import open_runner

    with open_runner(engine) as runner:

        def infer(pixels: np.ndarray) -> np.ndarray:
            return np.asarray(runner.infer(pixels)[LOGITS])

        say(f"evaluating the test images on {engine.backend}")
        found = logits_of(
            dataset.of_split("test"), tuned.preprocessing, infer, engine.batch, workers=workers
        )
        inferred = time.perf_counter()
        gate = _gate_on_validation(tuned, dataset, infer, engine.batch, workers=workers, say=say)
    facts = _engine_facts(engine)
    results = judge_scores(
        found.values, found.samples, dataset, tuned.facts, seed=seed, engine=facts
    )
    extra = {"run": tuned.sha256, "task_gate": None if gate is None else gate.as_dict()}
    results = replace(results, provenance=results.provenance | extra)
    results.timings |= {"engine_s": built - start, "test_s": inferred - built}
    results.notes.extend(_notes(found, gate) + notes)
    results.write(folder)
    return results


def gate_on_engine(
    tuned: TunedModel,
    graph: Graph,
    dataset: Dataset,
    *,
    backend: str = "auto",
    workers: int | None = None,
    say: Say = silent,
) -> TaskGate:
    """Build an engine from a run's graph and put it through the task gate.

    Raises:
        RunError: the dataset has other classes.
        EmptyDataError: no validation image.
        EngineError, ParityError: the engine cannot be built.
    """
    from dinorad_rt.engines.build import open_runner

    check_same_task(tuned, dataset)
    engine = build_engine(graph, backend=backend, say=say)
    with open_runner(engine) as runner:
        say(f"task gate: PyTorch and {engine.backend} on the validation images")
        return task_gate(
            tuned,
            dataset,
            lambda pixels: np.asarray(runner.infer(pixels)[LOGITS]),
            batch=engine.batch,
            workers=workers,
        )


def task_gate(
    tuned: TunedModel,
    dataset: Dataset,
    infer: Infer,
    *,
    batch: int,
    workers: int | None = None,
) -> TaskGate:
    """PyTorch against an engine on the validation split: paired difference of the AUROC.

    Args:
        tuned: the run.
        dataset: its validation split is used.
        infer: the engine.
        batch: rows of one call.
        workers: decoders.

    Raises:
        EmptyDataError: no validation image.
    """
    from dinorad_rt.engines.task_gate import judge_scores as judge_pair

    samples = dataset.of_split("val")
    ours = logits_of(samples, tuned.preprocessing, infer, batch, workers=workers)
    wanted = logits_of(
        samples, tuned.preprocessing, torch_inference(tuned), TORCH_ROWS, workers=workers
    )
    labels = np.asarray([sample.labels for sample in ours.samples], np.int64)
    task = dataset.task
    scores = [probabilities(part.values, task) for part in (wanted, ours)]
    return judge_pair(
        scores,
        (wanted.values, ours.values),
        labels if task == "multilabel" else labels[:, 0],
        np.asarray([sample.patient for sample in ours.samples], dtype=object),
    )


def logits_of(
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    infer: Infer,
    batch: int,
    *,
    workers: int | None = None,
) -> Logits:
    """Logits of samples, the slices of a volume meaned, as the head was trained.

    Raises:
        EmptyDataError: there are no samples, or none of them can be read.
    """
    from dinorad_rt.embeddings.loader import load_batches

    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    failed: list[str] = []
    for rows in load_batches(samples, spec, batch=batch, workers=workers):
        failed += [row.reason for row in rows.rows if row.reason]
        good = [row for row in rows.rows if not row.reason]
        if not good:
            continue
        for row, values in zip(good, infer(rows.pixels).astype(np.float64), strict=True):
            sums[row.sample] = sums.get(row.sample, 0.0) + values
            counts[row.sample] = counts.get(row.sample, 0) + 1
    kept = sorted(sums)
    if not samples:
        raise EmptyDataError("There are no images in the split.", "Check the split column.")
    if not kept:
        raise EmptyDataError(
            f"None of {len(samples)} images can be read: {failed[0]}",
            "Check the files: dinorad-rt inspect FOLDER",
        )
    values = np.stack([sums[index] / counts[index] for index in kept])
    return Logits(tuple(samples[index] for index in kept), values, tuple(failed))


def torch_inference(tuned: TunedModel) -> Infer:
    """The run's own module on the CPU, FP32."""
    import torch

    def infer(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(tuned.module(torch.from_numpy(pixels.copy())).numpy())

    return infer


def check_same_task(tuned: TunedModel, dataset: Dataset) -> None:
    """Refuse a dataset that the run cannot answer for.

    Raises:
        RunError: other classes, another task, or a run that is no classifier.
    """
    if tuned.kind != "classifier":
        raise RunError(
            f"The run is a {tuned.kind}; this evaluates classifiers.",
            "Its test results are in the run folder: results.json",
        )
    if dataset.task != tuned.task or dataset.class_names != tuned.class_names:
        raise RunError(
            f"The run knows {tuned.task} classes {', '.join(tuned.class_names)}; {dataset.name} "
            f"has {dataset.task} classes {', '.join(dataset.class_names)}.",
            "Give data with the same classes in the same order, or train on this data: "
            "dinorad-rt train",
        )


def _gate_on_validation(
    tuned: TunedModel,
    dataset: Dataset,
    infer: Infer,
    batch: int,
    *,
    workers: int | None,
    say: Say,
) -> TaskGate | None:
    if not dataset.of_split("val"):
        say("no validation images: no task gate")
        return None
    say("task gate: PyTorch and engine on the validation images")
    gate = task_gate(tuned, dataset, infer, batch=batch, workers=workers)
    say(f"task gate {gate.verdict}: {gate.reason}")
    return gate


def _notes(found: Logits, gate: TaskGate | None) -> list[str]:
    notes = []
    if gate is not None:
        notes.append(
            f"Task gate on {gate.images} validation images: AUROC of the engine minus PyTorch "
            f"{gate.difference:+.5f} [{gate.low:+.5f}, {gate.high:+.5f}], the same class for "
            f"{gate.agreement:.1%}: {gate.verdict} ({gate.reason})."
        )
    if found.failed:
        unread = count_of(len(found.failed), "image or slice", "images or slices")
        notes.append(f"{unread} could not be read, missing here: {found.failed[0]}")
    return notes


def _engine_facts(engine: Engine) -> dict[str, Any]:
    names = (
        *("key", "model", "weights", "weights_kind", "precision", "backend", "backend_version"),
        *("batch", "input_shape", "graph_sha256", "recipe", "settings", "device", "parity"),
    )
    return {name: engine.manifest[name] for name in names if name in engine.manifest}
