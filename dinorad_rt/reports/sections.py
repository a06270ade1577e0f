"""The parts of the HTML report, each added to the page from the same material."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from dinorad_rt.metrics.specs import measured
from dinorad_rt.reports.cells import Interval, Link, interval
from dinorad_rt.reports.figures import Drawing
from dinorad_rt.reports.mask_numbers import COUNTED_HOW, class_tables
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.plots import to_svg
from dinorad_rt.reports.runs import Run, TestSet
from dinorad_rt.reports.study_numbers import ALL, Published
from dinorad_rt.reports.table import excluded_words, title_of, unit_of
from dinorad_rt.reports.tradeoff import Joined, pareto_set
from dinorad_rt.words import count_of

RANDOM = (
    "weights: random. The numbers of these runs test the machinery; they say nothing of a backbone"
)
TASKS = {
    "binary": "Binary",
    "multiclass": "Multi-class",
    "multilabel": "Multi-label",
    "segmentation": "Segmentation",
}
CHOICE = "* "
"""How a note begins that belongs to the marked setting of a table."""
NAMED_RUNS = 3
"""Of a note that is not of all runs, and of a reason why several failed."""
GO_ON = "Run the same command again to go on: what is finished is kept."
ALSO = ("average_precision", "balanced_accuracy", "jaccard", "hd95", "nsd")


def add_head(page: Page, material: Material) -> None:
    """What the report holds, and what nobody may miss."""
    random = [run for run in material.runs if run.results.is_random]
    if random:
        page.warning(f"{RANDOM}: {len(random)} of {count_of(len(material.runs), 'run')}.")
    images = "; ".join(
        f"{item.name}: {count_of(len(item.runs), 'run')} on {item.count_words}"
        for item in material.test_sets
    )
    page.paragraph(f"{images}.")
    page.paragraph(
        "Intervals are 95 % intervals by patient. Where two overlap, a table does not say which "
        "run is better: dinorad-rt compare does, on the same patients.",
        soft=True,
    )
    if len(material.test_sets) > 1:
        page.paragraph(
            "Runs on different test images stand apart: their numbers cannot be ranked together.",
            soft=True,
        )


def add_failures(page: Page, failures: Mapping[str, str]) -> None:
    """What could not be run and why, if anything."""
    if not failures:
        return
    page.heading("Failed")
    page.warning(f"{_failed(failures)} could not be run; the others are below.")
    page.bullets(failure_lines(failures))
    page.paragraph(GO_ON, soft=True)


def _failed(failures: Mapping[str, str]) -> str:
    return count_of(len(failures), "cell or dataset", "cells or datasets")


def failure_lines(failures: Mapping[str, str]) -> list[str]:
    """Each reason once, with what failed for it."""
    reasons: dict[str, list[str]] = {}
    for name, why in failures.items():
        reasons.setdefault(why, []).append(name)
    return [f"{_few(names)}: {why}" for why, names in reasons.items()]


def _few(names: Sequence[str]) -> str:
    """The first of some names, and how many others there are."""
    more = len(names) - NAMED_RUNS
    return "; ".join(names[:NAMED_RUNS]) + (f"; and {count_of(more, 'other')}" if more > 0 else "")


def add_test_set(page: Page, test_set: TestSet, drawings: Sequence[Drawing]) -> None:
    """Leaderboard and plots of the runs on one test set."""
    page.heading(test_set.name)
    page.paragraph(f"{TASKS[test_set.results.task]} task, {test_set.count_words}.", soft=True)
    rows = leaderboard_rows(test_set)
    page.table(
        rows,
        f"Runs on {test_set.name}. {leaderboard_words(test_set)}{_bar_words(rows)}",
        filterable=len(test_set.runs) > 5,
    )
    if test_set.results.task == "segmentation":
        for counted, rows in class_tables(test_set).items():
            page.table(
                rows,
                f"Masks of {test_set.name} by class, {counted}: {COUNTED_HOW[counted]}",
                filterable=len(rows) > 8,
            )
    excluded = test_set.results.excluded_classes
    if excluded:
        page.paragraph(f"Not in the macro mean: {excluded_words(excluded)}.", soft=True)
    page.bullets(notes_on(test_set))
    for protocol, group in groupby(drawings, lambda drawing: drawing.protocol):
        page.heading(f"{test_set.name}: {protocol}", level=3)
        _add_grid(page, group)


def _add_grid(page: Page, drawings: Iterable[Drawing]) -> None:
    with page.grid():
        for drawing in drawings:
            page.figure(to_svg(drawing.figure), drawing.caption, alternative=drawing.alternative)


def leaderboard_rows(test_set: TestSet) -> list[dict[str, Any]]:
    """One row per run: the main metric with a bar, others beside it, and what ran."""
    values = [value for run in test_set.runs if (value := run.headline()) is not None]
    ends = [e for v in values for e in (v.value, v.ci_low, v.ci_high) if e is not None]
    chance = 0.5 if values and values[0].name == "auroc" else 0.0
    axis = (min([chance, *ends]), max([1.0, *ends]))
    main = title_of(values[0].name) if values else "value"
    unit = unit_of(test_set.results)
    also = [name for name in ALSO if any(run.headline(name) for run in test_set.runs)]
    masks = test_set.results.task == "segmentation"  # all of one protocol and one way of counting
    return [
        {
            "run": Link(run.label, run.anchor),
            main: interval(run.headline(), axis),
            **({} if masks else {"protocol": run.results.protocol}),
            **{title_of(name, unit): interval(run.headline(name)) for name in also},
            "weights": run.results.weights_kind,
            **({} if masks else {"setting": run.setting_words}),
        }
        for run in test_set.runs
    ]


def _bar_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Over which values the bars of a leaderboard reach; all have the same axis."""
    for value in (value for row in rows for value in row.values()):
        if isinstance(value, Interval) and value.start is not None and value.end is not None:
            return f". Bars from {value.start:.2g} to {value.end:.2g}"
    return ""


