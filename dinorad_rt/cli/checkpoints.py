"""What `export` and `eval` do with --checkpoint RUN."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dinorad_rt.cli.console import note, print_json, seldom, warn
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.errors import ParityError

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.engines.task_gate import SegmentationGate, TaskGate
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.reports.results import Results
    from dinorad_rt.training.checkpoint import TunedModel

_AFTER_EXPORT = """
Try next
  dinorad-rt build --graph {graph}        an engine of this machine
  dinorad-rt eval --checkpoint {run} --data DIR    its test results on the engine"""


def export_checkpoint(
    exported: tuple[Path, str, str, tuple[str, ...]],
    where: tuple[Path | None, str | None, Path | None, int],
    *,
    out: Path | None,
    as_json: bool,
) -> None:
    """`export --checkpoint`: the graph of a run and, with data, the task gate of its engine.

    A gate that failed is an error, told after the graph: the graph is its model, the engine is not.

    Args:
        exported: run folder, weights below it, precision, module paths that stay in FP32.
        where: data, dataset, root, seed, as for `dataset_for`.
        out: folder of the graph; None for the cache.
        as_json: print the manifest.

    Raises:
        ParityError: the engine fails the task gate.
        DinoradError: anything else that the user can mend.
    """
    from dinorad_rt.cli.export import print_graph
    from dinorad_rt.engines.verify import task_words
    from dinorad_rt.pipeline import dataset_for, resolve_precision
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned

    run, weights, precision, keep = exported
    data, dataset, root, seed = where
    tuned = load_tuned(run, weights=None if weights == "hub" else weights)
    typed = resolve_precision(precision, "auto")  # type: ignore[arg-type]
    graph = export_tuned(tuned, precision=typed, out=out, keep_fp32=keep, say=note)
    if graph.weights_kind == "random":
        warn("weights: random below the run. This graph is for tests; its answers mean nothing.")
    gate = None
    if data or dataset:
        source = dataset_for(data, dataset, root, seed=seed, say=seldom(note), **masks_of(run))
        gate = _gate(tuned, graph, source)
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
    typer.echo(_AFTER_EXPORT.format(graph=graph.folder, run=run))


def _gate(tuned: TunedModel, graph: Graph, dataset: Dataset) -> TaskGate | SegmentationGate:
    """The task gate of the run's kind, on the validation split."""
    if tuned.kind == "segmenter":
        from dinorad_rt.training.segmentation.on_engine import gate_on_engine

        return gate_on_engine(tuned, graph, dataset, say=note)
    from dinorad_rt.training.evaluate import gate_on_engine as gate_of_classes

    return gate_of_classes(tuned, graph, dataset, say=note)


def evaluate_checkpoint(
    run: Path,
    deployed: tuple[str, str, str, str],
    where: tuple[Path | None, str | None, Path | None],
    columns: Mapping[str, Any],
    *,
    out: Path | None,
    workers: int | None,
    seed: int,
) -> tuple[Path, Results]:
    """`eval --checkpoint`: the run's head on an engine, judged on the test split.

    Args:
        run: run folder.
        deployed: weights below it, precision, backend, profile.
        where: data, dataset, root.
        columns: `image_column` and so on, and `splits`, as for `dataset_for`.
        out: folder of the results.
        workers, seed: decoders; seed of splits and intervals.

    Raises:
        DinoradError: anything that the user can mend.
    """
    from dinorad_rt.pipeline import dataset_for
    from dinorad_rt.training.evaluate import RunRequest, evaluate_run

    data, dataset, root = where
    source = dataset_for(
        data,
        dataset,
        root,
        seed=seed,
        say=seldom(note),
        **columns,
        **masks_of(run),
    )
    describe_dataset(source)
    weights, precision, backend, profile = deployed
    request = RunRequest(run, weights, precision, backend, profile)  # type: ignore[arg-type]
    results, folder = evaluate_run(request, source, out=out, workers=workers, seed=seed, say=note)
    return folder, results


def masks_of(run: Path) -> dict[str, Any]:
    """How the data of a segmenter is opened: with the names of its classes."""
    from dinorad_rt.training.run_folder import read_run

    facts = read_run(run)
    if facts.get("kind") != "segmenter":
        return {}
    return {"task": "segmentation", "class_names": tuple(facts["data"]["class_names"])}
