"""`compare` on written runs: a table in words and numbers, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import dinorad_rt
from dinorad_rt.cli.compare import parse_setting
from dinorad_rt.cli.main import main
from dinorad_rt.cli.verbs import app
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import DataError, ProtocolError
from dinorad_rt.metrics.answers import Comparison, Question
from dinorad_rt.metrics.segmentation import case_scores
from dinorad_rt.protocols.knn import KNNSettings, evaluate_knn
from dinorad_rt.reports.comparison import comparison_table
from dinorad_rt.reports.results import Results
from dinorad_rt.reports.table import to_text
from dinorad_rt.training.segmentation.evaluate import Case, judge_cases, write_results

CLASSES = ("background", "liver", "spleen")


def write_run(folder: Path, noise: float) -> Path:
    """A kNN run on blobs; more noise, a worse run."""
    random = np.random.default_rng(0)
    labels = np.arange(90) % 2
    points = labels[:, None] + noise * random.standard_normal((90, 4))
    names = np.array([f"s{i}" for i in range(90)], dtype=object)
    rows = EmbeddingTable(
        names, names, np.full(90, "x"), labels, points[:, None].astype(np.float32)
    )
    evaluate_knn(
        rows.take(slice(0, 30)),
        rows.take(slice(30, 40)),
        rows.take(slice(40, 90)),
        DatasetInfo("toy", "binary", ("no", "yes")),
        KNNSettings(ks=(3, 5), resamples=50),
        provenance={"engine": {"model": f"noise{noise}", "weights_kind": "random"}},
    ).write(folder)
    return folder


def test_two_runs_become_a_table_and_a_sentence(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(noise), noise) for noise in (0.1, 3.0)]
    done = CliRunner().invoke(
        app, ["compare", *map(str, runs), "--setting", "k=3", "--resamples", "200"]
    )
    assert done.exit_code == 0, done.output
    assert "noise3.0 (k 3) is worse than noise0.1 (k 3)" in " ".join(done.output.split())
    assert "weights: random" in done.output and "DeLong" in done.output
    as_json = CliRunner().invoke(
        app, ["compare", *map(str, runs), "--setting", "k=3", "--resamples", "200", "--json"]
    )
    document = json.loads(as_json.stdout)
    assert document["comparisons"][0]["n"] == 50


@pytest.mark.parametrize("columns", [60, 80])
def test_narrow_tables_break_neither_words_nor_numbers(columns: int) -> None:
    names = ("vits14 onnxruntime fp32 (k 20)", "vitb14_reg openvino bf16 (k 20)")
    difference, p_values = (0.0123, -0.0211, 0.0456), (0.0004, 0.0008, 0.231, 0.012)
    found = Comparison(*names, 0.8, 0.81, *difference, *p_values, True, 0.045, 50, 40, "Equal.")
    question = Question("auroc")
    text = to_text(comparison_table([found], question), columns)
    assert max(map(len, text.splitlines())) <= columns
    words = text.split()
    for whole in ("onnxruntime", "vitb14_reg", "[-0.021,", "+0.046]"):
        assert whole in words
    assert "< 0.001" in text
    wide = to_text(comparison_table([found], question), 160)
    assert "Left out" in text and "permutation" in text and "Left out" not in wide


def pair(first: str, second: str, low: float, high: float, p: float) -> Comparison:
    """A comparison of distances whose interval and p-value say what they say."""
    middle = (low + high) / 2
    others = (None, None, low > -1 and high < 1, 0.5, 50, 40, f"{first} and {second}.")
    return Comparison(first, second, 5.0, 5.0 + middle, middle, low, high, p, p, *others)


def test_the_margin_of_distances_has_its_unit() -> None:
    question = Question("hd95", margin=1.0, unit="mm", judged="case")
    text = to_text(comparison_table([pair("a", "b", -3, 2, 0.5)], question))
    assert "p equivalent ±1 mm" in text and "5.00, 4.50" in text
    plain = to_text(comparison_table([pair("a", "b", -3, 2, 0.5)], Question()))
    assert "p equivalent ±0.02" in plain and "mm" not in plain


def test_of_many_pairs_without_an_answer_one_sentence_tells() -> None:
    question = Question("hd95", margin=1.0, unit="mm")
    unsure = [pair("a", name, -3, 2, 0.5) for name in "bcd"]
    worse, same = pair("a", "e", 1, 4, 0.01), pair("a", "f", -0.5, 0.5, 0.9)
    unlucky = pair("a", "g", 0.1, 4, 0.06)  # Holm's correction took the difference away
    few = to_text(comparison_table([*unsure, worse], question))
    assert few.count("· ") == 4 and "Of the" not in few
    many = to_text(comparison_table([*unsure, worse, unlucky, same], question))
    lines = [line for line in many.splitlines() if line.startswith("· ")]
    assert lines == [
        "· a and e.",
        "· a and f.",
        "· Of the 4 other pairs no difference is shown, nor that they are equivalent within ±1 mm.",
    ]
    none = to_text(comparison_table([*unsure, unlucky], question))
    assert "· Of the 4 pairs no difference" in none


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("what", ["models", "datasets"])
def test_narrow_lists_break_no_word(
    what: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("dinorad_rt.reports.table.print_table", shown.append)
    assert CliRunner().invoke(app, ["list", what]).exit_code == 0
    text, wide = to_text(shown[0], columns), to_text(shown[0], 400)
    assert max(map(len, text.splitlines())) <= columns
    last = "Left out, the terminal is narrow: ; study. --json has them.".split()
    assert set(text.replace("─", "").split()) <= {
        *wide.split(),
        *last,
        *(f"{word};" for word in wide.split()),
    }


def test_same_models_go_by_their_folders_in_python_too(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name, 1.0) for name in ("one", "two")]
    (found,) = dinorad_rt.compare(paths, k=5)
    assert (found.first, found.second) == ("one (k 5)", "two (k 5)")
    assert found.difference == 0


def test_settings_are_read_as_numbers_where_they_are() -> None:
    assert parse_setting("k=20, patch_mean=yes,C=0.1") == {
        "k": 20,
        "patch_mean": "yes",
        "C": 0.1,
    }
    assert parse_setting(None) == {}
    with pytest.raises(ProtocolError, match="no ="):
        parse_setting("k20")


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path)])
    assert isinstance(done.exception, DataError)


def write_segmenter(
    folder: Path, error: float, classes: tuple[str, ...] = CLASSES, *, engine: bool = True
) -> Path:
    """What `eval --checkpoint` writes of a segmenter that is wrong in a share of the voxels."""
    random, cases = np.random.default_rng(0), []
    for index in range(40):
        truth = np.zeros((1, 16, 16), np.uint8)
        truth[:, 3:8, 3:8], truth[:, 9:14, 4:12] = 1, 2
        wrong = random.random(truth.shape) < error
        mask = np.where(wrong, random.integers(3, size=truth.shape), truth)
        scores = case_scores(truth, mask, 3, spacing=(1, 1, 1))
        confusion = scores.confusion
        voxels = np.stack([confusion.sum(axis=1)[1:], confusion.sum(axis=0)[1:]], axis=1)
        cases.append(Case(f"c{index}", f"p{index // 2}", scores, voxels, 1.0))
    dataset = Dataset("toy", "segmentation", classes, (), "fingerprint", "split")
    facts = {"model": "vits14", "weights_kind": "random"}
    provenance = {"engine": facts} if engine else {}
    results = judge_cases(
        cases, dataset, settings={"protocol": "x"}, provenance=provenance, tolerance=1.0
    )
    write_results(results, cases, folder)
    return folder


def test_segmenters_are_compared_from_their_folders(tmp_path: Path) -> None:
    runs = [write_segmenter(tmp_path / str(e) / "engine", e) for e in (0.01, 0.2)]
    words = ["compare", *map(str, runs), "--resamples", "200"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "Holm" in text and "DeLong" not in text
    assert "0.2/engine is worse than 0.01/engine: mean Dice" in text
    assert "mean HD95 in mm" in text and "mean NSD" in text
    assert "on the same 40 cases of 20 patients" in text
    assert "0.2/engine: weights: random" in text
    assert "HD95 in mm: second minus first" in text
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    found = document["comparisons"]
    assert f"{found[1]['difference']:+.2f} [{found[1]['low']:+.2f}, " in text
    assert [(c["metric"], c["margin"], c["unit"]) for c in found] == [
        ("dice", 0.02, ""),
        ("hd95", 1.0, "mm"),
        ("nsd", 0.02, ""),
    ]
    assert all(c["low"] <= c["difference"] <= c["high"] for c in found)
    values = dinorad_rt.compare(runs, metric="dice", class_name="spleen")
    published = [Results.open(run).metric("dice", "spleen", over="volumes").value for run in runs]
    assert [values[0].value_first, values[0].value_second] == pytest.approx(published)


def test_a_run_without_an_engine_goes_by_its_folder(tmp_path: Path) -> None:
    trained = write_segmenter(tmp_path / "run", 0.1, engine=False)
    deployed = write_segmenter(tmp_path / "run" / "engine", 0.1)
    (found,) = dinorad_rt.compare([trained, deployed], metric="dice")
    assert (found.first, found.second) == ("run", "run/engine")
    assert found.difference == 0 and found.equivalent


def test_segmenters_that_cannot_be_compared_are_an_error_of_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = write_segmenter(tmp_path / "ours", 0.1)
    other = write_segmenter(tmp_path / "other", 0.1, ("background", "liver", "kidney"))
    classifier = write_run(tmp_path / "knn", 1.0)
    torn = write_segmenter(tmp_path / "torn", 0.1)
    (torn / "cases.parquet").unlink()
    for second, told in (
        (other, "its classes are liver, kidney"),
        (classifier, "1 of 2 runs segment"),
        (torn, "cases.parquet"),
    ):
        monkeypatch.setattr("sys.argv", ["dinorad-rt", "compare", str(ours), str(second)])
        assert exit_code() == 2
        words = " ".join(capsys.readouterr().err.split())
        assert told in words
        assert "Compare" in words or "eval --checkpoint" in words
    with pytest.raises(ProtocolError, match="folder of the run"):
        dinorad_rt.compare([Results.open(ours)] * 2)


def exit_code() -> int:
    with pytest.raises(SystemExit) as caught:
        main()
    return int(str(caught.value.code))
