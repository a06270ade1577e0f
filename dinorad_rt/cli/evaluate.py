"""`dinorad-rt eval`: from images to a metric with its interval, through an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, progress_bar, seldom, warn
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.errors import ProtocolError

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results

NEXT = """
Try next
  dinorad-rt eval --protocol knn --data FOLDER    your own images: class folders or a labels.csv
  dinorad-rt inspect FOLDER --sheet sheet.png     what the network would see of them
  dinorad-rt list models                          other backbones
  dinorad-rt bench --model vits14 --batch 1,8     how fast this machine runs them
  dinorad-rt doctor                               what this machine can do"""


def evaluate(
    protocol: Annotated[Literal["knn"], typer.Option(help="How the embeddings are judged.")] = (
        "knn"
    ),
    model: options.Model = "vits14",
    weights: options.Weights = "hub",
    data: options.Data = None,
    dataset: options.DatasetName = None,
    root: options.Root = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    patient_column: options.PatientColumn = None,
    split_column: options.SplitColumn = None,
    k: Annotated[
        str | None,
        typer.Option(
            "--k", help="Neighbours, such as 5,10,20. Default: 5,10,20 as far as they fit."
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=1e-6, help="Temperature of the soft vote.")
    ] = 0.07,
    preprocessing: options.Preset = "dinorad",
    image_size: options.ImageSize = None,
    precision: options.PrecisionChoice = "auto",
    backend: options.Backend = "auto",
    profile: options.ProfileName = "default",
    workers: options.Workers = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate a backbone on labelled images, with 95 % intervals by patient.

    Without --data or --dataset the embedded phantoms are used. Reference images are train and
    val together; test images are the queries and nothing is chosen on them.
    """
    from dinorad_rt.evaluation import Evaluation, run_evaluation
    from dinorad_rt.pipeline import EngineRequest, dataset_for
    from dinorad_rt.studies.malloc import keep_freed_memory

    keep_freed_memory()
    source = dataset_for(
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
    describe_dataset(source)
    request = EngineRequest(
        model=model,
        weights=weights,
        image_size=image_size,
        precision=precision,
        backend=backend,
        profile=profile,
        seed=seed,
    )
    evaluation = Evaluation(
        engine=request,
        protocol=protocol,
        preprocessing=preprocessing,
        ks=parse_ks(k),
        temperature=temperature,
        seed=seed,
    )
    with progress_bar("embedding") as advance:
        results, folder = run_evaluation(
            evaluation, source, out=out, workers=workers, say=note, progress=advance
        )
    _show(results, folder, as_json)


def parse_ks(text: str | None) -> tuple[int, ...] | None:
    """`5,10,20` → (5, 10, 20); None stays None: the default list, as far as it fits."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ProtocolError(
            f"--k {text!r} is not a list of positive whole numbers.", "Example: --k 5,10,20"
        )
    return tuple(sorted({int(part) for part in parts}))


def _show(results: Results, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json(results.as_dict())
        return
    from dinorad_rt.reports.table import print_table, results_table

    print_table(results_table(results))
    if results.is_random:
        warn("weights: random. These numbers test the machinery; they say nothing of a backbone.")
    typer.echo(f"\nResults      {folder / 'results.json'}")
    typer.echo(f"Predictions  {folder / 'predictions.parquet'}")
    if results.dataset == "phantom":
        typer.echo(NEXT)
