"""The program `dinorad-rt`: collects the verbs and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys

import typer

from dinorad_rt import __version__
from dinorad_rt.cli import (
    bench,
    build,
    bundle,
    cache,
    compare,
    doctor,
    embed,
    evaluate,
    export,
    inspect,
    listing,
    predict,
    prepare,
    report,
    train,
    verify,
)
from dinorad_rt.cli.console import print_error
from dinorad_rt.errors import DinoradError

DEBUG_VARIABLE = "DINORAD_RT_DEBUG"
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="dinorad-rt",
    help="Vision backbones on radiology: the engine that is timed is the engine that is evaluated.",
    epilog="Start here: dinorad-rt eval --protocol knn",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _verb, _function in (
    ("doctor", doctor.doctor),
    ("list", listing.list_things),
    ("inspect", inspect.inspect),
    ("prepare", prepare.prepare),
    ("export", export.export),
    ("build", build.build),
    ("verify", verify.verify),
    ("embed", embed.embed),
    ("eval", evaluate.evaluate),
    ("bundle", bundle.bundle),
    ("predict", predict.predict),
    ("compare", compare.compare),
    ("bench", bench.bench),
    ("report", report.report),
    ("train", train.train),
):
    app.command(_verb)(_function)
app.add_typer(cache.app, name="cache")


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
    """Run the command line. Exit codes: 0 done, 2 the user can mend it, 130 interrupted."""
    try:
        app()
    except DinoradError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("\nStopped. Run the same command again: finished parts are kept.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INTERRUPTED)
