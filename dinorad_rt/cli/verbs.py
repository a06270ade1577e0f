"""The verbs of the program, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from dinorad_rt import __version__
from dinorad_rt.cli.help import tidy
from dinorad_rt.cli.values import check_values

# Panel of the help → verb: where its function (or its group of verbs) is. Only the verb that is
# asked for is imported.
PANELS = {
    "Data and machine": {
        "doctor": "doctor:doctor",
        "list": "listing:list_things",
        "inspect": "inspect:inspect",
        "prepare": "prepare:prepare",
        "cache": "cache:app",
    },
    "Evaluation": {
        "eval": "evaluate:evaluate",
        "compare": "compare:compare",
        "report": "report:report",
    },
    "Engines": {
        "export": "export:export",
        "build": "build:build",
        "verify": "verify:verify",
        "bench": "bench:bench",
        "embed": "embed:embed",
    },
    "Training and prediction": {
        "train": "train:train",
        "bundle": "bundle:bundle",
        "predict": "predict:predict",
    },
}
VERBS = {verb: where for verbs in PANELS.values() for verb, where in verbs.items()}


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
    command: Any = typer.main.get_command(found)
    command.name = verb
    command.rich_help_panel = next(panel for panel, verbs in PANELS.items() if verb in verbs)
    check_values(command)
    tidy(command)
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
