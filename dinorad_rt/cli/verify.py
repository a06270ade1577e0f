"""`dinorad-rt verify`: is this engine the model, in numbers and on your data?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, progress_bar, seldom, warn

if TYPE_CHECKING:
    from dinorad_rt.engines.verify import Verification
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.pipeline import EngineRequest

EXIT_FAILED = 1
_MARKS = {"passed": "passed", "failed": "FAILED", "undecided": "undecided", "not run": "not run"}


def verify(
    model: options.Model = "vits14",
    weights: options.Weights = "hub",
    image_size: options.ImageSize = None,
    precision: options.PrecisionChoice = "auto",
    keep_fp32: options.KeepFp32 = None,
    calibration: options.Calibration = None,
    backend: options.Backend = "auto",
    profile: options.ProfileName = "default",
    graph: Annotated[
        Path | None, typer.Option(help="A folder written by export, instead of --model.")
    ] = None,
    admit: Annotated[
        Path | None,
        typer.Option(
            help="An engine that build --targets made for this GPU: check and take it in."
        ),
    ] = None,
    data: options.Data = None,
    dataset: options.DatasetName = None,
    root: options.Root = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    patient_column: options.PatientColumn = None,
    split_column: options.SplitColumn = None,
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
    reference, with intervals by patient. Exit code 1: a check failed (its line names the block
    and the way out); 2: the checks could not be run.
    """
    from dinorad_rt.engines.verify import Data, open_graph
    from dinorad_rt.engines.verify import verify as run
    from dinorad_rt.pipeline import EngineRequest, dataset_for

    source = open_graph(graph)
    request = EngineRequest(
        model=source.model if source is not None else model,
        weights=weights,
        image_size=source.input_shape[-1] if source is not None else image_size,
        precision=source.precision if source is not None else precision,
        backend=backend,
        profile=profile,
        seed=seed,
        keep_fp32=options.names(keep_fp32),
        calibration=calibration,
    )
    if admit is not None:
        source, request = _admitted(admit, source, request)
    with progress_bar("embedding") as advance:
        tested = None
        if data is not None or dataset is not None:
            found = dataset_for(
                data,
                dataset,
                root,
                seed=seed,
                say=seldom(note),
                image_column=image_column,
                label_column=label_column,
                patient_column=patient_column,
                split_column=split_column,
            )
            tested = Data(found, preprocessing, workers, advance)
        report = run(request, graph=source, data=tested, say=note)
    _show(report, as_json)
    if report.failed or (strict and report.undecided):
        raise typer.Exit(EXIT_FAILED)


def _admitted(
    folder: Path, graph: Graph | None, request: EngineRequest
) -> tuple[Graph, EngineRequest]:
    """Run the gate on an engine from elsewhere, so that the checks meet it in the cache."""
    from dinorad_rt.pipeline import graph_for
    from dinorad_rt.runners.tensorrt_targets import admit_engine

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