def leaderboard_words(test_set: TestSet) -> str:
    """How the rows of a leaderboard are ordered, and what chose what they show."""
    if test_set.results.task == "segmentation":
        return "Best first by the mean over the cases; test chose nothing"
    return "Best first; the setting of each was fixed or chosen on validation, never on test"


def notes_on(test_set: TestSet) -> list[str]:
    """What a reader of the runs' numbers must know, each note once, with its runs if not of all.

    How each run's setting was chosen stands with that run.
    """
    runs: dict[str, list[Run]] = {}
    for run in test_set.runs:
        for note in dict.fromkeys(run.results.notes):
            if not note.startswith(CHOICE):
                runs.setdefault(note, []).append(run)
    notes = []
    for note, noted in runs.items():
        whose = _few([f"{run.label}, {run.results.protocol}" for run in noted])
        notes.append(note if len(noted) == len(test_set.runs) else f"{whose}: {note}")
    return notes


def overview_first(material: Material) -> bool:
    """Of several test sets the study table is looked for first; of one the leaderboard says it."""
    return len(material.test_sets) > 1


def add_study_table(page: Page, material: Material, published: Sequence[Published]) -> None:
    """Models × datasets for each protocol, as the study lays its tables out."""
    page.heading("Models by datasets and protocols")
    for protocol, rows in study_tables(material, published).items():
        caption = f"{protocol}: {_judged_by(material, protocol)} [95 % interval]"
        if any("published" in row["model"] for row in rows):
            caption += "; rows marked as published were read from others' work, never measured here"
        page.table(rows, caption, filterable=len(rows) > 8)


def _judged_by(material: Material, protocol: str) -> str:
    """The main metrics of the runs of a study table, in words."""
    values = [
        run.headline()
        for test_set in material.test_sets
        for run in test_set.runs
        if run.results.protocol == protocol
    ]
    return ", ".join(dict.fromkeys(title_of(value.name) for value in values if value))


