"""`dinorad-rt bundle`: a training run becomes one folder to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, warn
from dinorad_rt.cli.groups import MaskSource, grouped


@grouped
def bundle(
    *,
    run: Annotated[Path, typer.Argument(help="Folder of `dinorad-rt train`.")],
    out: Annotated[Path, typer.Option(help="New folder of the bundle.")],
    source: MaskSource,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the model. Default: the run's.")
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What answers call the classes: all in the run's order (background,liver,tumour), "
            "or single ones by their name or mask value in the run (60=liver,255=tumour). "
            "Default: the run's.",
        ),
    ] = None,
    precision: options.PrecisionChoice = "fp32",
    backend: options.Backend = "auto",
    threshold: Annotated[
        Literal["youden", "sensitivity", "specificity"],
        typer.Option(
            metavar="RULE",
            help="Operating point on the validation images. youden: the largest sensitivity + "
            "specificity. sensitivity, specificity: at least --least of it.",
        ),
    ] = "youden",
    least: Annotated[
        float, typer.Option(min=0, max=1, help="For --threshold sensitivity or specificity.")
    ] = 0.9,
    workers: options.Workers = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Make a trained run one folder to deploy: graph, calibration, thresholds, model card.

    With --data (or --dataset) of the run, probabilities are calibrated and thresholds are chosen
    on its validation split, through the engine. A bundle holds data only, nothing that runs.
    """
    from dinorad_rt.pipeline import resolve_precision
    from dinorad_rt.prediction.names import class_names_for
    from dinorad_rt.prediction.write import BundleOptions, bundle_run
    from dinorad_rt.training.run_folder import read_run

    names: tuple[str, ...] = ()
    if class_names is not None:  # asked before the data are opened
        wanted = options.some_names("--class-names", class_names)
        names = class_names_for(read_run(run)["data"], wanted)
    images = source.open_for_run(run, seed) if source.is_given else None
    choices = BundleOptions(
        name=name,
        class_names=names,
        precision=resolve_precision(precision, backend),
        backend=backend,
        rule=threshold,
        least=least,
    )
    made = bundle_run(run, out, images, choices, workers=workers, say=note)
    if images is None and made.kind == "classification":
        warn("not calibrated: no --data given. Decisions use 0.5, or the most probable class.")
    if made.weights_kind == "random":
        warn("weights: random. This bundle tests machinery; its answers mean nothing.")
    if as_json:
        print_json(made.facts)
        return
    from dinorad_rt.reports.table import key_value_table, print_table

    facts = {
        "bundle": str(out),
        "answers with": made.kind,
        "classes": ", ".join(made.class_names),
        "precision": made.graph.precision,
        "calibrated": "yes" if made.facts.get("calibration") else "no",
        "thresholds": ", ".join(f"{k} {p.threshold:.3f}" for k, p in made.operating_points.items())
        or "none",
    }
    print_table(key_value_table("Bundle", facts))
    typer.echo(
        f"\nCard  {out / 'MODEL_CARD.md'}\nNext  dinorad-rt predict {out} PATH --out RESULTS"
    )
