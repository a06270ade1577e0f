"""The report of a benchmark: Markdown for a repository, HTML for people, from `bench.json`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dinorad_rt.files import atomic_path
from dinorad_rt.reports.page import Page, format_number
from dinorad_rt.reports.pareto import Point, front_of, pareto_points
from dinorad_rt.reports.published import published_rows
from dinorad_rt.words import count_of

Row = Mapping[str, Any]
Series = dict[str, list[tuple[float, float]]]
MODE_WORDS = {"latency": "latency", "throughput": "throughput", "end_to_end": "end to end"}
_LEGEND = (
    "latency: one call at a time; throughput: calls in flight; end to end: from files to stored "
    "embeddings. A call takes one batch, with the copies in and out of the engine; engine only is "
    "the same without them. Of ceiling: arithmetic of the matrix products and convolutions over "
    "the machine's own matrix product in this run."
)


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


def table_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the report's main table."""
    return [_table_row(row) for row in _measured(document)]


def stage_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the time goes: images per second of each stage alone and of the whole.

    One row per model, size, backend and precision, at the batch that was measured end to end.
    """
    rows = _measured(document)
    return [_stage_row(row, rows) for row in rows if row["mode"] == "end_to_end"]


def skipped_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was left out and why, one row per reason and engine; batches and modes joined."""
    joined: dict[tuple[str, ...], dict[str, list[str]]] = {}
    keys = ("model", "image_size", "backend", "precision", "reason")
    for entry in document["skipped"]:
        lists = joined.setdefault(
            tuple(entry.get(key, "") for key in keys), {"batches": [], "modes": []}
        )
        lists["batches"].append(entry.get("batch", ""))
        lists["modes"].append(MODE_WORDS.get(entry.get("mode", ""), ""))
    heads = ("model", "px", "backend", "precision", "why")
    return [
        dict(zip(heads, key, strict=True))
        | {name: ", ".join(dict.fromkeys(filter(None, given))) for name, given in lists.items()}
        for key, lists in joined.items()
    ]


def _measured(document: Mapping[str, Any]) -> list[Row]:
    keys = ("model", "image_size", "precision", "backend", "batch", "mode")
    rows = [row for row in document["rows"] if row["runs"]]
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys))


def _table_row(row: Row) -> dict[str, Any]:
    latency, engine = row["latency_ms"] or {}, row["engine_ms"] or {}
    mfu = row["mfu"]
    return {
        "model": row["model"],
        "px": row["image_size"],
        "backend": row["backend"],
        "precision": row["precision"],
        "batch": row["batch"],
        "mode": MODE_WORDS[row["mode"]],
        "images/s": row["images_per_s"],
        **{f"{key} ms": latency.get(key) for key in ("p50", "p90", "p95", "p99")},
        "engine only ms": engine.get("p50"),
        "TFLOP/s": row["tflops"],
        "of ceiling %": None if mfu is None else 100 * mfu,
        "J/image": _joules(row),
        "build s": row["build_s"],
        "load s": row["load_s"],
        "first ms": row["first_ms"],
        "engine MB": row["engine_mb"],
        "activations MB": row["activations_mb"],
        "peak MB": row["peak_mb"],
        "clock MHz": _clock(row),
    }


def _stage_row(whole: Row, rows: Sequence[Row]) -> dict[str, Any]:
    keys = ("model", "image_size", "backend", "precision", "batch")
    same = {row["mode"]: row for row in rows if all(row[key] == whole[key] for key in keys)}
    latency, throughput = same.get("latency", {}), same.get("throughput", {})
    engine = latency.get("engine_ms")
    return {
        **{("px" if key == "image_size" else key): whole[key] for key in keys},
        "files": whole["runs"][0]["files"],
        "loader only": whole["loader_per_s"],
        "engine only": None if not engine else 1e3 * whole["batch"] / engine["p50"],
        "with transfers": latency.get("images_per_s"),
        "calls in flight": throughput.get("images_per_s"),
        "end to end": whole["images_per_s"],
    }


def _joules(row: Row) -> float | None:
    values = [sum(run["joules_per_image"].values()) for run in row["runs"]]
    values = [value for value in values if value > 0]
    return statistics.median(values) if values else None


def _clocks(row: Row, name: str) -> list[float]:
    """Clock rates at the ends of a row's measurements: of the GPU if there is one."""
    moments = [moment for run in row["runs"] for moment in run["clocks"]]
    gpus = [gpu[name] for moment in moments for gpu in moment["gpus"][:1]]
    cpus = [moment["cpu_mhz"] for moment in moments if moment["cpu_mhz"]]
    return gpus or cpus


def _clock(row: Row) -> float | None:
    rates = _clocks(row, "sm_mhz")
    return statistics.median(rates) if rates else None


def _head(document: Mapping[str, Any]) -> list[str]:
    machine, plan = document["machine"], document["plan"]
    gpus = ", ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in machine["gpus"])
    return [
        f"{document['date']}. Processor {machine['cpu']['model']}, {machine['cpu']['cores']} "
        f"cores; GPU {gpus or 'none'}; {machine['os']}; Python {machine['python']}.",
        *(
            f"Ceiling, {c['precision']} matrix product of side {c['size']} on {c['device']}: "
            f"{c['tflops']:.3f} TFLOP/s, measured in this run."
            for c in document["ceilings"]
        ),
        f"Each cell: {count_of(plan['repeats'], 'measurement')} of {plan['seconds']:g} s in random "
        f"order, each in a process of its own after {plan['cool_down']:g} s of rest; medians.",
        *_conditions(document),
    ]


