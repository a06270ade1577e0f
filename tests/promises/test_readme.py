"""What the README shows works as written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of one language in the README."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_runs(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    example = example.replace('"vits14"', '"deit_tiny_patch16_224"')
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "AUROC" in printed
    assert "weights: random" in printed


def test_every_command_in_the_readme_is_a_verb_with_known_options() -> None:
    from typer.main import get_command

    from dinorad_rt.cli.verbs import VERBS, app

    program: Any = get_command(app)
    text = re.sub(r"\\\n\s*", " ", "\n".join(blocks("bash")))
    commands = re.findall(r"^dinorad-rt (.+)$", text, flags=re.MULTILINE)
    assert commands
    for command in commands:
        words = command.split("#")[0].split()
        assert words[0] in VERBS, command
        verb = program.get_command(None, words[0])
        known = {name for option in verb.params for name in option.opts}
        used = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
        assert used <= known, command


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^make (\w+)", "\n".join(blocks("bash")), flags=re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_links_resolve() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
