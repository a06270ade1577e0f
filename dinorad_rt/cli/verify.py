"""`dinorad-rt verify`: is this engine the model, in numbers and on your data?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, progress_bar, warn
from dinorad_rt.cli.groups import (
    EngineOptions,
    GraphOptions,
    MaskSource,
    ModelOptions,
    check_engine,
    check_request,
    engine_request,
    grouped,
    run_request,
)

if TYPE_CHECKING:
    from dinorad_rt.engines.verify import Verification
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.pipeline import EngineRequest
    from dinorad_rt.training.evaluate import RunRequest

EXIT_FAILED = 1
OF_MODEL = ("model", "graph", "admit", "image_size", "calibration", "preprocessing")
OF_RUN = ("mask_column",)
_MARKS = {"passed": "passed", "failed": "FAILED", "undecided": "undecided", "not run": "not run"}


@grouped
def verify(
    *,
    context: typer.Context,
    model: ModelOptions,
    checkpoint: options.Checkpoint = None,
    numbers: GraphOptions,
    engine: EngineOptions,
    graph: Annotated[
        Path | None, typer.Option(help="A folder written by export, instead of --model.")
    ] = None,
    admit: Annotated[
        Path | None,
        typer.Option(
            help="An engine that build --targets made for this GPU: check and take it in."
        ),
    ] = None,
    source: MaskSource,
    preprocessing: options.Preset = "dinorad",
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail too where the data cannot decide.")
    ] = False,
    workers: options.Workers = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Check an engine: export and build parity, rows, precision, and the task on your data.

    With --data or --dataset the engine's AUROC and classes are compared with those of the FP32
    reference, with intervals by patient. With --checkpoint the engine of a trained run is checked;
    its AUROC, or the Dice of a segmenter, is compared with PyTorch's on the validation images.
    Exit code 1: a check failed (its line names the block and the way out); 2: the checks could not
    be run.
    """
    options.refuse_mixed(context, of_model=OF_MODEL, of_run=OF_RUN)
    if checkpoint is not None:
        check_engine(engine)
        deployed = run_request(checkpoint, model, numbers, engine)
        kept = options.names(numbers.keep_fp32)
        report = _verify_run(deployed, kept, source, workers=workers, seed=seed)
    else:
        request = engine_request(model, numbers, engine, seed=seed)
        if graph is None and admit is None:
            check_request(request)
        report = _verify_model(
            request, (graph, admit), source, preprocessing=preprocessing, workers=workers
        )
    _show(report, as_json)
    if report.failed or (strict and report.undecided):
        raise typer.Exit(EXIT_FAILED)


def _verify_model(
    request: EngineRequest,
    given: tuple[Path | None, Path | None],
    source: MaskSource,
    *,
    preprocessing: str,
    workers: int | None,
) -> Verification:
    """Check the engine of a backbone; `given` are a graph's folder and an engine from elsewhere."""
    from dinorad_rt.engines.verify import Data, open_graph
    from dinorad_rt.engines.verify import verify as run

    folder, admit = given
    graph = open_graph(folder)
    if graph is not None:
        request = replace(
            request,
            model=graph.model,
            image_size=graph.input_shape[-1],
            precision=graph.precision,
        )
    if admit is not None:
        graph, request = _admitted(admit, graph, request)
    with progress_bar("embedding") as advance:
        tested = None
        if source.is_given:
            chosen = source.preprocessing(preprocessing)
            tested = Data(source.open(request.seed), chosen, workers, advance)
        return run(request, graph=graph, data=tested, say=note)


def _verify_run(
    request: RunRequest,
    keep_fp32: tuple[str, ...],
    source: MaskSource,
    *,
    workers: int | None,
    seed: int,
) -> Verification:
    """Check the engine of a trained run."""
    from dinorad_rt.training.verify import RunData, verify_run

    data = None
    if source.is_given:
        data = RunData(source.open_for_run(request.run, seed), workers, seed)
    return verify_run(request, keep_fp32=keep_fp32, data=data, say=note)


def _admitted(
    folder: Path, graph: Graph | None, request: EngineRequest
) -> tuple[Graph, EngineRequest]:
    """Run the gate on an engine from elsewhere, so that the checks meet it in the cache."""
    from dinorad_rt.pipeline import graph_for
    from dinorad_rt.runners.tensorrt_targets import admit_engine, open_shipped

    open_shipped(folder)  # what cannot be admitted is refused before the graph is made
    source = graph if graph is not None else graph_for(request, say=note)
    engine = admit_engine(source, folder, progress=note)
    note(f"taken in as {engine.key[:12]}")
    return source, replace(request, backend=engine.backend)


def _show(report: Verification, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    from dinorad_rt.reports.table import print_table, rows_table

    title = f"{report.model}, {report.precision}, {report.backend}"
    rows = [
        {"check": check.name, "verdict": _MARKS[check.verdict], "found": check.text}
        for check in report.checks
    ]
    print_table(rows_table(title, rows))
    for check in report.checks:
        if check.fix:
            typer.echo(f"{check.name}: {check.fix}")
    if report.weights_kind == "random":
        warn("weights: random. This shows that the machinery works; the task gate says nothing.")