def _conditions(document: Mapping[str, Any]) -> list[str]:
    """Energy counters, clocks and throttling, or that they cannot be read."""
    rows = _measured(document)
    notes = {run["energy_note"] for row in rows for run in row["runs"]} - {""}
    lines = [f"Energy: {note}." for note in sorted(notes)]
    rates = [rate for row in rows for rate in _clocks(row, "sm_mhz")]
    if rates:
        lines.append(f"Clock before and after each: {min(rates):.0f} to {max(rates):.0f} MHz.")
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
            lines += [f"## {title}", "", *_pipe_table(rows), ""]
    if document["skipped"]:
        lines += ["## Left out", "", *(f"- {_left_out(row)}" for row in skipped_rows(document))]
    return "\n".join(lines) + "\n"


def _pipe_table(rows: Sequence[Row]) -> list[str]:
    heads = list(rows[0])
    body = ["| " + " | ".join(_text(row[key]) for key in heads) + " |" for row in rows]
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *body]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return format_number(value) if isinstance(value, (int, float)) else str(value)


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
    _curves(page, document)
    page.heading("Roofline")
    _roofline(page, document)
    page.heading("Where the time goes")
    page.paragraph("Images per second of each stage alone, and of the whole.", soft=True)
    page.table(stage_rows(document), "Images per second by stage", filterable=False)
    if points:
        page.heading("Accuracy against latency")
        _pareto(page, points)
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


def _curves(page: Page, document: Mapping[str, Any]) -> None:
    from dinorad_rt.reports.plots import line_plot

    rows = _measured(document)
    for model, size in sorted({(row["model"], row["image_size"]) for row in rows}):
        mine = [row for row in rows if (row["model"], row["image_size"]) == (model, size)]
        with page.grid():
            for mode, value, label in (
                ("latency", lambda row: row["latency_ms"]["p50"], "median latency of a call, ms"),
                ("throughput", lambda row: row["images_per_s"], "images per second"),
            ):
                series = _series(mine, mode, value)
                if series:
                    svg = line_plot(series, x="batch, images per call", y=label, log="xy")
                    caption = f"{model}, {size} px: {label} against batch"
                    page.figure(svg, caption, alternative=f"{caption}. {_spoken(series)}")


def _series(rows: Sequence[Row], mode: str, value: Callable[[Row], float]) -> Series:
    series: Series = {}
    for row in rows:
        if row["mode"] == mode:
            name = f"{row['backend']} {row['precision']}"
            series.setdefault(name, []).append((row["batch"], value(row)))
    return series


def _spoken(series: Series) -> str:
    parts = (
        f"{name}: " + ", ".join(f"{format_number(y)} at {x:g}" for x, y in sorted(points))
        for name, points in series.items()
    )
    return "; ".join(parts)


def _roofline(page: Page, document: Mapping[str, Any]) -> None:
    from dinorad_rt.reports.plots import line_plot

    page.paragraph(
        "Work done per second against arithmetic per byte of weights read, if each call reads them "
        "once; the dashed line is the machine's own matrix product.",
        soft=True,
    )
    with page.grid():
        for ceiling in document["ceilings"]:
            series = _roof_series(document, ceiling)
            if not series:
                continue
            label = f"{ceiling['precision']} matrix product, {ceiling['tflops']:.2f} TFLOP/s"
            svg = line_plot(
                series,
                x="arithmetic per byte of weights, FLOP/B",
                y="TFLOP/s",
                ceiling=(label, ceiling["tflops"]),
            )
            alone = f" ({next(iter(series))})" if len(series) == 1 else ""
            kind = f"{ceiling['precision']} on {ceiling['device']}"
            caption = f"Roofline, {kind}: throughput against the ceiling{alone}"
            page.figure(svg, caption, alternative=f"{caption}, {label}. {_spoken(series)}")


def _roof_series(document: Mapping[str, Any], ceiling: Row) -> Series:
    series: Series = {}
    for row in _measured(document):
        low = "fp16" if row["precision"] == "mixed" else row["precision"]
        same = (row["device"], low) == (ceiling["device"], ceiling["precision"])
        if row["mode"] == "throughput" and same:
            name = f"{row['model']} {row['image_size']} px, {row['backend']}"
            intensity = 2 * row["macs"] * row["batch"] / (row["engine_mb"] * 1e6)
            series.setdefault(name, []).append((intensity, row["tflops"]))
    return series


def _pareto(page: Page, points: Sequence[Point]) -> None:
    from dinorad_rt.reports.plots import scatter_plot

    if any(point.random for point in points):
        page.warning("weights: random in some of these runs; their AUROC says nothing.")
    for dataset in sorted({point.dataset for point in points}):
        mine = [point for point in points if point.dataset == dataset]
        svg = scatter_plot(
            [(point.label, point.milliseconds, point.value) for point in mine],
            x="median latency of a call, ms",
            y="AUROC",
            front=front_of(mine),
        )
        page.figure(svg, f"{dataset}: AUROC against latency; grey: what no other engine beats")
    page.table([point.as_row() for point in points], "Evaluated and timed", filterable=False)
