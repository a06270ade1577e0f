"""Runs that were cut, mixed up or edited: said with the run's name, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dinorad_rt.errors import DataError
from dinorad_rt.reports.material import read_material
from dinorad_rt.reports.results import Results
from tests.reports.fake_runs import fake_run

Document = dict[str, Any]


def set_to(key: str, value: Any) -> Callable[[Document], None]:
    return lambda document: document.__setitem__(key, value)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "runs" / "my-run")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_to("task", "regression"), "task is 'regression'"),
        (set_to("provenance", None), "provenance is nothing"),
        (set_to("provenance", {"engine": "openvino"}), "engine is a text"),
        (set_to("settings", []), "settings is a list"),
        (set_to("class_names", [1, 2]), "class_names"),
        (set_to("metrics", ["auroc"]), "metric 1 is a text"),
        (lambda d: d["metrics"][0].__setitem__("value", "0.9"), "metric 1, value is a text"),
        (lambda d: d["metrics"][1].__setitem__("setting", None), "metric 2, setting is nothing"),
        (lambda d: d.pop("task"), "lacks task"),
    ],
)
def test_a_damaged_results_file_is_named(
    run: Path, change: Callable[[Document], None], told: str
) -> None:
    path = run / "results.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="my-run") as caught:
        Results.open(run)
    assert told in caught.value.problem and caught.value.fix


def test_a_cut_file_and_a_folder_of_its_name_are_named(run: Path) -> None:
    path = run / "results.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match="my-run is no results file"):
        Results.open(run)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="my-run is no results file"):
        Results.open(run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.slice(0, 0), "no row"),
        (lambda table: table.slice(0, 50), "50 rows of 2 settings, results.json 40 test images"),
        (lambda table: table.drop_columns(["scores"]), "lacks scores"),
        (lambda table: wider(table), "scores of 3 classes, results.json 2"),
        (lambda table: wider(table, "labels"), "its labels are not those of a binary task"),
    ],
)
def test_scores_that_are_not_those_of_the_results_are_named(
    run: Path, change: Callable[[pa.Table], pa.Table], told: str
) -> None:
    path = run / "predictions.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    assert Results.open(run).metrics
    with pytest.raises(DataError, match="my-run") as caught:
        Results.open(run, predictions=True)
    assert told in caught.value.problem


def wider(table: pa.Table, name: str = "scores") -> pa.Table:
    """The same with one more score, or label, in each row."""
    values = pa.array([[*row, 0] for row in table[name].to_pylist()], table[name].type)
    return table.set_column(table.column_names.index(name), name, values)


def test_a_run_counts_once_however_it_is_spelled(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    spellings = [run, run / "results.json", tmp_path / "link", run / ".." / "my-run", run.parent]
    assert len(read_material(spellings).runs) == 1


def test_a_benchmark_with_damaged_rows_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text('{"kind": "bench", "rows": [null]}')
    with pytest.raises(DataError, match="no benchmark"):
        read_material([run], [tmp_path])
