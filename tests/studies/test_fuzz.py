"""Mutated files: an image or an error that says why; no crash, no hang, bounded memory.

The long run, 20,000 inputs: python benchmarks/fuzz.py --inputs 20000 --seed 0
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import fuzz


@pytest.mark.parametrize("count", [640, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutants(count: int) -> None:
    tallies = fuzz.run(count, seed=1)
    assert set(tallies) == set(fuzz.READERS)
    for reader, tally in tallies.items():
        assert not tally.breaches
        assert tally.inputs == count // len(fuzz.READERS)
        refused, read = tally.outcomes["refused"], tally.outcomes["read"]
        assert min(refused, read) > tally.inputs / 20, reader  # neither all harmless nor all broken


def test_inputs_depend_on_seed_reader_and_number_alone() -> None:
    originals = fuzz.sources("tiff")
    one = fuzz.mutant(originals, "tiff", seed=3, number=17)
    assert one == fuzz.mutant(fuzz.sources("tiff"), "tiff", seed=3, number=17)
    assert one != fuzz.mutant(originals, "tiff", seed=4, number=17)


def follow(code: str, monkeypatch: pytest.MonkeyPatch) -> fuzz.Tally:
    """Let the harness follow a worker that runs this code instead."""
    start = subprocess.Popen
    monkeypatch.setattr(fuzz, "SECONDS", 0.5)
    monkeypatch.setattr(
        fuzz.subprocess,
        "Popen",
        lambda _, **options: start([sys.executable, "-c", code], **options),
    )
    tally = fuzz.Tally()
    fuzz._one_worker("png", 0, 5, 6, tally)
    return tally


@pytest.mark.parametrize(
    ("code", "breach"),
    [
        ("import os; os.abort()", "png:5: crash (status -6)"),
        ("import time; time.sleep(60)", "png:5: hang"),
    ],
)
def test_crashes_and_hangs_are_told(
    code: str, breach: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = follow("print('{\"start\": 5}', flush=True);" + code, monkeypatch)
    assert tally.inputs == 1 and tally.breaches == [breach]


def test_slow_hungry_and_unexplained_inputs_are_breaches() -> None:
    tally = fuzz.Tally()
    good = {"number": 1, "outcome": "read", "detail": "", "seconds": 0.1, "grown_mb": 1.0}
    tally.add("png", good)
    assert not tally.breaches
    tally.add("png", good | {"seconds": fuzz.SECONDS + 1})
    tally.add("png", good | {"grown_mb": fuzz.GROWTH_MB + 1})
    tally.add("png", good | {"outcome": "exception", "detail": "KeyError: 1"})
    assert len(tally.breaches) == 3
