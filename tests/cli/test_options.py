"""Options that several verbs share: one spelling, one way to open data, one rule of the study."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dinorad_rt import evaluation, identifiers, pipeline
from dinorad_rt.cli import embed, evaluate, options, predict, train, verify
from dinorad_rt.cli.main import app
from dinorad_rt.datasets.registry import all_entries
from dinorad_rt.preprocessing.presets import STUDY_CLIPS, STUDY_NAMES, preset_for_dataset

OPENING = ("data", "dataset", "root", "image_column", "label_column", "patient_column")
OPENING += ("split_column", "splits", "keep_identifiers")


@pytest.mark.parametrize("verb", [embed.embed, evaluate.evaluate, train.train, verify.verify])
def test_verbs_on_images_have_all_options_that_open_data(verb: Any) -> None:
    names = list(inspect.signature(verb).parameters)
    start = names.index("data")
    assert tuple(names[start : start + len(OPENING)]) == OPENING
    assert "source" not in names


def test_a_verb_gets_what_was_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    @options.with_source
    def verb(first: int = 1, source: options.Source = options.NO_SOURCE, last: str = "x") -> None:
        seen.update(first=first, source=source, last=last, kept=identifiers.are_kept())
        source.open(3, mask_column="m")

    def opened(*where: Any, **choices: Any) -> None:
        seen.update(where=where, choices=choices)

    monkeypatch.setattr(pipeline, "dataset_for", opened)
    small = typer.Typer()
    small.command()(verb)
    words = ["--first", "2", "--data", str(tmp_path), "--label-column", "finding", "--last", "y"]
    with identifiers.kept(False):
        done = CliRunner().invoke(small, [*words, "--keep-identifiers"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (seen["first"], seen["last"], seen["kept"]) == (2, "y", True)
    assert seen["source"] == options.Source(
        data=tmp_path, label_column="finding", keep_identifiers=True
    )
    assert seen["source"].is_given and not options.NO_SOURCE.is_given
    assert seen["where"] == (tmp_path, None, None)
    chosen = {name: value for name, value in seen["choices"].items() if value is not None}
    assert chosen.pop("say")
    assert chosen == {"seed": 3, "label_column": "finding", "mask_column": "m"}


def test_predict_shares_the_option_that_keeps_names() -> None:
    shared = inspect.signature(predict.predict, eval_str=True).parameters["keep_identifiers"]
    assert shared.annotation == options.KeepIdentifiers


@pytest.mark.parametrize(
    ("preset", "dataset", "found"),
    [
        ("study", "brain-tumor", "study:BrainTumor"),
        ("study:uncropped", "amos22", "study:AMOS,uncropped"),
        ("study:MSDHeart", "amos22", "study:MSDHeart"),
        ("study", "rsna-pneumonia", "study"),
        ("study", None, "study"),
        ("dinorad", "brain-tumor", "dinorad"),
        ("model:body", "brain-tumor", "model:body"),
    ],
)
def test_the_study_has_a_rule_for_each_of_its_datasets(
    preset: str, dataset: str | None, found: str
) -> None:
    assert preset_for_dataset(preset, dataset) == found


def test_every_dataset_of_the_study_has_a_rule() -> None:
    assert {name for name, entry in all_entries().items() if entry.study} == set(STUDY_NAMES)
    assert set(STUDY_NAMES.values()) == set(STUDY_CLIPS)


@pytest.mark.parametrize(("preset", "told"), [("study", True), ("dinorad", False)])
def test_eval_takes_the_rule_and_says_so(
    preset: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found(Exception):
        pass

    def run(asked: Any, *_: Any, **__: Any) -> None:
        raise Found(asked.preprocessing)

    monkeypatch.setattr(evaluation, "run_evaluation", run)
    monkeypatch.setattr(options.Source, "open", lambda self, seed: None)
    monkeypatch.setattr(evaluate, "describe_dataset", lambda dataset: None)
    words = ["eval", "--dataset", "brain-tumor", "--preprocessing", preset]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, Found)
    assert str(done.exception) == ("study:BrainTumor" if told else "dinorad")
    assert ("the study's rule for brain-tumor" in done.output) is told
