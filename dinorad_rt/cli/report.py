"""`dinorad-rt report`: runs become a page to look at, tables to cite, and plots to print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, warn

Track: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TRACKER",
        help="Also log each run to mlflow, tensorboard or wandb; each writes where its own "
        "variables say.",
    ),
]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS...",
            help="Folders of runs, or folders that hold them at any depth; bench.json too.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    bench: Annotated[
        list[Path] | None,
        typer.Option(
            help="bench.json, or its folder: adds accuracy against latency and energy, where "
            "the engine key is the same. Several times."
        ),
    ] = None,
    time: Annotated[
        bool,
        typer.Option(
            "--time",
            help="Time the very engines of the runs, as far as they are in this machine's cache, "
            "for accuracy against latency and energy.",
        ),
    ] = False,
    plots: Annotated[
        str, typer.Option(metavar="FORMATS", help="Also write each plot: svg, pdf, png.")
    ] = "",
    title: Annotated[str, typer.Option(help="Title of the page.")] = "dinorad-rt report",
    track: Track = None,
    gallery: Annotated[
        int,
        typer.Option(
            min=0,
            help="Show this many test images per model with their nearest neighbours and maps of "
            "their patch tokens. Needs the dataset (--data or --dataset), reads images again.",
        ),
    ] = 0,
    data: options.Data = None,
    dataset: options.DatasetName = None,
    root: options.Root = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Weights files of the runs, for --gallery. Several times."),
    ] = None,
    burned_in: Annotated[
        bool, typer.Option("--burned-in", help="Show images with burned-in annotations, too.")
    ] = False,
) -> None:
    """Write report.html (one file, no network), report.md and report.csv from runs.

    Runs on different test images are shown apart and never ranked together.
    """
    from dinorad_rt.pipeline import dataset_for
    from dinorad_rt.reports.gallery import GalleryRequest, gallery_for
    from dinorad_rt.reports.measured import measure_engines
    from dinorad_rt.reports.report import Extras, write_report
    from dinorad_rt.reports.runs import read_material
    from dinorad_rt.trackers import track_results, tracker_named

    tracker = None if track is None else tracker_named(track)
    material = read_material(runs, bench or ())
    if time:
        measured = measure_engines(material.runs, say=note)
        material = replace(material, benches=(*material.benches, measured))
    formats = tuple(part.strip().lower() for part in plots.split(",") if part.strip())
    pictures = None
    if gallery:
        wanted = GalleryRequest(
            dataset_for(data, dataset, root, say=note), gallery, tuple(weights or ()), burned_in
        )
        pictures = gallery_for(material, wanted, say=note)
    extras = Extras(title=title, plots=formats, gallery=pictures)
    files = write_report(material, out, extras, say=note)
    if any(run.results.is_random for run in material.runs):
        warn("weights: random in some runs; the report says which.")
    if tracker is not None:
        for run in material.runs:
            track_results(tracker, run.results)
    for path in files[:3]:
        typer.echo(path)
    if len(files) > 3:
        typer.echo(f"{files[3].parent}: {len(files) - 3} plots")
