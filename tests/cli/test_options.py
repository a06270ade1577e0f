"""Options that several verbs share: one spelling, one way to open data, one rule of the study."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dinorad_rt import evaluation, identifiers, open_dataset, pipeline
from dinorad_rt.cli import (
    bundle,
    embed,
    evaluate,
    export,
    groups,
    options,
    predict,
    prepare,
    report,
    train,
    verify,
)
from dinorad_rt.cli.verbs import app
from dinorad_rt.datasets.registry import all_entries
from dinorad_rt.errors import ProtocolError, UnknownNameError, WeightsError
from dinorad_rt.preprocessing.presets import STUDY_CLIPS, STUDY_NAMES, preset_for_dataset
from dinorad_rt.training.evaluate import RunRequest

OPENING = ("data", "dataset", "root", "image_column", "label_column", "label_separator")
OPENING += ("patient_column", "split_column", "splits", "keep_identifiers")


VERBS = [embed.embed, evaluate.evaluate, train.train, verify.verify]
VERBS += [bundle.bundle, export.export, report.report]


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_on_images_have_all_options_that_open_data(verb: Any) -> None:
    names = list(inspect.signature(verb).parameters)
    start = names.index("data")
    assert tuple(names[start : start + len(OPENING)]) == OPENING
    assert "source" not in names


def test_prepare_reads_tables_by_the_same_options() -> None:
    names = list(inspect.signature(prepare.prepare).parameters)
    start = names.index("image_column")
    reading = [item.name for item in fields(groups.MaskReading)]
    assert names[start : start + len(reading)] == reading
    assert {*OPENING, "mask_column"} <= set(names) and "reading" not in names


def test_a_verb_gets_what_was_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    @groups.grouped
    def verb(*, first: int = 1, source: groups.Source, last: str = "x") -> None:
        seen.update(first=first, source=source, last=last, kept=identifiers.are_kept())
        source.open(3, mask_column="m")

    def opened(**choices: Any) -> None:
        seen.update(choices=choices)

    monkeypatch.setattr(pipeline, "dataset_for", opened)
    small = typer.Typer()
    small.command()(verb)
    words = ["--first", "2", "--data", str(tmp_path), "--label-column", "finding", "--last", "y"]
    with identifiers.kept(False):
        done = CliRunner().invoke(small, [*words, "--keep-identifiers"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (seen["first"], seen["last"], seen["kept"]) == (2, "y", True)
    assert seen["source"] == groups.Source(
        data=tmp_path, label_column="finding", keep_identifiers=True
    )
    assert seen["source"].is_given and not groups.Source().is_given
    chosen = {name: value for name, value in seen["choices"].items() if value is not None}
    assert chosen.pop("say")
    assert chosen == {"data": tmp_path, "seed": 3, "label_column": "finding", "mask_column": "m"}


def test_groups_become_the_request() -> None:
    model = groups.ModelOptions("vitb14", "random")
    numbers = groups.GraphOptions(56, "mixed", keep_fp32="blocks.3, blocks.4")
    wanted = groups.engine_request(model, numbers, groups.EngineOptions("openvino"), seed=4)
    assert wanted == pipeline.EngineRequest(
        *("vitb14", "random", 56, "mixed", "openvino"),
        seed=4,
        keep_fp32=("blocks.3", "blocks.4"),
    )
    assert groups.engine_request(groups.ModelOptions()) == pipeline.EngineRequest()
    numbers = groups.NumberOptions(precision="bf16")
    deployed = groups.run_request(Path("run"), model, numbers, groups.EngineOptions("pytorch"))
    assert deployed == RunRequest(Path("run"), "random", "bf16", "pytorch", "default")


def test_a_verb_may_have_defaults_of_its_own() -> None:
    parameters = inspect.signature(export.export).parameters
    assert parameters["precision"].default == "fp32"
    assert inspect.signature(verify.verify).parameters["precision"].default == "auto"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["export", "--data", "d"], "--data goes with --checkpoint"),
        (["export", "--checkpoint", "r", "--dense"], "--dense goes with --model"),
        (["eval", "--mask-column", "m"], "--mask-column goes with --checkpoint"),
        (["eval", "--checkpoint", "r", "--set", "k=5", "-m", "x"], "--set, --model go with"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words: list[str], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        CliRunner().invoke(app, words, catch_exceptions=False)


NOT_THERE = (
    ("--model", "vits41", UnknownNameError),
    ("--weights", "nowhere.safetensors", WeightsError),
    ("--backend", "openvin", UnknownNameError),
    ("--profile", "latncy", UnknownNameError),
)


@pytest.mark.parametrize(
    ("verb", "option", "value", "refusal"),
    [
        (verb, *wrong)
        for verb, wrongs in (
            ("eval", NOT_THERE),
            ("embed", NOT_THERE),
            ("verify --data .", NOT_THERE),
            ("train --protocol linear", NOT_THERE[:2]),
            ("train --protocol segmentation", NOT_THERE[:3]),
        )
        for wrong in wrongs
    ],
)
def test_what_is_not_there_is_refused_before_images_are_opened(
    verb: str,
    option: str,
    value: str,
    refusal: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(groups.Source, "open", lambda *_, **__: pytest.fail("images were opened"))
    with pytest.raises(refusal):
        CliRunner().invoke(app, [*verb.split(), option, value], catch_exceptions=False)


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
    monkeypatch.setattr(groups.Source, "open", lambda self, seed: None)
    monkeypatch.setattr(evaluate, "describe_dataset", lambda dataset: None)
    words = ["eval", "--dataset", "brain-tumor", "--preprocessing", preset]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, Found)
    assert str(done.exception) == ("study:BrainTumor" if told else "dinorad")
    assert ("the study's rule for brain-tumor" in done.output) is told


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--dataset", "phantom", "--label-column", "age"], "--label-column: a table"),
        (["--split-column", "fold", "--patient-column", "id"], "--patient-column, --split-column"),
        (["--data", ".", "--root", "."], "--root is where a registered dataset lies"),
        (["--data", ".", "--dataset", "phantom"], "Both --data . and --dataset phantom"),
    ],
)
def test_options_of_another_source_are_refused(words: list[str], refusal: str) -> None:
    done = CliRunner().invoke(app, ["embed", "--weights", "random", *words])
    assert isinstance(done.exception, UnknownNameError)
    assert refusal in done.exception.problem


def test_columns_for_a_registered_name_are_refused_in_python() -> None:
    with pytest.raises(UnknownNameError, match="registered dataset phantom"):
        open_dataset("phantom", label_column="age")
