"""A segmenter on its engine: the test split judged, the validation split as task gate.

Needs torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from dinorad_rt.errors import RunError
from dinorad_rt.files import read_json
from dinorad_rt.metrics.segmentation import TOLERANCE
from dinorad_rt.pipeline import build_engine
from dinorad_rt.progress import Say, silent
from dinorad_rt.training.segmentation.evaluate import judge_cases, segment_cases, write_results
from dinorad_rt.training.segmentation.load import segmenter_of
from dinorad_rt.training.segmentation.predict import AnySegmenter, graph_segmenter
from dinorad_rt.training.segmentation.task_gate import gate_on_validation
from dinorad_rt.training.trained_on import Seen, without_seen
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.engines.mask_gate import SegmentationGate
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.reports.results import Results
    from dinorad_rt.runners.base import AbstractRunner
    from dinorad_rt.training.checkpoint import TunedModel
    from dinorad_rt.training.evaluate import RunRequest


def evaluate_segmenter(
    tuned: TunedModel,
    request: RunRequest,
    dataset: Dataset,
    folder: Path,
    *,
    seed: int = 0,
    trained_on: Seen = "refuse",
    say: Say = silent,
) -> Results:
    """Judge a run's graph on an engine, and put the engine through the gate.

    Args:
        tuned: of kind segmenter.
        request: how it is deployed.
        dataset: with the classes of the run.
        folder: of the results.
        seed: of the intervals.
        trained_on: what is done with test patients that the run was trained on.
        say: told of each step.

    Raises:
        LeakageError: there are such patients, and they are to be refused.
        RunError: the dataset has other classes.
        ExportError, EngineError, ParityError: the engine cannot be had.
    """
    from dinorad_rt.embeddings.provenance import dataset_facts, engine_facts
    from dinorad_rt.engines.build import open_runner
    from dinorad_rt.training.evaluate import engine_of_run

    check_classes(tuned, dataset)
    dataset, notes = without_seen(request.run, tuned.facts["data"], dataset, trained_on, say)
    engine = engine_of_run(tuned, request, say)
    tolerance = _tolerance_of(request.run)
    with open_runner(engine) as runner:
        segmenter = segmenter_on(runner, tuned)
        say(f"segmenting the test images on {engine.backend}")
        start = time.perf_counter()
        test = dataset.of_split("test")
        cases, failed = segment_cases(segmenter, dataset, test, tolerance=tolerance)
        segmented = time.perf_counter() - start
        gate = None
        if dataset.of_split("val"):
            say("task gate: PyTorch and engine on the validation images")
            gate = gate_on_validation(segmenter, segmenter_of(tuned), dataset, seed=seed)
    if gate is None:
        say("no validation images: no task gate")
    else:
        say(f"task gate {gate.verdict}: {gate.reason}")
    provenance = {
        "run": tuned.sha256,
        "engine": engine_facts(engine),
        "preprocessing": tuned.preprocessing.as_dict(),
        "dataset": dataset_facts(dataset),
        "task_gate": None if gate is None else gate.as_dict(),
    }
    settings = {"protocol": tuned.facts["method"], "tolerance": tolerance}
    results = judge_cases(
        cases, dataset, settings=settings, provenance=provenance, tolerance=tolerance, seed=seed
    )
    results.timings["segment_s"] = segmented
    results.notes.extend(notes)
    if gate is not None:
        results.notes.append(
            f"Task gate on {count_of(gate.volumes, 'validation case')}: Dice of the engine minus "
            f"PyTorch {gate.difference:+.5f} [{gate.low:+.5f}, {gate.high:+.5f}], the same class "
            f"for {gate.agreement:.3%} of the voxels: {gate.verdict} ({gate.reason})."
        )
    if failed:
        unread = count_of(len(failed), "test image")
        results.notes.append(f"{unread} could not be read, missing here.")
    write_results(results, cases, folder)
    return results


def segmenter_on(runner: AbstractRunner, tuned: TunedModel) -> AnySegmenter:
    """What `predict.segment_study` takes, from an open engine of a run's graph."""
    spacing = tuned.facts.get("model", {}).get("spacing")
    return graph_segmenter(runner, tuned.preprocessing, len(tuned.class_names), spacing)


def check_classes(tuned: TunedModel, dataset: Dataset) -> None:
    """Refuse data that the run cannot answer for.

    Raises:
        RunError: other classes, or no masks.
    """
    if dataset.task != "segmentation" or dataset.class_names != tuned.class_names:
        raise RunError(
            f"The run segments {', '.join(tuned.class_names)}; {dataset.name} has the "
            f"{dataset.task} classes {', '.join(dataset.class_names)}.",
            "Give data with the same classes in the same order (--class-names), or train on this "
            "data: dinorad-rt train --protocol segmentation",
        )


def gate_on_engine(
    tuned: TunedModel,
    graph: Graph,
    dataset: Dataset,
    *,
    backend: str = "auto",
    seed: int = 0,
    say: Say = silent,
) -> SegmentationGate:
    """Build an engine from a run's graph and put it through the task gate.

    Raises:
        RunError: the dataset has other classes.
        EmptyDataError: no validation image.
        EngineError, ParityError: the engine cannot be built.
    """
    from dinorad_rt.engines.build import open_runner

    check_classes(tuned, dataset)
    engine = build_engine(graph, backend=backend, say=say)
    with open_runner(engine) as runner:
        say(f"task gate: PyTorch and {engine.backend} on the validation images")
        ours = segmenter_on(runner, tuned)
        return gate_on_validation(ours, segmenter_of(tuned), dataset, seed=seed)


def _tolerance_of(run: Path) -> float:
    """Of the surface Dice, as the run was judged."""
    from dinorad_rt.reports.results import RESULTS_FILE

    path = run / RESULTS_FILE
    found = read_json(path)["settings"].get("tolerance") if path.is_file() else None
    return TOLERANCE if found is None else float(found)
