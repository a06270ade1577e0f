"""What the command line prints: notes and progress on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from dinorad_rt.errors import DinoradError
from dinorad_rt.identifiers import without_paths
from dinorad_rt.progress import Progress, Say
from dinorad_rt.words import duration


def print_error(error: DinoradError) -> None:
    """Print a user's error: what happened, then the way out; paths of data are not named."""
    _styled("Error: ", "red", nl=False)
    typer.echo(without_paths(error.problem, sys.argv[1:]), err=True)
    if error.fix:
        _styled("Fix:   ", "green", nl=False)
        typer.echo(without_paths(error.fix, sys.argv[1:]), err=True)


def note(text: str) -> None:
    """Say something about the run, on stderr."""
    typer.echo(f"· {text}", err=True)


def seldom(say: Say, seconds: float = 5.0) -> Say:
    """The same, but silent for `seconds` after each line: for steps that come many a second."""
    last = [float("-inf")]

    def told(text: str) -> None:
        if time.monotonic() - last[0] >= seconds:
            last[0] = time.monotonic()
            say(text)

    return told


def warn(text: str) -> None:
    """Say something the user must not miss, on stderr."""
    _styled(f"! {text}", "yellow")


def _styled(text: str, colour: str, *, nl: bool = True) -> None:
    """Print bold and coloured on stderr, where it is a terminal that shows and wants colours."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")
    shown = text if plain else typer.style(text, fg=colour, bold=True)
    typer.echo(shown, nl=nl, err=True)


def print_next(*steps: tuple[str, str]) -> None:
    """Print what to try after a verb: commands of this program, with what each gives."""
    width = max(len(command) for command, _ in steps)
    typer.echo("\nTry next")
    for command, gives in steps:
        typer.echo(f"  dinorad-rt {command:<{width}}  {gives}")


def print_json(document: dict[str, Any]) -> None:
    """Print one valid JSON document on stdout."""
    import json

    typer.echo(json.dumps(document, indent=2, allow_nan=False))


@contextmanager
def progress_bar(title: str, unit: str = "images") -> Iterator[Progress]:
    """A progress bar with rate and remaining time on a terminal; a line now and then elsewhere."""
    if sys.stderr.isatty():
        with _rich_bar(title, unit) as advance:
            yield advance
    else:
        yield _LineProgress(title, unit)


@contextmanager
def stage_bar(title: str, unit: str) -> Iterator[Progress]:
    """A progress bar of a part of long work, of which nothing stays if it was over at once."""
    if sys.stderr.isatty():
        with _rich_bar(title, unit, brief_s=2.0) as advance:
            yield advance
    else:
        yield _LineProgress(title, unit, always=False)


@contextmanager
def _rich_bar(title: str, unit: str, brief_s: float = 0.0) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=None, rate="")
        first: list[tuple[float, int]] = []

        def advance(done: int, total: int, /) -> None:
            now = time.monotonic()
            if not first:
                first.append((now, done))
            seconds = now - first[0][0]
            rate = (done - first[0][1]) / seconds if seconds > 0 else 0.0
            text = f"{rate:.1f} {unit}/s" if rate else ""
            progress.update(task, completed=done, total=total, rate=text)

        started = time.monotonic()
        yield advance
        progress.live.transient = time.monotonic() - started < brief_s


class _LineProgress:
    """Progress for logs: one line in ten seconds, with the time that is left, and the last step.

    Args:
        title, unit: of the lines.
        interval: seconds between lines.
        always: the last step is told of quick work, too.
    """

    def __init__(
        self, title: str, unit: str, interval: float = 10.0, *, always: bool = True
    ) -> None:
        self._title, self._unit, self._interval = title, unit, interval
        self._always = always
        self._last = time.monotonic()
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int, /) -> None:
        now = time.monotonic()
        waited = now - self._last >= self._interval
        if waited or done >= total and self._always:
            self._last, self._always = now, True
            note(f"{self._title}: {done}/{total} {self._unit}{self._left(now, done, total)}")
        self._first = self._first or (now, done)

    def _left(self, now: float, done: int, total: int) -> str:
        """How long the rest takes at the rate so far."""
        since, before = self._first or (now, done)  # an earlier run may have done a part
        if done >= total or done <= before:
            return ""
        return f", about {duration((now - since) * (total - done) / (done - before))} to go"
