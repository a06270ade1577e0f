"""results.json is valid, complete and read back; predictions lie beside it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import DataError
from dinorad_rt.protocols.knn import KNNSettings, evaluate_knn
from dinorad_rt.reports.results import MetricValue, Predictions, Results
from dinorad_rt.reports.table import print_table, results_table, rows_table, to_text


@pytest.fixture
def results() -> Results:
    """A small binary evaluation with random weights in its provenance."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    points = random.standard_normal((60, 2, 4)).astype(np.float32)
    names = np.array([f"s{i}" for i in range(60)], dtype=object)
    rows = EmbeddingTable(names, names, np.full(60, "train"), labels, points)
    info = DatasetInfo("toy", "binary", ("normal", "nodule"))
    provenance = {"engine": {"weights_kind": "random", "model": "vits14", "loss": float("nan")}}
    return evaluate_knn(
        rows.take(slice(0, 30)),
        rows.take(slice(30, 40)),
        rows.take(slice(40, 60)),
        info,
        KNNSettings(ks=(3, 7), resamples=100),
        provenance=provenance,
    )


def test_written_results_are_read_back(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path)
    again = Results.open(tmp_path)
    assert again.metrics == results.metrics
    assert again.is_random
    assert again.class_names == results.class_names


def test_json_is_valid_and_holds_no_nan(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = (tmp_path / "results.json").read_text()
    document = json.loads(text, parse_constant=refuse)
    assert document["provenance"]["engine"]["loss"] is None
    assert document["weights"] == "random"
    assert {"value", "ci_low", "ci_high", "n", "n_patients"} <= set(document["metrics"][0])


def test_predictions_hold_every_image_under_every_k(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path)
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert len(rows) == 2 * 20
    assert {row["k"] for row in rows} == {3, 7}
    for row in rows:
        assert sum(row["scores"]) == pytest.approx(1)
        assert row["predicted"] == [int(np.argmax(row["scores"]))]


def test_the_table_shows_intervals_and_random_weights(results: Results) -> None:
    text = to_text(results_table(results))
    value = results.metric("auroc", k=7)
    assert f"{value.value:.3f} [{value.ci_low:.3f}, {value.ci_high:.3f}]" in text
    assert "weights: random" in text
    assert "20 test patients" in text  # few: said
    assert str(results) == text


def test_an_unknown_schema_is_refused_by_name(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path)
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 99'))
    with pytest.raises(DataError, match="schema 99"):
        Results.open(tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_no_results_file_is_a_clear_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError, match="results"):
        Results.open(tmp_path)


def test_brackets_in_names_survive_the_table() -> None:
    assert "[bold]x" in to_text(rows_table("t", [{"name": "[bold]x", "empty": ""}]))


@pytest.mark.parametrize("broken", ["metrics", "seeds", "protocol"])
def test_a_file_with_missing_parts_is_refused(
    results: Results, tmp_path: Path, broken: str
) -> None:
    results.write(tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    del document[broken]
    (tmp_path / "results.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=broken):
        Results.open(tmp_path)


def test_predictions_are_read_back_with_their_settings(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path)
    again = Results.open(tmp_path, predictions=True)
    assert again.predictions[1].setting == {"k": 7}
    for ours, theirs in zip(again.predictions, results.predictions, strict=True):
        np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(again.labels, results.labels)
    assert again.sample_ids.tolist() == results.sample_ids.tolist()
    (tmp_path / "predictions.parquet").unlink()
    with pytest.raises(DataError, match="scores of the run"):
        Results.open(tmp_path, predictions=True)
    assert Results.open(tmp_path).metrics == results.metrics


def test_results_of_schema_1_are_migrated(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    for name in ("preset", "chosen", "deviations"):
        del document[name]
    (tmp_path / "results.json").write_text(json.dumps(document | {"schema": 1}))
    again = Results.open(tmp_path)
    assert again.metrics == results.metrics
    assert (again.preset, again.chosen) == ("dinorad", {})


def test_the_chosen_setting_is_marked_and_classes_are_its_own(results: Results) -> None:
    results.chosen = {"k": 3}
    lines = to_text(results_table(results)).splitlines()
    assert any(line.strip().startswith("* 3 ") for line in lines)
    place = lines.index("Also (k = 3)")
    assert any(line.split()[0] == "F1" for line in lines[place + 1 : place + 4] if line)


def test_narrow_terminals_break_no_interval_and_cut_no_name(results: Results) -> None:
    results.excluded_classes = {"a": "no positive", "b": "no positive", "c": "no negative"}
    wide = to_text(results_table(results), 160)
    value = results.metric("auroc", k=7)
    ends = f"[{value.ci_low:.3f}, {value.ci_high:.3f}]"
    assert f"{value.value:.3f} {ends}" in wide
    assert "Excluded from the macro mean: a, b (no positive); c (no negative)." in wide
    for columns in (60, 80):
        narrow = to_text(results_table(results), columns)
        assert max(map(len, narrow.splitlines())) <= columns
        assert "…" not in narrow
    assert ends in to_text(results_table(results), 80)


def test_numbers_stand_at_the_right_of_their_column() -> None:
    rows = [{"name": "a", "dim": "384"}, {"name": "b", "dim": "1024"}, {"name": "c", "dim": "-"}]
    lines = [line for line in to_text(rows_table("t", rows)).splitlines() if line]
    assert len({len(line) for line in lines[-3:]}) == 1


def test_piped_sentences_stay_on_one_line(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    results.notes = ["word " * 60 + "end"]
    print_table(results_table(results))
    assert ("word " * 60 + "end") in capsys.readouterr().out


def test_short_columns_stay_whole_on_narrow_terminals() -> None:
    rows = [
        {
            "name": "vitl16_in21k",
            "training": "supervised on ImageNet-21k, then 1k " * 2,
            "dim": "1",
        },
        {"name": "openclip_h14", "training": "weakly supervised", "dim": "1280"},
    ]
    for columns in (40, 60, 200):
        text = to_text(rows_table("models", rows), columns)
        assert "vitl16_in21k" in text and "1280" in text and "…" not in text
        assert max(map(len, text.splitlines())) <= columns
    crowded = [{f"column {i}": "x" * 30 for i in range(6)}]
    text = to_text(rows_table("t", crowded), 60)
    assert text.count("x") == 180  # folded, never cut


def test_scores_are_written_and_read_without_an_object_for_each(tmp_path: Path) -> None:
    """25,000 images, 14 labels and 25 draws of shots are nine million values."""
    images, classes, settings = 4_000, 30, 5
    random = np.random.default_rng(0)
    labels = (random.random((images, classes)) < 0.2).astype(np.int64)
    names = np.array([f"s{i}" for i in range(images)], dtype=object)
    value = MetricValue("auroc", {"k": 0}, None, 0.5, 0.4, 0.6, images, images)
    run = Results(
        protocol="knn",
        task="multilabel",
        dataset="toy",
        class_names=tuple(map(str, range(classes))),
        metrics=[value],
        excluded_classes={},
        settings={},
        seeds=(0,),
        sample_ids=names,
        patients=names,
        labels=labels,
        predictions=[
            Predictions({"k": k}, random.random((images, classes))) for k in range(settings)
        ],
    )
    run.write(tmp_path / "first")  # imports are not to be counted
    tracemalloc.start()
    try:
        run.write(tmp_path / "run")
        again = Results.open(tmp_path / "run", predictions=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    values = images * classes * settings
    assert peak < 24 * values  # a list of Python floats takes 32 bytes for each, and more of it
    np.testing.assert_array_equal(again.labels, labels)
    assert again.labels.dtype == np.int64
    for one, two in zip(again.predictions, run.predictions, strict=True):
        assert one.setting == two.setting
        np.testing.assert_array_equal(one.scores, two.scores)


def test_a_title_is_not_broken_at_the_width_of_its_table() -> None:
    title = "phantom: samples per class"
    assert to_text(rows_table(title, [{"n": 1}]), 60).splitlines()[0] == title
