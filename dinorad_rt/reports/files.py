"""The report as Markdown for a repository and CSV for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dinorad_rt.reports.markdown import pipe_table
from dinorad_rt.reports.mask_numbers import class_tables
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.runs import Run, TestSet
from dinorad_rt.reports.sections import (
    GO_ON,
    RANDOM,
    failure_lines,
    leaderboard_rows,
    leaderboard_words,
    notes_on,
    overview_first,
    published_rows,
    study_tables,
)
from dinorad_rt.reports.study_numbers import Published
from dinorad_rt.reports.table import excluded_words
from dinorad_rt.words import markdown_text, spreadsheet_cell

CSV_COLUMNS = (
    *("run", "dataset", "test_set", "protocol", "preset", "model", "weights", "weights_sha256"),
    *("backend", "precision", "engine_key", "preprocessing", "image_size", "setting", "counts"),
    *("metric", "class", "value", "ci_low", "ci_high", "n", "n_patients", "n_positive"),
    *("resamples", "undefined", "values", "dataset_fingerprint", "split_hash"),
)


def to_csv(material: Material) -> str:
    """Every metric of every run in full precision; `counts` is 1 under the run's own setting."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for test_set in material.test_sets:
        for run in test_set.runs:
            for row in _csv_rows(run, test_set.key[:12]):
                writer.writerow({key: spreadsheet_cell(value) for key, value in row.items()})
    return text.getvalue()


def _csv_rows(run: Run, test_set: str) -> Iterator[dict[str, Any]]:
    results, provenance = run.results, run.results.provenance
    preprocessing = provenance.get("preprocessing") or {}
    data = provenance.get("dataset") or {}
    weights = run.engine.get("weights")
    shared = {
        "run": run.label,
        "dataset": results.dataset,
        "test_set": test_set,
        "protocol": results.protocol,
        "preset": results.preset,
        "model": run.model,
        "weights": results.weights_kind,
        "weights_sha256": weights.get("sha256") if isinstance(weights, Mapping) else weights,
        "backend": run.engine.get("backend"),
        "precision": run.engine.get("precision"),
        "engine_key": run.engine.get("key"),
        "preprocessing": preprocessing.get("preset"),
        "image_size": preprocessing.get("image_size"),
        "dataset_fingerprint": data.get("fingerprint"),
        "split_hash": data.get("split_hash"),
    }
    for value in results.metrics:
        yield shared | {
            "setting": json.dumps(value.setting),
            "counts": int(value.setting == run.setting),
            "metric": value.name,
            "class": value.class_name,
            **{key: _exact(getattr(value, key)) for key in ("value", "ci_low", "ci_high")},
            "n": value.n,
            "n_patients": value.n_patients,
            "n_positive": value.n_positive,
            "resamples": value.resamples,
            "undefined": value.undefined,
            "values": json.dumps(list(value.values)),
        }


def _exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def to_markdown(
    title: str,
    material: Material,
    published: Sequence[Published],
    failures: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The tables of the report.

    Args:
        title: of the report.
        material: its runs.
        published: numbers of others to show beside them.
        failures: what could not be run: cell or dataset → why.
    """
    lines = [f"# {markdown_text(title)}", ""]
    if any(run.results.is_random for run in material.runs):
        lines += [f"> **{RANDOM}.**", ""]
    if failures:
        lines += ["## Failed", "", *_bullets(failure_lines(failures)), "", GO_ON, ""]
    overview = ["## Models by datasets and protocols", ""]
    for protocol, rows in study_tables(material, published).items():
        overview += [f"### {markdown_text(protocol)}", "", *pipe_table(rows), ""]
    sets = [line for test_set in material.test_sets for line in _test_set_lines(test_set)]
    lines += [*overview, *sets] if overview_first(material) else [*sets, *overview]
    if published:
        lines += ["## Published by others", "", *pipe_table(published_rows(published)), ""]
    return "\n".join(lines)


def _test_set_lines(test_set: TestSet) -> list[str]:
    """Leaderboard and notes of the runs on one test set."""
    lines = [
        f"## {markdown_text(test_set.name)}",
        "",
        f"{test_set.count_words}; 95 % intervals by patient. {leaderboard_words(test_set)}.",
    ]
    excluded = test_set.results.excluded_classes
    if excluded:
        lines += ["", f"Not in the macro mean: {markdown_text(excluded_words(excluded))}."]
    lines += ["", *pipe_table(leaderboard_rows(test_set)), ""]
    if test_set.results.task == "segmentation":
        for counted, rows in class_tables(test_set).items():
            lines += [f"Masks by class, {counted}:", "", *pipe_table(rows), ""]
    return [*lines, *_bullets(notes_on(test_set)), ""]


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {markdown_text(line)}" for line in lines]
