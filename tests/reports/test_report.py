"""The report: a page that a real parser accepts, numbers that equal results.json."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.errors import DataError, UnknownNameError
from dinorad_rt.files import write_json
from dinorad_rt.reports import tradeoff
from dinorad_rt.reports.cells import format_number
from dinorad_rt.reports.drawings import paretos
from dinorad_rt.reports.files import to_csv
from dinorad_rt.reports.look import SCRIPT, STYLE
from dinorad_rt.reports.material import Material, read_material
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.report import Extras, write_report
from dinorad_rt.reports.results import MetricValue
from dinorad_rt.reports.run_names import labelled
from dinorad_rt.reports.run_sections import (
    confusion_rows,
    metric_rows,
    provenance_facts,
    shared_facts,
)
from dinorad_rt.reports.runs import grouped
from dinorad_rt.reports.sections import (
    GO_ON,
    add_failures,
    failure_lines,
    notes_on,
    study_tables,
)
from dinorad_rt.reports.study_numbers import PUBLISHED, published_for
from tests.reports.fake_runs import fake_bench, fake_results, fake_run
from tests.reports.page_tree import Tree, assert_self_contained


@pytest.fixture(scope="module")
def page(report: Path) -> Tree:
    return Tree((report / "report.html").read_text(encoding="utf-8"))


def test_the_page_asks_nothing_of_the_network(report: Path) -> None:
    assert_self_contained((report / "report.html").read_text(encoding="utf-8"))


def test_ids_are_unique_and_links_lead_somewhere(page: Tree) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        target = attributes.get("href") or ""
        if target.startswith("#"):
            assert target[1:] in ids, target
        for value in attributes.values():
            for name in re.findall(r"url\(#([^)]+)\)", value or ""):
                assert name in ids, name


def test_every_table_has_a_caption_and_heads_with_scope(page: Tree) -> None:
    assert page.tables
    for tags in page.tables:
        assert tags.count("caption") == 1
    assert all(head.get("scope") in ("col", "row") for head in page.named("th"))


def test_every_figure_can_be_read_out(page: Tree) -> None:
    drawings = page.named("svg")
    assert len(drawings) >= 10
    for drawing in drawings:
        assert drawing.get("role") == "img"
        assert len(drawing.get("aria-label") or "") > 40
    assert all(image.get("alt") for image in page.named("img"))


def test_regions_inputs_and_the_language_are_named(page: Tree) -> None:
    assert page.named("html")[0]["lang"] == "en"
    assert "width=device-width" in str(page.named("meta"))
    for div in page.named("div"):
        if div.get("class") == "scroll":
            assert div.get("tabindex") == "0" and div.get("aria-label")
    assert len(page.named("input")) == len(page.named("label")) > 0


def test_words_of_the_user_are_escaped(report: Path, page: Tree) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    assert "A &lt;test&gt; &amp; more" in text
    assert "nodule <br>" not in text
    assert page.texts["h1"] == ["A <test> & more"]


def test_random_weights_and_failures_are_said_aloud(report: Path, page: Tree) -> None:
    warnings = [p for p in page.named("p") if p.get("class") == "warning"]
    assert len(warnings) >= 2
    text = " ".join(page.texts["p"])
    assert "weights: random" in text and "1 of 5 runs" in text
    assert "weights: random" in (report / "report.md").read_text(encoding="utf-8")
    assert any("it failed" in item for item in page.texts["li"])


def test_each_reason_of_failures_stands_once() -> None:
    failures = {f"cell {number}": "It is lost." for number in range(5)} | {"x": "It failed."}
    assert failure_lines(failures) == [
        "cell 0; cell 1; cell 2; and 2 others: It is lost.",
        "x: It failed.",
    ]
    page = Page("t")
    add_failures(page, failures)
    assert "6 cells or datasets could not be run" in page.render() and GO_ON in page.render()
    add_failures(nothing := Page("t"), {})
    assert "<h2" not in nothing.render()


def test_settings_of_one_protocol_share_a_table(tmp_path: Path) -> None:
    """Those of one setting stand together, whatever the model."""
    for model in ("vits14", "vitb14"):
        for ks in ((3,), (3, 7)):
            results = fake_results(model, ks=ks)
            results.settings["ks"] = list(ks)
            results.write(tmp_path / model / str(len(ks)))
    fake_run(tmp_path / "three", "vits14", task="multiclass", dataset="three")
    material = read_material([tmp_path])
    (rows,) = study_tables(material, ()).values()
    assert [list(row) for row in rows] == [["model", "settings", "three", "toy"]] * 5
    assert [(row["settings"], row["model"]) for row in rows] == [
        (None, "vits14"),
        ("ks 3", "vitb14"),
        ("ks 3", "vits14"),
        ("ks 3, 7", "vitb14"),
        ("ks 3, 7", "vits14"),
    ]
    assert rows[0]["three"].value is not None and rows[0]["toy"] is None
    write_report(material, tmp_path / "out")
    assert "| vits14 | ks 3, 7 |" in (tmp_path / "out" / "report.md").read_text()


def test_of_several_test_sets_the_overview_comes_first(
    runs: Path, report: Path, page: Tree, tmp_path: Path
) -> None:
    write_report(read_material([runs / "a", runs / "b"]), tmp_path)
    alone = Tree((tmp_path / "report.html").read_text(encoding="utf-8"))
    overview = "Models by datasets and protocols"
    for tree, text, others in (
        (page, (report / "report.md").read_text(), ["Failed", overview]),
        (alone, (tmp_path / "report.md").read_text(), ["toy", overview]),
    ):
        assert tree.texts["h2"][:2] == others
        heads = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
        assert heads[:2] == others


def test_the_csv_equals_results_json(runs: Path, report: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((report / "report.csv").read_text())))
    found = {
        (r["run"], r["dataset"], r["test_set"], r["metric"], r["class"], r["setting"]): r
        for r in rows
    }
    assert len(found) == len(rows)
    values = []
    for path in sorted(runs.glob("*/results.json")):
        for metric in json.loads(path.read_text())["metrics"]:
            values.append(tuple(metric[k] for k in ("value", "ci_low", "ci_high", "n")))
    ours = [
        (*(float(r[k]) if r[k] else None for k in ("value", "ci_low", "ci_high")), int(r["n"]))
        for r in rows
    ]
    assert sorted(map(str, ours)) == sorted(map(str, values))
    assert {r["weights"] for r in rows} == {"file", "random"}


def test_different_test_sets_are_never_ranked_together(runs: Path) -> None:
    material = read_material([runs])
    assert [len(item.runs) for item in material.test_sets] == [1, 1, 2, 1]
    names = [item.name for item in material.test_sets]
    assert names == ["many", "three", "toy, test set 1 of 2", "toy, test set 2 of 2"]
    first = material.test_sets[2].runs
    values = [run.headline().value for run in first]  # type: ignore[union-attr]
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]


def test_the_setting_that_validation_chose_counts(runs: Path) -> None:
    (run,) = read_material([runs / "a"]).runs
    assert run.setting == run.results.chosen
    chosen = run.results.metric("auroc", **run.results.chosen)
    assert run.headline() == chosen


def test_one_model_twice_is_told_apart_by_what_differs(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "vits14")
    fake_run(tmp_path / "b", "vits14", weights="random")
    fake_run(tmp_path / "c", "vits14")
    labels = [run.label for run in read_material([tmp_path]).runs]
    assert len(set(labels)) == 3
    assert all(label.startswith("vits14") for label in labels)
    fake_run(tmp_path / "d", "vitb14")
    fake_run(tmp_path / "e", "vitb14", ks=(5,))
    labels = [run.label for run in read_material([tmp_path / "d", tmp_path / "e"]).runs]
    assert labels == ["vitb14 ks 3, 7", "vitb14 ks 5"]


def test_plots_are_written_for_papers(report: Path) -> None:
    plots = sorted((report / "plots").iterdir())
    assert {path.suffix for path in plots} == {".svg", ".pdf"}
    assert all(path.read_bytes().startswith((b"<?xml", b"%PDF")) for path in plots)
    assert len(plots) >= 20


def test_plots_of_an_earlier_report_are_told(runs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    write_report(read_material([runs / "a"]), tmp_path, Extras(plots=("svg",)), say=said.append)
    assert not any("earlier" in line for line in said)
    write_report(read_material([runs / "c"]), tmp_path, Extras(plots=("svg",)), say=said.append)
    assert any("4 plots of earlier reports" in line for line in said)


def test_the_same_runs_give_the_same_plots(runs: Path, report: Path, tmp_path: Path) -> None:
    write_report(read_material([runs / "a"]), tmp_path, Extras(plots=("svg", "pdf")))
    again = tmp_path / "again"
    write_report(read_material([runs / "a"]), again, Extras(plots=("svg", "pdf")))
    for path in (tmp_path / "plots").iterdir():
        assert path.read_bytes() == (again / "plots" / path.name).read_bytes(), path.name


def test_no_path_of_this_machine_is_in_the_report(runs: Path, report: Path) -> None:
    for path in report.glob("report.*"):
        assert str(runs) not in path.read_text(encoding="utf-8")


def test_engines_are_joined_by_their_key_only(runs: Path, page: Tree, tmp_path: Path) -> None:
    material = read_material([runs])
    joined = [
        item for test in material.test_sets for item in tradeoff.joined_with_benches(test, material)
    ]
    assert [(item.run.model, item.run.engine["key"][0]) for item in joined] == [("vits14", "a")]
    (item,) = joined
    assert (item.latency_ms, item.ms_per_image, item.joules) == (160.0, 20.0, 0.5)
    write_json(tmp_path / "bench.json", fake_bench("z" * 64))
    other = read_material([runs / "a"], [tmp_path])
    assert not tradeoff.joined_with_benches(other.test_sets[0], other)
    out = tmp_path / "out"
    write_report(other, out)
    assert "the engine keys differ" in (out / "report.html").read_text()


def test_of_protocols_on_as_many_engines_the_best_is_drawn(tmp_path: Path) -> None:
    fake_run(tmp_path / "run", "vits14", engine_key="a" * 64)
    write_json(tmp_path / "bench.json", fake_bench("a" * 64))
    material = read_material([tmp_path / "run"], [tmp_path])
    (best,) = tradeoff.joined_with_benches(material.test_sets[0], material)
    earlier = replace(best.run, results=replace(best.run.results, protocol="a-worse-one"))
    drawn = list(paretos(material.test_sets[0], [best, replace(best, run=earlier)]))
    assert drawn and all(" of knn on " in item.caption for item in drawn)


def test_provenance_is_told_in_words(tmp_path: Path) -> None:
    fake_run(tmp_path, "vits14")
    (run,) = read_material([tmp_path]).runs
    assert provenance_facts(run)["engine"] == "openvino 2026.1, fp32, batch 8"
    trained = {
        "engine": {"backend": "pytorch", "precision": "fp32", "weights_kind": "file"},
        "training": {"head": {"patch_mean": True, "blocks": 1}},
        "machine": {"cpu": {"instruction_sets": ["avx2", "fma"], "name": None}},
    }
    facts = provenance_facts(replace(run, results=replace(run.results, provenance=trained)))
    assert facts["engine"] == "pytorch, fp32"
    assert facts["training head"] == "patch_mean yes, blocks 1"
    assert facts["machine cpu"] == "instruction_sets avx2 fma, name none"
    assert not any(name.endswith("_s") for name in facts)


@pytest.mark.parametrize("seed", range(5))
def test_the_pareto_set_equals_a_literal_search(seed: int) -> None:
    random = np.random.default_rng(seed)
    costs = random.integers(0, 6, size=(40, 3)).astype(float)
    costs[3, 1] = np.inf
    literal = [
        not any(
            all(a <= b for a, b in zip(other, row, strict=True))
            and any(a < b for a, b in zip(other, row, strict=True))
            for other in costs
        )
        for row in costs
    ]
    np.testing.assert_array_equal(tradeoff.pareto_set(costs), literal)


def test_published_numbers_stand_apart(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "vitl14", task="multilabel", dataset="nih-chestxray14")
    material = read_material([tmp_path])
    rows = study_tables(material, published_for("nih-chestxray14"))["knn"]
    assert [row["model"] for row in rows] == ["vitl14", "model not stated, published by others"]
    assert rows[0]["nih-chestxray14"].value == material.runs[0].headline().value
    assert rows[1]["nih-chestxray14"] == "0.661 (published)"
    write_report(material, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Published by others" in text and "0.763" in text
    assert all(0 < value < 1 for item in PUBLISHED for value in item.values.values())


def test_bad_input_is_named(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_material([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="neither"):
        read_material([tmp_path])
    with pytest.raises(DataError, match="only benchmarks"):
        read_material([runs / "bench.json"])
    with pytest.raises(UnknownNameError, match="jpeg"):
        write_report(read_material([runs / "a"]), tmp_path / "o", Extras(plots=("jpeg",)))
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(DataError, match="no benchmark"):
        read_material([runs / "a"], [tmp_path])


def test_heads_and_gaps_stand_over_their_numbers() -> None:
    rows = [{"model": "a", "ms": 1.5, "how": "x"}, {"model": "b", "ms": None, "how": None}]
    page = Page("t")
    page.table(rows, "c", filterable=False)
    text = page.render()
    assert text.count('<th scope="col" class="number">') == 1
    assert '<td class="number">–</td><td>–</td>' in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.00468, "0.00468"), (0.5, "0.500"), (1.825, "1.82"), (13.9, "13.9"), (2535.4, "2535")],
)
def test_numbers_have_three_significant_digits(value: float, shown: str) -> None:
    assert format_number(value) == shown
    assert format_number(-value) == f"-{shown}"


def test_raw_json_is_not_printed(report: Path, page: Tree) -> None:
    assert [one for one in page.named("details") if one.get("class") == "raw"]
    assert ".raw { display: none; }" in STYLE and "details:not([open], .raw)" in SCRIPT


def test_what_all_runs_share_stands_once(report: Path, page: Tree, tmp_path: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    assert page.texts["summary"].count("The same for all 5 runs") == 1
    for once, each in (("graph sha256", False), ("engine key", True), ("split hash", True)):
        assert text.count(f">{once}</th>") == (5 if each else 1), once
    assert shared_facts([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}]) == {"a": 1}
    assert shared_facts([{"a": 1}]) == {} == shared_facts([])
    fake_run(tmp_path / "a")
    write_report(read_material([tmp_path / "a"]), tmp_path / "out")
    alone = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ">graph sha256</th>" in alone and "The same for all" not in alone


def test_of_many_classes_the_commonest_mistakes_are_named() -> None:
    few = confusion_rows(np.array([[3, 1], [0, 0]]), ("no", "yes"))
    assert [list(row) for row in few] == [["truth", "predicted no", "predicted yes"]] * 2
    assert (few[0]["predicted no"].text, few[1]["predicted yes"].text) == ("3 (75 %)", "0 (0 %)")
    counts = 9 * np.eye(31, dtype=np.int64)
    counts[4, [1, 2, 7, 9, 30]] = (2, 5, 1, 1, 1)
    rows = confusion_rows(counts, [f"c{at}" for at in range(31)])
    assert rows[4]["right"].text == "9 (47 %)" and rows[4]["truth"] == "c4 (19)"
    assert rows[4]["taken for"] == "c2 5; c1 2; c7 1; 2 more"
    assert rows[5]["taken for"] is None and len(rows) == 31


def test_notes_name_the_runs_that_they_are_of(runs: Path) -> None:
    (toy, *_) = [item for item in read_material([runs]).test_sets if len(item.runs) == 2]
    toy.runs[0].results.notes = ["of both", "of one", "* k = 3 has the best AUROC"]
    toy.runs[1].results.notes = ["of both"]
    assert notes_on(toy) == ["of both", f"{toy.runs[0].label}, knn: of one"]


def test_study_tables_name_their_metric(report: Path, page: Tree) -> None:
    assert "knn: AUROC [95 % interval]" in page.texts["span"]


def test_a_report_keeps_the_scores_that_it_shows_and_one_truth_of_a_test_set(
    tmp_path: Path,
) -> None:
    """Of 500 runs on 25,000 images all scores of all settings would take 8 GB."""
    for name, strength in (("a", 1.0), ("b", 2.0)):
        fake_run(tmp_path / name, ks=(3, 5, 7), strength=strength)
    one, two = read_material([tmp_path]).runs
    for run in (one, two):
        shown = run.predictions()
        assert shown is not None and [shown] == run.results.predictions
        assert shown.setting == run.setting
        base = shown.scores.base
        assert base is None or base.nbytes == shown.scores.nbytes
    assert one.results.sample_ids is two.results.sample_ids
    assert one.results.patients is two.results.patients
    assert one.results.labels is two.results.labels


class _Counted(list[MetricValue]):
    """Metrics that count how often they are gone through."""

    times = 0

    def __iter__(self) -> Iterator[MetricValue]:
        self.times += 1
        return super().__iter__()


def test_tables_of_many_classes_go_through_the_metrics_a_few_times() -> None:
    """Of 200 classes, three k and as many metrics there are 2,000 rows: not for each of them."""
    (run,) = labelled([fake_results()])
    whole = run.headline()
    assert whole is not None
    rows = _Counted([whole, *(replace(whole, class_name=f"class {i}") for i in range(300))])
    run = replace(run, results=replace(run.results, metrics=rows))
    (test_set,) = grouped([run])
    assert len(metric_rows(run)) == 301
    assert to_csv(Material((run,), (test_set,))).count("class 299") == 1
    assert rows.times < 20
