"""`dinorad-rt bench`: what it refuses before any work, and a small run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dinorad_rt.cli.verbs import app
from dinorad_rt.errors import DinoradError
from dinorad_rt.files import only_writer

RUNNER = CliRunner()


def _refused(*words: str) -> DinoradError:
    done = RUNNER.invoke(app, ["bench", *words])
    assert isinstance(done.exception, DinoradError), done.output
    return done.exception


@pytest.mark.parametrize(
    ("words", "message", "fix"),
    [
        (("--model", "vits41"), "Unknown model 'vits41'", "list models"),
        (("--backend", "openwino"), "Unknown backend", "list backends"),
        (("--precision", "fp8"), "Unknown precision 'fp8'", "bench --help"),
        (("--batch", "0"), "--batch '0' is not a list", "--batch 1,8,32"),
        (("--batch", "1,8,9000"), "--batch 9000 is above the largest batch", "4096"),
        (("--image-size", "big"), "--image-size 'big' is not a list", "Example"),
    ],
)
def test_bad_requests_are_refused_before_any_work(
    words: tuple[str, ...], message: str, fix: str, cache: Path, tmp_path: Path
) -> None:
    error = _refused(*words, "--out", str(tmp_path / "out"))
    assert message in error.problem and fix in error.fix
    assert not (tmp_path / "out").exists()


def test_a_backend_that_is_not_here_names_its_install_command(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dinorad_rt.runners.tensorrt_flavour.is_installed", lambda name: False)
    error = _refused("--backend", "openvino,tensorrt", "--out", str(tmp_path / "out"))
    assert "the package tensorrt is not installed" in error.problem
    assert "pip install 'dinorad-rt[tensorrt]'" in error.fix


def test_a_folder_of_something_else_is_left_alone(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "belongs to something else" in _refused("--out", str(tmp_path)).problem
    assert [item.name for item in tmp_path.iterdir()] == ["notes.txt"]


def test_one_process_at_a_time_measures_into_a_folder(cache: Path, tmp_path: Path) -> None:
    with only_writer(tmp_path):
        assert "Another process is writing into" in _refused("--out", str(tmp_path)).problem


def test_results_of_eval_are_looked_at_first(cache: Path, tmp_path: Path) -> None:
    error = _refused("--results", str(tmp_path), "--out", str(tmp_path / "out"))
    assert "holds no results.json" in error.problem


@pytest.mark.slow
def test_a_small_run(cache: Path, tmp_path: Path) -> None:
    words = ["--model", "test_vit", "--image-size", "32", "--backend", "onnxruntime"]
    words += ["--precision", "fp32", "--batch", "1,2", "--repeats", "1", "--seconds", "0.1"]
    words += ["--no-end-to-end", "--cool-down", "0", "--out", str(tmp_path / "out")]
    done = RUNNER.invoke(app, ["bench", *words])
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert {row["mode"] for row in document["rows"]} == {"latency", "throughput"}
    assert (tmp_path / "out" / "bench.html").exists() and (tmp_path / "out" / "bench.md").exists()


def test_in_80_columns_names_stay_whole() -> None:
    from dinorad_rt.cli.bench import _SPARE, SHOWN, _shown
    from dinorad_rt.reports.table import rows_table, to_text

    words = {"model": "deit_tiny_patch16_224", "backend": "onnxruntime", "precision": "fp32"}
    row = dict.fromkeys(SHOWN, 1.0) | words | {"mode": "throughput"}
    text = to_text(rows_table("Benchmark", _shown([row]), _SPARE), 80)
    assert "deit_tiny_patch16_224   onnxruntime" in text and "throughput" in text
    assert "images/s" in text and "Left out, the terminal is narrow: px" in text
