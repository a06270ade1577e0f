"""`dinorad-rt eval --study`: a whole study from one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, progress_bar
from dinorad_rt.errors import CellsFailedError, StudyError
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.campaign import StudyOutcome


ALLOWED = ("study", "plan", "root", "out", "workers", "as_json", "track")


def study_from(
    context: typer.Context,
    study: str | None,
    *,
    root: Path | None,
    out: Path | None,
    workers: int | None,
    as_json: bool,
) -> StudyOutcome:
    """Run a study, print where its report is.

    Args:
        context: of the command; options that a study file fixes are refused.
        study: TOML file, or the name of a shipped study.
        root, out, workers, as_json: as the options.

    Raises:
        StudyError: no study, or options that contradict it.
        CellsFailedError: some cells failed; the others are done and reported.
    """
    given = [name for name in options.typed(context) if name not in ALLOWED]
    if study is None:
        raise StudyError("--plan shows what a study would run.", "Add --study FILE.")
    if given:
        raise StudyError(
            f"{options.flags_of(context, given)} cannot be given with --study: the file decides.",
            "Write it into the file, or leave --study away.",
        )
    from dinorad_rt.campaign import run_study
    from dinorad_rt.trackers import tracker_named

    track = context.params.get("track")
    with progress_bar("study", unit="cells") as advance:
        outcome = run_study(
            study,
            root=root,
            out=out,
            workers=workers,
            plan_only=bool(context.params.get("plan")),
            tracker=None if track is None else tracker_named(track),
            say=note,
            progress=advance,
        )
    if as_json:
        print_json(
            {
                "out": str(outcome.out),
                "done": list(outcome.done),
                "failed": outcome.failed,
                "left": list(outcome.left),
                "report": [str(path) for path in outcome.report],
            }
        )
    else:
        for path in outcome.report[:3]:
            typer.echo(path)
    if outcome.failed:
        number = count_of(len(outcome.failed), "cell or dataset", "cells or datasets")
        raise CellsFailedError(
            f"{number} failed: {', '.join(outcome.failed)}.",
            "Their reasons stand above. Run the same command again: what is finished is kept.",
        )
    return outcome