def study_tables(
    material: Material, published: Sequence[Published]
) -> dict[str, list[dict[str, Any]]]:
    """Protocol → one row per model, one column per dataset; published values in rows of their own.

    Where runs of one model and protocol differ in their settings, each has a row, and those of one
    setting stand together. A model's few-shot values for the whole training set stand with the
    linear probe: there the study's few-shot curve ends in it.
    """
    tables: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for test_set in material.test_sets:
        for run in test_set.runs:
            rows = tables.setdefault(run.results.protocol, {})
            row = rows.setdefault((run.name, run.variant), {})
            row[test_set.name] = interval(run.headline())
    for item in published:
        protocol = "linear" if item.protocol == "few-shot" else item.protocol
        if protocol in tables and ALL in item.values:
            row = tables[protocol].setdefault((f"{item.model}, published by others", ""), {})
            row[item.dataset] = f"{measured(item.metric, item.values[ALL])} (published)"
    return {protocol: _aligned(rows) for protocol, rows in sorted(tables.items())}


def _aligned(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the same columns, ours first; settings have one if any differ."""
    columns = sorted({column for row in rows.values() for column in row})
    varied = any(variant for _, variant in rows)
    ordered = sorted(rows, key=lambda key: ("published" in key[0], key[1], key[0]))
    return [
        {
            "model": name,
            **({"settings": variant or None} if varied else {}),
            **{c: rows[name, variant].get(c) for c in columns},
        }
        for name, variant in ordered
    ]


def add_published(page: Page, published: Sequence[Published]) -> None:
    """Numbers of others for the datasets of this report."""
    if not published:
        return
    page.heading("Published by others")
    page.paragraph(
        "Read from the study's public material, not measured here; other images may have been "
        "used, and no interval was given.",
        soft=True,
    )
    page.table(published_rows(published), "Published numbers", filterable=False)


def published_rows(published: Sequence[Published]) -> list[dict[str, Any]]:
    """One row per published series; columns are the shots."""
    shots = list(dict.fromkeys(at for item in published for at in item.values))
    return [
        {
            "model": item.model,
            "dataset": item.dataset,
            "protocol": item.protocol,
            "metric": title_of(item.metric),
            **{str(at): item.values.get(at) for at in shots},
            "source": item.source,
        }
        for item in published
    ]


def add_pareto(
    page: Page, parts: Sequence[tuple[TestSet, Sequence[Joined], Sequence[Drawing]]], benches: int
) -> None:
    """Accuracy × latency × energy of the same engines."""
    page.heading("Accuracy, latency and energy")
    if not any(joined for _, joined, _ in parts):
        page.paragraph(
            "None of the benchmarks measured an engine of these runs: the engine keys differ. "
            "dinorad-rt report RUNS... --time measures these engines themselves."
            if benches
            else "Nothing was measured. dinorad-rt report RUNS... --time times the engines of the "
            "runs; --bench DIR takes what dinorad-rt bench measured of the same engines."
        )
        return
    page.paragraph(
        "Joined on the engine key: what was timed is the engine that made the embeddings.",
        soft=True,
    )
    notes = {item.energy_note for _, joined, _ in parts for item in joined} - {""}
    page.bullets([f"Energy: {note}" for note in sorted(notes)])
    for test_set, joined, drawings in parts:
        if joined:
            page.table(
                pareto_rows(joined), f"{test_set.name}: accuracy and speed", filterable=False
            )
            _add_grid(page, drawings)


def pareto_rows(joined: Sequence[Joined]) -> list[dict[str, Any]]:
    """One row per run that was timed."""
    costs = np.array([item.costs for item in joined])
    main = ", ".join(dict.fromkeys(title_of(item.value.name) for item in joined))
    return [
        {
            "run": Link(item.run.label, item.run.anchor),
            "protocol": item.run.results.protocol,
            main: interval(item.value),
            "batch": item.batch,
            "median ms per call": item.latency_ms,
            "images/s": item.images_per_s,
            "J/image": item.joules,
            "beaten by no other": bool(keep),
            "engine key": str(item.run.engine.get("key"))[:12],
        }
        for item, keep in zip(joined, pareto_set(costs), strict=True)
    ]
