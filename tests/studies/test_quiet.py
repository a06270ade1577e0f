"""Silence that threads share, and panics of decoders."""

from __future__ import annotations

import threading
import warnings

from dinorad_rt.studies.quiet import is_decoder_failure, quiet


def test_filters_are_restored_after_threads_that_overlap() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with quiet():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=stay)
    with quiet():
        thread.start()
        inside.wait(5)
        warnings.warn("not heard", stacklevel=1)
    warnings.warn("not heard either: the thread is still inside", stacklevel=1)
    leave.set()
    thread.join()
    assert list(warnings.filters) == before


def test_panics_are_failures_and_interrupts_are_not() -> None:
    panic = type("PanicException", (BaseException,), {})()
    assert is_decoder_failure(panic) and is_decoder_failure(ValueError())
    assert not is_decoder_failure(KeyboardInterrupt())
