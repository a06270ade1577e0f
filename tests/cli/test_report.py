"""`report` and `eval --study` as a user meets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reports"))

from fake_runs import fake_run


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "dinorad_rt", *words], capture_output=True, text=True, cwd=cwd
    )


def test_a_report_from_the_command_line(tmp_path: Path) -> None:
    fake_run(tmp_path / "runs" / "a", weights="random")
    done = run("report", "runs", "--out", "r", "--plots", "svg", "--title", "Ours", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "weights: random" in done.stderr
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        *("report.html", "report.md", "report.csv", "plots")
    }
    again = run("report", "runs", "--out", "r", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_what_is_wrong_is_said_with_exit_code_2(tmp_path: Path) -> None:
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
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 2, (words, done.stderr)
        assert told in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
