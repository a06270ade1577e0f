"""`--help` in 80 columns, the narrowest terminal that people have."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dinorad_rt.cli.help import joined
from dinorad_rt.cli.verbs import PANELS, VERBS, app

COLUMNS = 80
SUBVERBS = [("cache", verb) for verb in ("list", "verify", "prune")]


def shown(*words: str) -> str:
    """What the program prints in a terminal of 80 columns."""
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": str(COLUMNS), "NO_COLOR": "1"})
    assert done.exit_code in (0, 2), done.output
    return done.output


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS), *SUBVERBS])
def test_help_fits_into_80_columns(words: tuple[str, ...]) -> None:
    text = shown(*words, "--help")
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert "…" not in text  # a name cut off
    assert " range>" not in text and "<=x" not in text


@pytest.mark.parametrize("verb", VERBS)
def test_about_half_of_the_line_is_for_words(verb: str) -> None:
    text = shown(verb, "--help")
    starts = [line.index("Print JSON") for line in text.splitlines() if "Print JSON" in line]
    assert all(start <= 42 for start in starts), starts


def test_every_verb_is_in_one_panel_of_the_first_help() -> None:
    text = shown("--help")
    assert [verb for verb in VERBS if text.count(f"│ {verb} ") != 1] == []
    assert [panel for panel in PANELS if f"─ {panel} ─" not in text] == []


@pytest.mark.parametrize("words", [(), ("cache",)])
def test_without_a_verb_the_help_is_shown(words: tuple[str, ...]) -> None:
    assert shown(*words).strip() == shown(*words, "--help").strip()


def test_lines_of_a_docstring_are_wrapped_by_the_terminal() -> None:
    assert (
        joined("One.\n\n    Two of\n    three.\n\n    Four.\n") == "One.\n\nTwo of three.\n\nFour."
    )


def test_who_leaves_a_range_is_told_it() -> None:
    assert "14<=x<=8192" in shown("export", "--image-size", "3")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("eval --model vitl", ["vitl14", "vitl14_reg", "vitl16_in21k"]),
        ("eval --protocol few", ["few-shot"]),
        ("embed --dataset montg", ["montgomery"]),
        ("prepare shen", ["shenzhen"]),
        ("build --backend tensorrt-", ["tensorrt-rtx"]),
        ("build --backend au", ["auto"]),
        ("verify --profile la", ["latency"]),
    ],
)
def test_the_shell_completes_names(words: str, names: list[str]) -> None:
    asked = {
        "_DINORAD_RT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"dinorad-rt {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    done = CliRunner().invoke(app, [], env=asked, prog_name="dinorad-rt")
    assert done.output.split() == names


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["evl"], "eval"),
        (["eval", "--protcol", "knn"], "--protocol"),
        (["cache", "purne"], "prune"),
    ],
)
def test_what_is_mistyped_is_told_what_it_may_have_meant(words: list[str], meant: str) -> None:
    assert meant in shown(*words)
