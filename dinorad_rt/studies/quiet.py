"""Around decoders: silence about files which we judge ourselves, and how they fail."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock = threading.Lock()
_inside = 0
_stack = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore Python warnings and pydicom's log while any thread is in the block.

    Both repeat values of the file, identifiers among them, and tracebacks of each decoder tried.

    `warnings.catch_warnings` alone is not safe with threads: two that overlap can leave the
    filters changed for ever. Here the first to enter changes them, the last to leave restores.
    """
    global _inside, _stack
    with _lock:
        if _inside == 0:
            _stack = ExitStack()
            _stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            _stack.enter_context(_muted(logging.getLogger("pydicom")))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _stack.close()


@contextmanager
def _muted(logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def is_decoder_failure(error: BaseException) -> bool:
    """True for what a decoder raises on a damaged file.

    A decoder written in Rust panics with a BaseException of its own (pyo3's PanicException),
    which must not end the process as an interrupt would.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
