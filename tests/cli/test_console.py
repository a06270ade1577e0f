"""Lines of progress in logs: what is said when, and how long the rest takes."""

from __future__ import annotations

import pytest

from dinorad_rt.cli import console


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that progress sees."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_a_long_part_tells_each_ten_seconds_what_is_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.stage_bar("resampling patients", "resamples") as advance:
        for done in range(0, 10_001, 500):
            advance(done, 10_000)
            clock[0] += 6.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "· resampling patients: 1000/10000 resamples, about 2 min to go"
    assert lines[-1] == "· resampling patients: 10000/10000 resamples"
    assert len(lines) == 10


def test_a_part_that_is_over_at_once_says_nothing(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.stage_bar("looking for copies in train", "images") as advance:
        advance(40, 40)
    assert not capsys.readouterr().err
    with console.progress_bar("embedding") as advance:
        advance(40, 40)
    assert capsys.readouterr().err == "· embedding: 40/40 images\n"


def test_what_was_done_before_tells_no_rate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.stage_bar("embedding", "images") as advance:
        clock[0] += 30.0  # while files are listed
        advance(900, 1000)
        clock[0] += 20.0
        advance(950, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "· embedding: 900/1000 images",
        "· embedding: 950/1000 images, about 20 s to go",
    ]
