"""Fixtures of the report's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.files import write_json
from dinorad_rt.reports.material import read_material
from dinorad_rt.reports.report import Extras, write_report
from tests.reports.fake_runs import fake_bench, fake_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs on three test sets, one of them with random weights, and a benchmark."""
    folder = tmp_path_factory.mktemp("runs")
    fake_run(folder / "a", "vits14", strength=2.0, engine_key="a" * 64)
    fake_run(folder / "b", "vitb14", weights="random", engine_key="b" * 64)
    fake_run(folder / "c", "vits14", task="multiclass", dataset="three")
    fake_run(folder / "d", "vits14", task="multilabel", dataset="many")
    fake_run(folder / "e", "vits14", test=60)
    write_json(folder / "bench.json", fake_bench("a" * 64))
    return folder


@pytest.fixture(scope="session")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of those runs."""
    out = tmp_path_factory.mktemp("report")
    extras = Extras(title="A <test> & more", plots=("svg", "pdf"), failures={"x": "it failed"})
    write_report(read_material([runs]), out, extras)
    return out
