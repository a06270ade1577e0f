"""`dinorad-rt compare`: is one run better than another on the same patients?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import print_json, warn
from dinorad_rt.errors import ProtocolError


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of runs, two or more.")
    ],
    metric: Annotated[
        str, typer.Option(help="What is compared, such as auroc, average_precision, accuracy.")
    ] = "auroc",
    class_name: Annotated[
        str | None, typer.Option("--class", help="One class instead of the mean over classes.")
    ] = None,
    setting: Annotated[
        str | None,
        typer.Option(help="Which setting, such as k=20. Default: the one validation chose."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=1e-9, help="Largest difference that does not matter.")
    ] = 0.02,
    resamples: Annotated[int, typer.Option(min=100, help="Of bootstrap and permutations.")] = (
        10_000
    ),
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Compare runs pair by pair on the same test images: difference, interval, p-value, verdict.

    Runs on different test sets are refused. P-values of several pairs are corrected by Holm.
    """
    from dinorad_rt.metrics.compare import Question, compare_runs, run_names
    from dinorad_rt.reports.results import Results

    found = [Results.open(run, predictions=True) for run in runs]
    folders = [(run if run.is_dir() else run.parent).resolve().name for run in runs]
    names = run_names(found, folders)
    question = Question(metric, class_name, margin, resamples, seed)
    comparisons = compare_runs(found, names, question, parse_setting(setting))
    if as_json:
        print_json({"comparisons": [item.as_dict() for item in comparisons]})
        return
    from dinorad_rt.reports.table import comparison_table, print_table

    print_table(comparison_table(comparisons, question))
    for run, name in zip(found, names, strict=True):
        if run.is_random:
            warn(f"{name}: weights: random. Its numbers say nothing of a backbone.")


def parse_setting(text: str | None) -> dict[str, Any]:
    """`k=20` or `blocks=4,patch_mean=yes` as values: numbers where they are."""
    found: dict[str, Any] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ProtocolError(f"--setting {text!r} has no =.", "Example: --setting k=20")
        found[name.strip()] = _number(value.strip())
    return found


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
