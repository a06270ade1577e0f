"""The program `dinorad-rt`: finds the verb and turns errors into messages and exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from dinorad_rt import __version__
from dinorad_rt.cli.console import print_error
from dinorad_rt.cli.values import check_values
from dinorad_rt.errors import DinoradError, MissingPackageError
from dinorad_rt.optional import missing

DEBUG_VARIABLE = "DINORAD_RT_DEBUG"
EXIT_INTERRUPTED = 130
STOPPING = ("SIGTERM", "SIGHUP")
"""Signals of schedulers, containers and closed terminals: they stop a verb as Ctrl-C does."""

# Verb: where its function (or its group of verbs) is. Only the verb that is asked for is imported.
VERBS = {
    "doctor": "doctor:doctor",
    "list": "listing:list_things",
    "inspect": "inspect:inspect",
    "prepare": "prepare:prepare",
    "export": "export:export",
    "build": "build:build",
    "verify": "verify:verify",
    "embed": "embed:embed",
    "eval": "evaluate:evaluate",
    "bundle": "bundle:bundle",
    "predict": "predict:predict",
    "compare": "compare:compare",
    "bench": "bench:bench",
    "report": "report:report",
    "train": "train:train",
    "cache": "cache:app",
}


class _Verbs(TyperGroup):
    """The verbs of VERBS, each made into a command when it is looked up."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in VERBS and cmd_name not in self.commands:
            self.commands[cmd_name] = _command(cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in VERBS:  # what it might have meant is sought in all of them
            for verb in VERBS:
                self.get_command(ctx, verb)
        return super().resolve_command(ctx, args)


def _command(verb: str) -> Any:
    module, _, name = VERBS[verb].partition(":")
    found = getattr(import_module(f"dinorad_rt.cli.{module}"), name)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False)
        found.command(verb)(function)
    command = typer.main.get_command(found)
    command.name = verb
    check_values(command)
    return command


app = typer.Typer(
    name="dinorad-rt",
    cls=_Verbs,
    help="Vision backbones on radiology: the engine that is timed is the engine that is evaluated.",
    epilog="Start here: dinorad-rt eval --protocol knn",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dinorad-rt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 2 the user can mend it, 130 interrupted by Ctrl-C, 128 + N by signal N.
    """
    received: list[int] = []
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no failure
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _stopped_by_signals(received):
            app()
    except DinoradError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print_error(error)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "dinorad_rt") or os.environ.get(DEBUG_VARIABLE):
            raise
        print_error(missing(package, "this"))
        sys.exit(MissingPackageError.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer makes an exit of the interruption that a verb does not catch
        if isinstance(stop, SystemExit) and stop.code != EXIT_INTERRUPTED:
            raise
        typer.echo("\nStopped. Run the same command again: finished parts are kept.", err=True)
        sys.exit(128 + received[0] if received else EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INTERRUPTED)


@contextmanager
def _stopped_by_signals(received: list[int]) -> Iterator[None]:
    """Turn the signals of `STOPPING` into an interruption, so that what is written is cleared up.

    Args:
        received: takes the number of the signal.
    """

    def stop(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:  # clearing up is not to be interrupted by a second one
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:  # what nohup ignores stays ignored
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
