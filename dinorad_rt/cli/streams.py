"""Where the program prints: streams that take any text, and end it when nobody reads them."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

EXIT_CLOSED_PIPE = 128 + getattr(signal, "SIGPIPE", 13)


def steady_streams() -> None:
    """Make stdout and stderr take every letter, and end the program where a reader has gone.

    `dinorad-rt list models | head -1` ends as other programs do, without a message and with exit
    code 141, after what is being written was cleared up.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            # a name that the terminal cannot show is no failure
            stream.reconfigure(errors="backslashreplace")
            if os.name == "posix" and stream is getattr(sys, f"__{name}__"):
                setattr(sys, name, _ended_by_its_reader(stream))


def _ended_by_its_reader(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Output(io.FileIO):
    """A stream whose writes end the program when its reader has gone.

    typer and rich each make an exit of their own from a BrokenPipeError, so none may leave here.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # what is still in the buffers goes nowhere, quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise SystemExit(EXIT_CLOSED_PIPE) from None
