"""One image, two images: what messages say of counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.cli import console, embed
from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.words import count_of, markdown_text, spreadsheet_cell, verb_of


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (2, "test image", "2 test images"),
        (2, "study", "2 studies"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
    ],
)
def test_nouns(count: int, noun: str, text: str) -> None:
    assert count_of(count, noun) == text


def test_irregular_nouns_and_verbs() -> None:
    assert count_of(2, "image or slice", "images or slices") == "2 images or slices"
    assert (verb_of(1, "is", "are"), verb_of(0, "is", "are")) == ("is", "are")


@pytest.mark.parametrize(("count", "told"), [(1, "1 image ("), (2, "2 images (")])
def test_a_dataset_is_described(count: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    samples = tuple(Sample(f"s{i}", Path("x"), "p", "test", (0,)) for i in range(count))
    embed.describe_dataset(Dataset("toy", "binary", ("no", "yes"), samples, "f", "s"))
    words = capsys.readouterr().err
    assert told in words and ", 1 patient, binary" in words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b\nc", r"a\|b c"),
        ("<script>x</script>", r"\<script\>x\</script\>"),
        ("*e* _f_ `g` [h](i)", r"\*e\* \_f\_ \`g\` \[h\](i)"),
        ("snake_case 1-2 +1.5", "snake_case 1-2 +1.5"),
        ("# x", r"\# x"),
        ("1. x", r"1\. x"),
        ("- x", r"\- x"),
        ("back\\slash", r"back\\slash"),
        ("التهاب رئوي 🫁", "التهاب رئوي 🫁"),
    ],
)
def test_markdown_shows_names_as_they_are(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-minus", "@SUM(A1)", "\t=1", "\r=1"])
def test_spreadsheets_compute_nothing(text: str) -> None:
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "lung", "-1.5", "+2", "-inf", "a=b", "1-2", "'=1"])
def test_what_spreadsheets_show_as_it_is_stays(text: str) -> None:
    assert spreadsheet_cell(text) == text


def test_what_to_try_next_stands_in_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_next(("report RUN", "tables"), ("eval --checkpoint RUN --data DIR", "an engine"))
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("  dinorad-rt report RUN ")
    assert first.index("tables") == second.index("an engine")
