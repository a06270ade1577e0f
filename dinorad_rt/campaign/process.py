"""The study's side of its worker process: ask, listen, and survive its death."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from dinorad_rt.words import ending_words

Listen = Callable[[Mapping[str, Any]], None]
WORKER = (sys.executable, "-m", "dinorad_rt.campaign.worker")


@dataclass(frozen=True)
class Failed:
    """A request that was not answered.

    Attributes:
        why: what happened and what to do about it, for the screen.
        public: the same without anything of the data, for files and reports.
    """

    why: str
    public: str


class Worker:
    """A worker process, started when it is first asked and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._events: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, request: Mapping[str, Any], listen: Listen) -> dict[str, Any] | Failed:
        """Send a request and wait for its answer.

        Args:
            request: for `worker.serve`.
            listen: given the events that come before the answer.

        Returns:
            The answer, or why there is none: an error of the worker, or its death.
        """
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            for line in self._events:
                event = json.loads(line)
                kind = event.pop("event")
                if kind == "failed":
                    return Failed(event["why"], event["public"])
                if kind == "done":
                    return dict(event)
                listen({"event": kind, **event})
        except BrokenPipeError:
            pass
        return self._died()

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        self._events.close()
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            read, write = os.pipe()
            with _without_interrupts():
                self._process = subprocess.Popen(
                    [*WORKER, str(write)],
                    stdin=subprocess.PIPE,
                    stdout=2,  # what libraries print there is no result of ours
                    pass_fds=(write,),
                    text=True,
                )
            os.close(write)
            self._events = os.fdopen(read, encoding="utf-8")
        return self._process

    def _died(self) -> Failed:
        assert self._process is not None
        code = self._process.wait()
        self.stop()
        words = f"Its process {ending_words(code)}. Run this cell alone with dinorad-rt eval."
        return Failed(words, words)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started here never see Ctrl-C: the study hears it and ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
