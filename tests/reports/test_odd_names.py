"""Names that strangers chose: no markup, no formula, no column of their own in any file."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from dinorad_rt.reports.cells import Link, cells_of
from dinorad_rt.reports.figures import Drawing, Estimate, forest_figure
from dinorad_rt.reports.look import STYLE
from dinorad_rt.reports.material import read_material
from dinorad_rt.reports.plots import scatter_plot, to_svg, wrapped
from dinorad_rt.reports.report import Extras, _named, write_report
from tests.reports.fake_runs import fake_run
from tests.reports.page_tree import Tree, assert_self_contained

DATASET = "<img src=x onerror=alert(1)> | *bold*\n# heading"
CLASSES = ('=HYPERLINK("http://x")', "<script>alert('1')</script>", 'a|b\nc"التهاب" 🫁')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs with such names."""
    out = tmp_path_factory.mktemp("odd")
    for task in ("multiclass", "binary"):
        fake_run(out / "runs" / task, task=task, dataset=DATASET, class_names=CLASSES)
    extras = Extras(title="- a | b\n# c", failures={"# x | y\nz": "<b>why</b>"})
    write_report(read_material([out / "runs"]), out / "report", extras)
    return out / "report"


def test_the_page_has_no_tag_of_theirs(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "alert('1')" not in text and "onerror=alert(1)>" not in text
    page = Tree(text)
    assert len(page.named("script")) == 1 and not page.named("img")
    assert_self_contained(text)


def test_markdown_tables_keep_their_columns_and_lines(folder: Path) -> None:
    lines = (folder / "report.md").read_text(encoding="utf-8").split("\n")
    width = 0
    for line in lines:
        bars = len(re.findall(r"(?<!\\)\|", line))
        width = bars if line.startswith("|") and not width else width if bars else 0
        assert bars in (0, width), line
    assert not any(re.search(r"(?<!\\)<(script|img|b)\b", line) for line in lines)
    assert [line for line in lines if line.startswith("# ")] == [r"# \- a \| b # c"]


def test_the_csv_has_no_formula_and_one_line_per_metric(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((folder / "report.csv").read_text(encoding="utf-8"))))
    assert {row["dataset"] for row in rows} == {DATASET}
    assert {row["class"] for row in rows} == {"", f"'{CLASSES[0]}", *CLASSES[1:]}
    assert all(None not in row and None not in row.values() for row in rows)


def test_names_that_are_no_utf8_are_written_too(tmp_path: Path) -> None:
    names = ("caf\udce9", "\udcc3\udcbc", "c")  # as Python reads such file names
    fake_run(tmp_path / "runs", dataset="d\udce9", class_names=names)
    write_report(read_material([tmp_path / "runs"]), tmp_path / "out", Extras(plots=("svg",)))
    for name in ("report.html", "report.md", "report.csv"):
        assert "d\ufffd" in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    name = r"$\frac$ 5$"
    drawn = to_svg(forest_figure([(name, Estimate(0, 0.5, 0.4, 0.6))], "AUROC"))
    assert name in drawn
    assert name in scatter_plot([(name, 1.0, 0.5), ("other", 2.0, 0.6)], x="ms", y="AUROC")


def test_a_long_name_without_a_blank_leaves_room_for_the_plot(
    recwarn: pytest.WarningsRecorder,
) -> None:
    to_svg(forest_figure([("x" * 400, Estimate(0, 0.5, 0.4, 0.6))], "AUROC"))
    scatter_plot([("y" * 400, 1.0, 0.5), ("z", 2.0, 0.6)], x="ms", y="AUROC")
    assert not recwarn.list


def test_every_plot_has_a_file_of_its_own_with_a_short_name() -> None:
    names = ("knn-roc", "knn-roc", "x" * 300, "x" * 301, "")
    found = _named([Drawing(name, "knn", None, "", "") for name in names])
    assert len(found) == len(names)
    assert all(0 < len(name) < 140 for name in found)


def test_a_long_name_may_take_lines_in_its_cell() -> None:
    name = "vit_" * 30
    cells = cells_of({"run": Link(name, "run-1"), "class": name, "short": "lung"}, ("run", "class"))
    assert cells.count('<span class="long">') == 2
    assert ".long { display: block; min-width: 14rem; max-width: 28rem;" in STYLE
    assert "long" not in cells_of({"short": "lung"}, ("short",))


def test_names_of_models_break_after_underscores() -> None:
    name = "vit_large_patch14_reg4_dinov2_lvd142m_finetuned_on_set_11_x"
    assert wrapped(name, 52).split("\n") == [
        "vit_large_patch14_reg4_dinov2_lvd142m_finetuned_on_",
        "set_11_x",
    ]
    assert wrapped("x" * 60, 52).split("\n") == ["x" * 52, "x" * 8]
    assert wrapped("0.9\u00a0[0.8,\u00a01.0]", 8) != "0.9\n[0.8,\n1.0]"
