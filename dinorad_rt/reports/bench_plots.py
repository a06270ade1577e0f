"""Plots of a benchmark: latency and throughput against batch, the roofline, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dinorad_rt.reports.bench_rows import Row, measured_rows
from dinorad_rt.reports.cells import format_number
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.pareto import Point
from dinorad_rt.reports.tradeoff import front

Series = dict[str, list[tuple[float, float]]]


def add_curves(page: Page, document: Mapping[str, Any]) -> None:
    """Latency and throughput of each model and size against batch."""
    from dinorad_rt.reports.plots import line_plot

    rows = measured_rows(document)
    for model, size in sorted({(row["model"], row["image_size"]) for row in rows}):
        mine = [row for row in rows if (row["model"], row["image_size"]) == (model, size)]
        with page.grid():
            for mode, value, label in (
                ("latency", lambda row: row["latency_ms"]["p50"], "median latency of a call (ms)"),
                ("throughput", lambda row: row["images_per_s"], "images per second"),
            ):
                series = _series(mine, mode, value)
                if series:
                    svg = line_plot(series, x="batch, images per call", y=label, log="xy")
                    caption = f"{model}, {size} px: {label} against batch; both axes logarithmic"
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


def add_roofline(page: Page, document: Mapping[str, Any]) -> None:
    """Throughput under each ceiling that was measured in the same run."""
    from dinorad_rt.reports.plots import line_plot

    page.paragraph(
        "Work done per second against arithmetic per byte of weights read, if each call reads them "
        "once; the dashed line is the machine's own matrix product. Both axes are logarithmic.",
        soft=True,
    )
    with page.grid():
        for ceiling in document["ceilings"]:
            series = _roof_series(document, ceiling)
            if not series:
                continue
            speed = format_number(ceiling["tflops"])
            label = f"{ceiling['precision']} matrix product, {speed} TFLOP/s"
            svg = line_plot(
                series,
                x="arithmetic per byte of weights, FLOP/B",
                y="TFLOP/s",
                log="xy",
                ceiling=(label, ceiling["tflops"]),
            )
            alone = f" ({next(iter(series))})" if len(series) == 1 else ""
            kind = f"{ceiling['precision']} on {ceiling['device']}"
            caption = f"Roofline, {kind}: throughput against the ceiling{alone}"
            page.figure(svg, caption, alternative=f"{caption}, {label}. {_spoken(series)}")


def _roof_series(document: Mapping[str, Any], ceiling: Row) -> Series:
    series: Series = {}
    for row in measured_rows(document):
        low = "fp16" if row["precision"] == "mixed" else row["precision"]
        same = (row["device"], low) == (ceiling["device"], ceiling["precision"])
        if row["mode"] == "throughput" and same:
            name = f"{row['model']} {row['image_size']} px, {row['backend']}"
            intensity = 2 * row["macs"] * row["batch"] / (row["engine_mb"] * 1e6)
            series.setdefault(name, []).append((intensity, row["tflops"]))
    return series


def add_pareto(page: Page, points: Sequence[Point]) -> None:
    """AUROC against latency of the same engines, one plot per dataset."""
    from dinorad_rt.reports.plots import scatter_plot

    if any(point.random for point in points):
        page.warning("weights: random in some of these runs; their AUROC says nothing.")
    for dataset in sorted({point.dataset for point in points}):
        mine = [point for point in points if point.dataset == dataset]
        svg = scatter_plot(
            [(point.label, point.milliseconds, point.value) for point in mine],
            x="median latency of a call, ms",
            y="AUROC",
            front=front([(point.milliseconds, point.value) for point in mine]),
        )
        page.figure(svg, f"{dataset}: AUROC against latency; grey: what no other engine beats")
    page.table([point.as_row() for point in points], "Evaluated and timed", filterable=False)
