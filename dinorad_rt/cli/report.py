"""`dinorad-rt report`: runs become a page to look at, tables to cite, and plots to print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, warn
from dinorad_rt.cli.groups import MaskSource, grouped
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.reports.material import Material
    from dinorad_rt.reports.page import Page

_GALLERY = "Gallery"
Track: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TRACKER",
        help="Also log each run to mlflow, tensorboard or wandb; each writes where its own "
        "variables say.",
    ),
]


@grouped
def report(
    *,
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
            rich_help_panel=_GALLERY,
            help="Show pictures; needs the dataset (--data or --dataset), reads images again. "
            "Segmenters: this many of the worst, median and best cases, outlined. Trained "
            "classifiers: saliency of this many right and wrong answers. Backbones: this many "
            "test images with their nearest neighbours and maps of their patch tokens.",
        ),
    ] = 0,
    source: MaskSource,
    seed: options.Seed = 0,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            rich_help_panel=_GALLERY,
            help="Run folders or bundles of trained models, where they lie elsewhere than their "
            "results. Several times.",
        ),
    ] = None,
    saliency: Annotated[
        Literal["occlusion", "gradients", "attention"],
        typer.Option(
            metavar="METHOD",
            rich_help_panel=_GALLERY,
            help="As for predict: occlusion, gradients or attention.",
        ),
    ] = "occlusion",
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Weights files of the runs. Several times.", rich_help_panel=_GALLERY),
    ] = None,
    burned_in: Annotated[
        bool,
        typer.Option(
            "--burned-in",
            help="Show images with burned-in annotations, too.",
            rich_help_panel=_GALLERY,
        ),
    ] = False,
) -> None:
    """Write report.html (one file, no network), report.md and report.csv from runs.

    Runs on different test images are shown apart and never ranked together.
    """
    from dinorad_rt.reports.material import read_material
    from dinorad_rt.reports.measured import measure_engines
    from dinorad_rt.reports.report import Extras, write_report
    from dinorad_rt.trackers import track_results, tracker_named

    tracker = None if track is None else tracker_named(track)
    material = read_material(runs, bench or ())
    if time:
        measured = measure_engines(material.runs, say=note)
        material = replace(material, benches=(*material.benches, measured))
    formats = options.names(plots.lower())
    pictures = None
    if gallery:
        wanted = {
            "queries": gallery,
            "weights": tuple(weights or ()),
            "burned_in": burned_in,
            "checkpoints": tuple(checkpoint or ()),
            "saliency": saliency,
        }
        pictures = _pictures(material, (source, seed), wanted)
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
        typer.echo(f"{files[3].parent}: {count_of(len(files) - 3, 'plot')}")


def _pictures(
    material: Material, where: tuple[MaskSource, int], wanted: Mapping[str, Any]
) -> Callable[[Page], None]:
    """The part with pictures: the data is opened in each way in which a run was judged on it.

    Args:
        material: the runs.
        where: what opens the data, and the seed of splits.
        wanted: fields of `GalleryRequest`.

    Raises:
        DinoradError: the data can be opened in none of these ways, or no run was judged on it.
    """
    from dinorad_rt.datasets.mask_classes import choices_of
    from dinorad_rt.errors import DinoradError
    from dinorad_rt.reports.gallery import GalleryRequest, gallery_for

    source, seed = where
    ways: list[dict[str, Any]] = []
    for run in material.runs:
        judged = run.results.provenance.get("dataset") or {}
        facts = {**judged, "class_names": run.results.class_names}
        way = choices_of(facts) if run.results.task == "segmentation" else {}
        if way not in ways:
            ways.append(way)
    requests, problem = [], None
    for way in ways:
        try:
            requests.append(GalleryRequest(source.open(seed, **way), **wanted))
        except DinoradError as error:
            problem = error
    if problem is not None and not requests:
        raise problem
    if problem is not None:
        note(f"no pictures of some runs: {problem.problem}")
    return gallery_for(material, *requests, say=note)
