"""What the README and the site show works as written."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt import identifiers

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MADE = DOCS / "reference" / "cli"
README = ROOT / "README.md"
PAGES = [README, *sorted(path for path in DOCS.rglob("*.md") if MADE not in path.parents)]


def blocks(language: str, page: Path = README) -> list[str]:
    """Code blocks of one language in a page."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(page: Path) -> list[str]:
    """Every command of our program in the bash blocks of a page."""
    text = re.sub(r"\\\n\s*", " ", "\n".join(blocks("bash", page)))
    return re.findall(r"^dinorad-rt .+$", text, flags=re.MULTILINE)


def parse(command: str) -> None:
    """Parse as the program does, verbs, options, values and arguments, and run nothing."""
    from typer.main import get_command

    from dinorad_rt.cli.verbs import app

    found: Any = get_command(app)
    words = shlex.split(command, comments=True)[1:]
    while hasattr(found, "commands"):
        name = words.pop(0)
        found = found.get_command(None, name)
        assert found is not None, f"no verb {name}: {command}"
    try:
        found.make_context(found.name, words)
    except Exception as error:
        raise AssertionError(f"{command}: {error}") from error


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_is_a_verb_with_known_options_and_values(page: Path) -> None:
    for command in commands(page):
        with identifiers.kept(False):  # parsing --keep-identifiers turns them on
            parse(command)


def test_commands_are_found_and_wrong_ones_refused() -> None:
    assert len(commands(README)) > 10
    assert sum(len(commands(page)) for page in PAGES) > 60
    for wrong in ("dinorad-rt evaluate", "dinorad-rt eval --protcol knn", "dinorad-rt bundle"):
        with pytest.raises(AssertionError):
            parse(wrong)
    with pytest.raises(AssertionError):
        parse("dinorad-rt train --protocol knn")


def test_make_targets_exist() -> None:
    targets = {
        target
        for page in PAGES
        for target in re.findall(r"^make (\w+)", "\n".join(blocks("bash", page)), re.MULTILINE)
    }
    assert {"demo", "test"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_named_files_exist(page: Path) -> None:
    from dinorad_rt.cli.verbs import VERBS

    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    taken_in = re.findall(r"^```\{(?:literal)?include\} (\S+)", text, flags=re.MULTILINE)
    for link in [*re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose), *taken_in]:
        target = (page.parent / link).resolve()
        made = target.parent == MADE and target.stem in VERBS
        assert made or target.exists(), f"{page.name}: {link}"
    folders = "benchmarks|dinorad_rt|docs|engines|export|tests"
    for name in re.findall(rf"`((?:{folders})/[\w./]+\.\w+)`", prose):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_page_is_in_one_table_of_contents() -> None:
    listed = {
        (page.parent / f"{name}.md").resolve()
        for page in PAGES
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        for name in re.findall(r"^[\w-]+/[\w-]+$", tree, flags=re.MULTILINE)
    }
    site = {page for page in PAGES if page not in (README, DOCS / "index.md")}
    assert listed == site
