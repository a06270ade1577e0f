"""Trackers get a run's choices and numbers; a missing package is named with its command."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dinorad_rt.errors import MissingPackageError, UnknownNameError
from dinorad_rt.optional import EXTRA_OF
from dinorad_rt.reports.results import Results
from dinorad_rt.trackers import TRACKERS, track_results, tracker_named
from tests.reports.fake_runs import fake_results


@pytest.fixture(scope="module")
def results() -> Results:
    return fake_results()


def test_a_run_is_told_with_its_choices_and_numbers(results: Results, tmp_path: Path) -> None:
    told: list[tuple[str, Mapping[str, str], Mapping[str, float], Sequence[Path]]] = []
    track_results(lambda *values: told.append(values), results, [tmp_path])
    ((name, params, metrics, artifacts),) = told
    assert name == "toy vits14 knn" and list(artifacts) == [tmp_path]
    assert params["engine_key"] == "k" * 64 and params["settings.resamples"] == "50"
    assert metrics["auroc"] == results.metric("auroc", **results.chosen).value
    assert metrics["auroc/k_3"] == results.metric("auroc", k=3).value
    assert metrics["auroc_low"] <= metrics["auroc"] <= metrics["auroc_high"]


def test_tensorboard_reads_back_what_was_written(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGDIR", str(tmp_path))
    track_results(tracker_named("tensorboard"), results)
    (folder,) = tmp_path.iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    (scalar,) = events.Scalars("auroc")
    assert scalar.value == pytest.approx(results.metric("auroc", **results.chosen).value)


def test_mlflow_reads_back_what_was_written(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    track_results(tracker_named("mlflow"), results)
    (run,) = mlflow.search_runs(experiment_names=["dinorad-rt"], output_format="list")
    assert run.data.params["model"] == "vits14"
    assert run.data.metrics["auroc"] == results.metric("auroc", **results.chosen).value


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_a_missing_package_is_named_with_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=rf"pip install 'dinorad-rt\[{name}\]'"):
        tracker_named(name)


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="mlflow"):
        tracker_named("mlflo")


def test_every_tracker_has_its_extra() -> None:
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    for name in TRACKERS:
        assert EXTRA_OF[name] == name
        assert any(requirement.startswith(name) for requirement in extras[name])
