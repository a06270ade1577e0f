"""`dinorad-rt eval`: from images to a metric with its interval, through an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dinorad_rt.cli import complete, options
from dinorad_rt.cli.console import note, print_json, print_next, stage_bar, warn
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.cli.groups import (
    EngineOptions,
    MaskSource,
    ModelOptions,
    NumberOptions,
    check_engine,
    check_request,
    engine_request,
    grouped,
    run_request,
)
from dinorad_rt.cli.report import Track
from dinorad_rt.cli.study import study_from
from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.registry import PROTOCOLS

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results
    from dinorad_rt.trackers import Tracker

OF_MODEL = (
    *("protocol", "protocol_preset", "model", "k", "shots", "repeats", "head", "settings"),
    *("preprocessing", "image_size"),
)
_PROTOCOL, _STUDY = "Protocol", "A whole study"
_NEXT = (
    ("eval --protocol knn --data FOLDER", "your own images: class folders or a labels.csv"),
    ("inspect FOLDER --sheet sheet.png", "what the network would see of them"),
    ("list models", "other backbones"),
    ("bench --model vits14 --batch 1,8", "how fast this machine runs them"),
    ("doctor", "what this machine can do"),
)


@grouped
def evaluate(
    *,
    context: typer.Context,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"How the embeddings are judged: {', '.join(PROTOCOLS)}.",
            autocompletion=complete.protocols,
        ),
    ] = "knn",
    protocol_preset: Annotated[
        Literal["dinorad", "study", "dinov2"],
        typer.Option(
            metavar="PRESET",
            help="Who fixed the protocol's settings: dinorad (this tool), study, or dinov2 (its "
            "own code).",
        ),
    ] = "dinorad",
    model: ModelOptions,
    checkpoint: options.Checkpoint = None,
    source: MaskSource,
    k: Annotated[
        str | None,
        typer.Option(
            "--k",
            metavar="NUMBERS",
            help="Neighbours, such as 5,10,20. Default: the preset's, as far as they fit.",
            rich_help_panel=_PROTOCOL,
        ),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Few-shot: patients per class, such as 1,2,4,8,16.",
            rich_help_panel=_PROTOCOL,
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Few-shot: seeded draws of the shots.", rich_help_panel=_PROTOCOL),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Few-shot: what is trained: knn, linear or logistic.",
            rich_help_panel=_PROTOCOL,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of the protocol, such as temperature=0.1, pooling=max or "
            "unit=patient; several times. `dinorad-rt list protocols` has them all.",
            rich_help_panel=_PROTOCOL,
        ),
    ] = None,
    trained_on: Annotated[
        Literal["refuse", "leave-out", "keep"],
        typer.Option(
            metavar="HOW",
            help="With --checkpoint, on other data or splits: test patients that the run was "
            "trained on. refuse, leave-out, or keep (other people of the same names).",
            rich_help_panel=options.DATA,
        ),
    ] = "refuse",
    preprocessing: options.Preset = "dinorad",
    numbers: NumberOptions,
    engine: EngineOptions,
    workers: options.Workers = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Run models x datasets x protocols x seeds from a TOML file, or a shipped study "
            "by name; finished parts are kept. Takes --root, --out, --workers, --json and --track.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="With --study: say what would be run, and stop.",
            rich_help_panel=_STUDY,
        ),
    ] = False,
    track: Track = None,
) -> None:
    """Evaluate a backbone on labelled images, with 95 % intervals by patient.

    Without --data or --dataset generated studies are used. What is chosen is chosen on val
    (or a part of train, by patient); test images are looked at once and choose nothing.

    With --checkpoint the run's own head answers, on an engine of backbone and head; --protocol and
    --preprocessing are those of the run.
    """
    if study is not None or plan:
        study_from(context, study, root=source.root, out=out, workers=workers, as_json=as_json)
        return
    options.refuse_mixed(context, of_model=OF_MODEL, of_run=("mask_column", "trained_on"))
    from dinorad_rt.evaluation import Evaluation, run_evaluation
    from dinorad_rt.studies.malloc import keep_freed_memory
    from dinorad_rt.trackers import tracker_named

    tracker = None if track is None else tracker_named(track)
    if checkpoint is not None:
        from dinorad_rt.cli.checkpoints import evaluate_checkpoint

        check_engine(engine)
        deployed = run_request(checkpoint, model, numbers, engine)
        results, folder = evaluate_checkpoint(
            deployed, source, out=out, workers=workers, seed=seed, trained_on=trained_on
        )
        _show(results, folder, as_json, tracker)
        return
    evaluation = Evaluation(
        engine=engine_request(model, numbers, engine, seed=seed),
        protocol=protocol,
        protocol_preset=protocol_preset,
        preprocessing=source.preprocessing(preprocessing),
        options=parse_settings(settings or [], protocol)
        | given(
            {
                "ks": parse_numbers("--k", k),
                "shots": parse_numbers("--shots", shots),
                "repeats": repeats,
                "head": head,
            }
        ),
        seed=seed,
    )
    evaluation.settings()  # what cannot be asked is refused before any file is read
    check_request(evaluation.engine)
    keep_freed_memory()
    images = source.open(seed)
    describe_dataset(images)
    results, folder = run_evaluation(
        evaluation, images, out=out, workers=workers, say=note, stages=stage_bar
    )
    _show(results, folder, as_json, tracker)


def parse_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """`5,10,20` → (5, 10, 20), sorted, each once; None stays None: the preset's list."""
    if text is None:
        return None
    return tuple(sorted(set(options.numbers(option, text, example="5,10,20"))))


def given(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were set."""
    return {name: value for name, value in choices.items() if value is not None}


def parse_settings(texts: Sequence[str], protocol: str) -> dict[str, Any]:
    """`name=value` texts as the protocol's settings, each read as its type.

    Raises:
        UnknownNameError: the protocol has no such setting.
        ProtocolError: a text without `=`, or a value of another type.
    """
    from dinorad_rt.protocols.registry import protocol_named

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ProtocolError(f"--set {text!r} has no =.", "Example: --set temperature=0.1")
        name = name.strip().replace("-", "_")
        found[name] = protocol_named(protocol).settings_class().parsed(name, value.strip())
    return found


def _show(results: Results, folder: Path, as_json: bool, tracker: Tracker | None = None) -> None:
    if tracker is not None:
        from dinorad_rt.trackers import track_results

        track_results(tracker, results, [folder / "results.json"])
    if as_json:
        print_json(results.as_dict())
        return
    from dinorad_rt.reports.table import print_table, results_table

    print_table(results_table(results))
    if results.is_random:
        warn("weights: random. These numbers test the machinery; they say nothing of a backbone.")
    typer.echo(f"\nResults      {folder / 'results.json'}")
    for name in ("predictions.parquet", "cases.parquet"):  # of classes, of masks
        if (folder / name).exists():
            typer.echo(f"Predictions  {folder / name}")
    if results.dataset == "phantom":
        print_next(*_NEXT)
