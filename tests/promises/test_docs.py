"""The reference part of the site says what the code does."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def reference() -> Any:
    """The module that makes the generated pages."""
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        import reference
    finally:
        sys.path.remove(str(DOCS / "_ext"))
    return reference


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """A section of a page, down to the next title of its level."""
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M)
    return str(found)


def first_cells(text: str) -> set[str]:
    """Names in code in the first column of the tables."""
    cells = re.findall(r"^\| ([^|]+) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_verb_and_option_is_in_the_reference(reference: Any) -> None:
    from typer.main import get_command

    from dinorad_rt.cli.verbs import VERBS, app

    program: Any = get_command(app)
    pages = reference.verb_pages()
    assert list(pages) == list(VERBS)
    for verb in VERBS:
        command = program.get_command(None, verb)
        told = re.findall(r"^:::\{option\} (.+)$", pages[verb], flags=re.MULTILINE)
        spelled = [name for line in told for name in re.findall(r"(?:^|, )(--?[\w-]+)", line)]
        wanted = [
            name
            for one in getattr(command, "commands", {"": command}).values()
            for option in one.params
            if option.param_type_name == "option" and option.name != "help"
            for name in (*option.opts, *option.secondary_opts)
        ]
        assert sorted(spelled) == sorted(wanted), verb


def test_pages_are_those_of_the_verbs(reference: Any, tmp_path: Path) -> None:
    from dinorad_rt.cli.verbs import VERBS

    folder = tmp_path / "reference" / "cli"
    folder.mkdir(parents=True)
    (folder / "evaluate.md").write_text("# a verb of an older version", encoding="utf-8")
    reference.write_pages(tmp_path)
    assert {path.stem for path in folder.iterdir()} == set(VERBS)


def test_values_and_defaults_are_told(reference: Any) -> None:
    pages = reference.verb_pages()
    assert "Default: `vits14`." in pages["eval"]
    assert "Default: `0`." in pages["eval"]
    assert "0 to 4294967295." in pages["eval"]
    assert "One of `dice`, `dice-ce`." in pages["train"]
    assert "On by default." in pages["bench"]
    assert "`--protocol`" in pages["train"]


def test_words_of_help_are_no_markup(reference: Any) -> None:
    assert reference.marked("dice_pooled <x> *") == r"dice\_pooled \<x\> \*"
    assert reference.marked("as `list models` or --model") == "as `list models` or `--model`"
    assert reference.table([{"a": "x|y"}]) == "| a |\n| --- |\n| x\\|y |"


def test_links_of_included_files_lead_to_pages(reference: Any) -> None:
    text = ["[a](README.md#x), [b](export/README.md), [c](https://x.org/y), [d](LICENSE)"]
    reference.turn_links(DOCS, Path("../ARCHITECTURE.md"), text)
    assert text == ["[a](../index.md#x), [b](export.md), [c](https://x.org/y), [d](LICENSE)"]


def test_every_setting_of_every_protocol_is_told(reference: Any) -> None:
    from dinorad_rt.protocols.registry import PROTOCOLS

    tables = reference.tables()
    for entry in PROTOCOLS.values():
        known = set(entry.settings_class().preset("dinorad").as_dict()) - {"preset_name"}
        shown = tables[f"settings_{entry.name.replace('-', '_')}"]
        assert first_cells(shown) == known, entry.name
        assert "|  |" not in shown, entry.name


def test_every_table_is_used_and_every_use_has_one(reference: Any) -> None:
    used = {
        name
        for path in DOCS.rglob("*.md")
        for name in re.findall(r"^\{\{ (\w+) \}\}$", path.read_text("utf-8"), flags=re.MULTILINE)
    }
    assert used == set(reference.tables())


def test_every_public_name_is_in_the_reference(reference: Any) -> None:
    from dinorad_rt import api

    tables = reference.tables()
    shown = {
        kind: re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)$", tables[kind], re.M)
        for kind in ("functions", "classes")
    }
    assert sorted(shown["functions"] + shown["classes"]) == sorted(api.__all__)
    assert "evaluate" in shown["functions"] and "Results" in shown["classes"]
    assert ".. autoexception:: DinoradError" in tables["classes"]


def test_the_example_study_holds_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dinorad_rt.campaign import reader
    from dinorad_rt.campaign.study import read_study_file

    for name in ("dinov2-vitb14", "montgomery-tb", "nih", "bench"):
        (tmp_path / name).mkdir()
    keys: dict[str, set[str]] = {}
    refuse = reader.Table.refuse_unknown

    def spied(table: reader.Table) -> None:
        keys.setdefault(re.sub(r" \d+$", "", table.where), set()).update(table._asked)
        refuse(table)

    monkeypatch.setattr(reader.Table, "refuse_unknown", spied)
    example = DOCS / "howto" / "study.toml"
    read_study_file(example, root=tmp_path)
    found = tomllib.loads(example.read_text(encoding="utf-8"))
    assert set(found) == keys.pop("the file")
    told = page("study-file.md")
    assert first_cells(section(told, "Top")) == {k for k, v in found.items() if is_plain(v)}
    for where, known in keys.items():
        tables = found[where.strip("[]")]
        tables = tables if isinstance(tables, list) else [tables]
        assert set().union(*tables) == known, where
        part = section(told, f"`{where}`")
        named = first_cells(part) or set(re.findall(r"`(\w+)`", part))
        assert named == known, where


def is_plain(value: Any) -> bool:
    """Neither a table nor a list of tables."""
    first = value[0] if isinstance(value, list) else value
    return not isinstance(first, dict)


def test_keys_of_results_are_told() -> None:
    from dinorad_rt.reports.results import MetricValue, Results

    empty = Results("knn", "binary", "x", (), [], {}, {}, ())
    told = section(page("files.md"), "results.json")
    document, _, row = told.partition("A row of `metrics`")
    assert first_cells(document) == set(empty.as_dict())
    assert first_cells(row) == {item.name for item in fields(MetricValue)}


def test_columns_of_the_tables_are_told(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from dinorad_rt.embeddings.shards import Layout
    from dinorad_rt.embeddings.store import _write_failures
    from dinorad_rt.metrics.cases import _COLUMNS
    from dinorad_rt.prediction import table
    from dinorad_rt.reports.schema import FIXED_COLUMNS

    told = page("files.md")
    assert first_cells(section(told, "predictions.parquet of an evaluation")) == set(FIXED_COLUMNS)
    assert first_cells(section(told, "Shards of a store")) == set(
        Layout("", (1, 2), 2).schema().names
    )
    _write_failures(tmp_path / "failures.parquet", [])
    names = set(pq.read_schema(tmp_path / "failures.parquet").names)
    assert first_cells(section(told, "failures.parquet")) == names
    columns = {*_COLUMNS, "unit", "true_ml", "predicted_ml"}
    assert first_cells(section(told, "cases.parquet")) == columns
    kinds = {"probability_CLASS": "float", "predicted": "text"}
    kinds |= {"volume_ml_CLASS": "float", "mask": "text"}
    answers = table.AnswerTable(tmp_path / "out", {}, kinds, with_files=True)
    assert first_cells(section(told, "Answers of predict")) == set(answers._schema().names)


def test_keys_of_bench_are_told() -> None:
    from dinorad_rt.benchmarking.ceiling import Ceiling
    from dinorad_rt.benchmarking.cell import Cell
    from dinorad_rt.benchmarking.pace import TimeLimit
    from dinorad_rt.benchmarking.summary import FACTS, summarise
    from dinorad_rt.benchmarking.sweep import Sweep, SweepPlan

    told = section(page("files.md"), "bench.json")
    sweep = Sweep(SweepPlan(("m",), ("b",)), TimeLimit(None))
    assert first_cells(told) == set(sweep.as_dict())
    cell = Cell("m", "b", "fp32", 224, 1, "latency", "")
    run = {"images_per_s": 1.0, "memory_mb": {"peak": 1.0, "running": {"resident": 1.0}}}
    row = {"cell": cell, "runs": [run], **dict.fromkeys(FACTS, 0)}
    ceilings: list[Ceiling] = []
    named = set(re.findall(r"`(\w+)`", told.partition("A row:")[2]))
    assert named == set(summarise(row, ceilings))


def test_every_variable_and_exit_code_is_told() -> None:
    told = page("environment.md")
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "dinorad_rt").rglob("*.py")
    )
    read = set(re.findall(r'environ(?:\.get\(|\[|\.setdefault\()"([A-Z_]+)"', text))
    read |= set(re.findall(r'"([A-Z_]+)" (?:not )?in os\.environ', text))
    read |= set(re.findall(r'_VARIABLE(?:: \w+)? = "([A-Z_]+)"', text))
    assert len(read) > 8
    assert {name for name in read if f"`{name}" not in told} == set()
    codes = set(re.findall(r"^\| ([\d, ]+) \|", section(told, "Exit codes"), flags=re.MULTILINE))
    numbers = {int(code) for cell in codes for code in cell.split(", ")}
    assert numbers == {0, 1, 2, 3, 129, 130, 141, 143}
