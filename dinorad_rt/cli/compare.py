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
        str | None,
        typer.Option(
            metavar="NAME",
            help="What is compared, such as average_precision, accuracy or jaccard. Default: auroc;"
            " of segmenters dice, hd95 and nsd, as far as all runs hold them.",
        ),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="One class instead of the mean over classes."),
    ] = None,
    setting: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Which setting, such as k=20. Default: the one validation chose.",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            help="Largest difference that does not matter. Default: 0.02; of hd95 1 mm (or pixel), "
            "which another margin changes with --metric hd95 only.",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Of bootstrap and permutations.")
    ] = 10_000,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Compare runs pair by pair on the same test images: difference, interval, p-value, verdict.

    Segmenters are compared by the means over their test volumes. Runs on different test sets are
    refused. P-values of several pairs are corrected by Holm, for each metric.
    """
    from dinorad_rt.metrics.compare_cases import Asked, answer_runs

    asked = Asked(metric, class_name, margin, resamples, seed)
    answers, opened = answer_runs(runs, asked, parse_setting(setting))
    if as_json:
        print_json({"comparisons": [item.as_dict() for _, found in answers for item in found]})
        return
    from dinorad_rt.reports.comparison import comparison_table
    from dinorad_rt.reports.table import print_table

    for question, found in answers:
        print_table(comparison_table(found, question))
    for name, run in opened.items():
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
