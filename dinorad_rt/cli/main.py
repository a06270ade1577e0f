"""The program `dinorad-rt`: runs the verbs and turns errors into messages and exit codes.

What is imported here is imported before Ctrl-C is heard: almost nothing.
"""

from __future__ import annotations

import os
import sys

DEBUG_VARIABLE = "DINORAD_RT_DEBUG"
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line.

    Exit codes: 0 done; 1 a check failed; 2 the user can mend it, as where no file can be read;
    3 some cells of a study failed; 130 interrupted by Ctrl-C; 128 + N by signal N, where 141 is
    that nobody reads the output any more.
    """
    received: list[int] = []
    try:
        _run(received)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer makes an exit of the interruption that a verb does not catch
        if isinstance(stop, SystemExit) and stop.code != EXIT_INTERRUPTED:
            raise
        told = "\nStopped. Run the same command again: finished parts are kept."
        print(told, file=sys.stderr, flush=True)
        sys.exit(128 + received[0] if received else EXIT_INTERRUPTED)


def _run(received: list[int]) -> None:
    from dinorad_rt.cli.console import print_error
    from dinorad_rt.cli.streams import steady_streams
    from dinorad_rt.cli.verbs import app
    from dinorad_rt.errors import DinoradError, MissingPackageError
    from dinorad_rt.optional import missing
    from dinorad_rt.signals import stopped_by_signals

    steady_streams()
    try:
        with stopped_by_signals(received):
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
