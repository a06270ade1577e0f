"""What `export` and `eval` do with --checkpoint RUN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dinorad_rt.cli.console import note, print_json, print_next, warn
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.errors import ParityError

if TYPE_CHECKING:
    from dinorad_rt.cli.groups import MaskSource
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.engines.mask_gate import SegmentationGate
    from dinorad_rt.engines.task_gate import TaskGate
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.reports.results import Results
    from dinorad_rt.training.checkpoint import TunedModel
    from dinorad_rt.training.evaluate import RunRequest
    from dinorad_rt.training.trained_on import Seen


def export_checkpoint(
    exported: tuple[Path, str, str, tuple[str, ...]],
    source: MaskSource,
    *,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """`export --checkpoint`: the graph of a run and, with data, the task gate of its engine.

    A gate that failed is an error, told after the graph: the graph is its model, the engine is not.

    Args:
        exported: run folder, weights below it, precision, module paths that stay in FP32.
        source: data of the run, or none.
        seed: of splits that are made.
        out: folder of the graph; None for the cache.
        as_json: print the manifest.

    Raises:
        ParityError: the engine fails the task gate.
        DinoradError: anything else that the user can mend.
    """
    from dinorad_rt.cli.export import print_graph
    from dinorad_rt.engines.verify import task_words
    from dinorad_rt.pipeline import resolve_precision
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned

    run, weights, precision, keep = exported
    images = source.open_for_run(run, seed) if source.is_given else None
    tuned = load_tuned(run, weights=None if weights == "hub" else weights)
    typed = resolve_precision(precision, "auto")  # type: ignore[arg-type]
    graph = export_tuned(tuned, precision=typed, out=out, keep_fp32=keep, say=note)
    if graph.weights_kind == "random":
        warn("weights: random below the run. This graph is for tests; its answers mean nothing.")
    gate = None if images is None else _gate(tuned, graph, images)
    if as_json:
        print_json(graph.manifest | ({} if gate is None else {"task_gate": gate.as_dict()}))
    else:
        print_graph(graph.manifest, str(graph.path))
        if gate is not None:
            typer.echo(f"Task gate    {gate.verdict}: {task_words(gate)}")
    if gate is not None and gate.verdict == "failed":
        raise ParityError(
            f"The task gate refuses the engine of this run: {gate.reason}.",
            "Export in a wider precision (--precision bf16, mixed or fp32), or build for another "
            "backend and verify it.",
        )
    if as_json:
        return
    print_next(
        (f"build --graph {graph.folder}", "an engine of this machine"),
        (f"eval --checkpoint {run} --data DIR", "its test results on the engine"),
    )


def _gate(tuned: TunedModel, graph: Graph, dataset: Dataset) -> TaskGate | SegmentationGate:
    """The task gate of the run's kind, on the validation split."""
    if tuned.kind == "segmenter":
        from dinorad_rt.training.segmentation.on_engine import gate_on_engine

        return gate_on_engine(tuned, graph, dataset, say=note)
    from dinorad_rt.training.evaluate import gate_on_engine as gate_of_classes

    return gate_of_classes(tuned, graph, dataset, say=note)


def evaluate_checkpoint(
    request: RunRequest,
    source: MaskSource,
    *,
    out: Path | None,
    workers: int | None,
    seed: int,
    trained_on: Seen,
) -> tuple[Results, Path]:
    """`eval --checkpoint`: the run's head on an engine, judged on the test split.

    Args:
        request: run folder and engine.
        source: data of the run.
        out: folder of the results.
        workers, seed: decoders; seed of splits and intervals.
        trained_on: what is done with test patients that the run was trained on.

    Raises:
        DinoradError: anything that the user can mend.
    """
    from dinorad_rt.training.evaluate import evaluate_run

    images = source.open_for_run(request.run, seed)
    describe_dataset(images)
    return evaluate_run(
        request, images, out=out, workers=workers, seed=seed, trained_on=trained_on, say=note
    )
