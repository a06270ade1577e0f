"""`report` and `eval --study` as a user meets them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.reports.fake_runs import fake_run

Program = Callable[..., subprocess.CompletedProcess[str]]


def test_a_report_from_the_command_line(program: Program, tmp_path: Path) -> None:
    fake_run(tmp_path / "runs" / "a", weights="random")
    done = program(
        "report", "runs", "--out", "r", "--plots", "svg", "--title", "Ours", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "weights: random" in done.stderr
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        *("report.html", "report.md", "report.csv", "plots")
    }
    again = program("report", "runs", "--out", "r", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_what_is_wrong_is_said_with_exit_code_2(program: Program, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").touch()
    fake_run(tmp_path / "runs" / "a")
    for words, told in (
        (("report", "nowhere"), "does not exist"),
        (("report", "other"), "neither results.json"),
        (("report", "runs", "--out", "other"), "belongs to something else"),
        (("report", "runs", "--plots", "gif"), "format of plots"),
        (("report", "runs", "--track", "mlflo"), "Closest: mlflow"),
        (("eval", "--study", "none.toml"), "does not exist"),
        (("eval", "--study", "papr-classification"), "paper-classification"),
        (("eval", "--study", "paper-classification", "--k", "5"), "--k cannot be given"),
        (("eval", "--plan"), "Add --study"),
    ):
        done = program(*words, cwd=tmp_path)
        assert done.returncode == 2, (words, done.stderr)
        assert told in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
