"""The report of a benchmark: Markdown for a repository, HTML for people, from `bench.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dinorad_rt.files import atomic_path
from dinorad_rt.reports.bench_plots import add_curves, add_pareto, add_roofline
from dinorad_rt.reports.bench_rows import (
    Row,
    clock_rates,
    measured_rows,
    skipped_rows,
    stage_rows,
    table_rows,
)
from dinorad_rt.reports.cells import format_number
from dinorad_rt.reports.markdown import pipe_table
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.pareto import Point, pareto_points
from dinorad_rt.reports.published import published_rows
from dinorad_rt.words import count_of

_LEGEND = (
    "latency: one call at a time; throughput: calls in flight; end to end: from files to stored "
    "embeddings. A call takes one batch, with the copies in and out of the engine; engine only is "
    "the same without them. Of ceiling: arithmetic of the matrix products and convolutions over "
    "the machine's own matrix product in this run. Of fewer than 100 calls the p99 is the slowest."
)
OVER_CEILING = 1.05
"""Share of the ceiling from which on the ceiling itself is in doubt."""


def write_bench_report(
    document: Mapping[str, Any], out: Path, results: Iterable[Path] = ()
) -> tuple[Path, Path]:
    """Write `bench.md` and `bench.html` beside `bench.json`.

    Args:
        document: content of `bench.json`.
        out: folder.
        results: folders of `eval` runs, for accuracy against latency.

    Returns:
        Paths of the two files.

    Raises:
        DataError: a run in `results` has no AUROC, or nothing of it was timed.
    """
    points = pareto_points(document, results)
    targets = out / "bench.md", out / "bench.html"
    texts = _markdown(document, points), _html(document, points)
    for target, text in zip(targets, texts, strict=True):
        with atomic_path(target) as part:
            part.write_text(text, encoding="utf-8")
    return targets


def _head(document: Mapping[str, Any]) -> list[str]:
    machine, plan = document["machine"], document["plan"]
    gpus = ", ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in machine["gpus"])
    return [
        f"{_moment(document['date'])}. Processor {machine['cpu']['model']}, "
        f"{count_of(machine['cpu']['cores'], 'core')}; GPU {gpus or 'none'}; {machine['os']}; "
        f"Python {machine['python']}.",
        *(
            f"Ceiling, {c['precision']} matrix product of side {c['size']} on {c['device']}: "
            f"{format_number(c['tflops'])} TFLOP/s, measured in this run."
            for c in document["ceilings"]
        ),
        *_over_ceiling(document),
        f"Each cell: {count_of(plan['repeats'], 'measurement')} of {plan['seconds']:g} s in random "
        f"order, each in a process of its own after {plan['cool_down']:g} s of rest; medians.",
        *_conditions(document),
    ]


def _moment(date: str) -> str:
    """`2026-11-27 08:32 UTC` of an ISO date with its time zone; other text as it is."""
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        return date
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment.tzinfo else date


def _over_ceiling(document: Mapping[str, Any]) -> list[str]:
    """That a ceiling is none, where cells are above it."""
    over = sum((row["mfu"] or 0) > OVER_CEILING for row in measured_rows(document))
    if not over:
        return []
    return [
        f"{count_of(over, 'cell')} ran faster than the ceiling: the machine's speed changed during "
        "the run, by other load or its clock. Shares of the ceiling, and cells among each other, "
        "are in doubt."
    ]


def _conditions(document: Mapping[str, Any]) -> list[str]:
    """Energy counters, clocks and throttling, or that they cannot be read."""
    rows = measured_rows(document)
    notes = {run["energy_note"] for row in rows for run in row["runs"]} - {""}
    lines = [f"Energy: {note}." for note in sorted(notes)]
    rates = [rate for row in rows for rate in clock_rates(row, "sm_mhz")]
    if rates:
        ends = " to ".join(dict.fromkeys(f"{rate:.0f}" for rate in (min(rates), max(rates))))
        lines.append(f"Clock before and after each: {ends} MHz.")
    else:
        lines.append("Clock: the system does not tell.")
    moments = [moment for row in rows for run in row["runs"] for moment in run["clocks"]]
    if any(moment["gpus"] for moment in moments):
        seen = {why for moment in moments for gpu in moment["gpus"] for why in gpu["throttle"]}
        lines.append(f"Throttling: {', '.join(sorted(seen)) or 'none seen'}.")
    else:
        lines.append("Throttling: no GPU, and a processor does not report it.")
    return lines


def _markdown(document: Mapping[str, Any], points: Sequence[Point]) -> str:
    lines = ["# Benchmark", ""]
    if document["weights"] == "random":
        lines += ["Weights: random (speed does not depend on them).", ""]
    lines += [f"{line}\n" for line in (*_head(document), _LEGEND)]
    parts = {
        "Engines": table_rows(document),
        "Where the time goes, images per second": stage_rows(document),
        "Accuracy against latency": [point.as_row() for point in points],
        "Published by others, on other machines and other harnesses": published_rows(),
    }
    for title, rows in parts.items():
        if rows:
            lines += [f"## {title}", "", *pipe_table(rows), ""]
    if document["skipped"]:
        lines += ["## Left out", "", *(f"- {_left_out(row)}" for row in skipped_rows(document))]
    return "\n".join(lines) + "\n"


def _left_out(row: Row) -> str:
    """One line: what, then why."""
    size = f"{row['px']} px" if row["px"] else ""
    batches = f"batches {row['batches']}" if row["batches"] else ""
    parts = (row["model"], size, row["backend"], row["precision"], batches, row["modes"])
    return f"{', '.join(filter(None, parts))}: {row['why']}"


def _html(document: Mapping[str, Any], points: Sequence[Point]) -> str:
    page = Page("dinorad-rt benchmark")
    if document["weights"] == "random":
        page.warning("weights: random. Speed does not depend on them; accuracy is not shown.")
    page.bullets(_head(document))
    page.heading("Latency and throughput")
    add_curves(page, document)
    page.heading("Roofline")
    add_roofline(page, document)
    stages = stage_rows(document)
    if stages:
        page.heading("Where the time goes")
        page.paragraph("Images per second of each stage alone, and of the whole.", soft=True)
        page.table(stages, "Images per second by stage", filterable=False)
    if points:
        page.heading("Accuracy against latency")
        add_pareto(page, points)
    page.heading("Every cell")
    page.paragraph(_LEGEND, soft=True)
    page.table(table_rows(document), "One row per engine, batch and mode; medians")
    if document["skipped"]:
        page.heading("Left out")
        page.bullets([_left_out(row) for row in skipped_rows(document)])
    page.heading("Published by others")
    page.paragraph("Other machines and other harnesses: for orientation only.", soft=True)
    page.table(published_rows(), "Published images per second")
    page.details("Everything measured, as JSON", json.dumps(document, indent=1))
    return page.render()
