"""The report of a benchmark: Markdown for a repository, HTML for people, from `bench.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dinorad_rt.files import atomic_path
from dinorad_rt.reports.page import Page, format_number

Row = Mapping[str, Any]

PUBLISHED: tuple[dict[str, Any], ...] = (
    {
        "source": "timm, torch.compile AMP",
        "device": "RTX 4090",
        "model": "DINOv2 S/14 518",
        "images_per_s": 1154,
    },
    {
        "source": "timm, torch.compile AMP",
        "device": "RTX 4090",
        "model": "DINOv2 B/14 518",
        "images_per_s": 416,
    },
    {
        "source": "timm, torch.compile AMP",
        "device": "RTX 4090",
        "model": "DINOv2 L/14 518",
        "images_per_s": 133.1,
    },
    {
        "source": "timm, torch.compile AMP",
        "device": "RTX 4090",
        "model": "DINOv2 g/14 518",
        "images_per_s": 40.0,
    },
    {
        "source": "timm, eager AMP",
        "device": "RTX 3090",
        "model": "DINOv2 L/14 518",
        "images_per_s": 58.8,
    },
    {
        "source": "FasterTransformer, batch 32",
        "device": "A100",
        "model": "ViT-B/16 224",
        "images_per_s": 3187,
    },
    {
        "source": "FasterTransformer, batch 32",
        "device": "A100",
        "model": "ViT-L/16 224",
        "images_per_s": 1079,
    },
    {
        "source": "depth-anything-tensorrt, batch 1",
        "device": "RTX 4090",
        "model": "DINOv2 L/14 518",
        "images_per_s": 83,
    },
    {
        "source": "timm, FP32 torch.compile, batch 1",
        "device": "i9-10940X",
        "model": "DINOv2 S/14 518",
        "images_per_s": 11.9,
    },
    {
        "source": "timm, FP32 torch.compile, batch 1",
        "device": "i9-10940X",
        "model": "DINOv2 L/14 518",
        "images_per_s": 1.5,
    },
)
"""Published figures of others, for orientation: other machines, other harnesses."""


def write_bench_report(document: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """Write `bench.md` and `bench.html` beside `bench.json`.

    Args:
        document: content of `bench.json`.
        out: folder.

    Returns:
        Paths of the two files.
    """
    targets = out / "bench.md", out / "bench.html"
    for target, text in zip(targets, (_markdown(document), _html(document)), strict=True):
        with atomic_path(target) as part:
            part.write_text(text, encoding="utf-8")
    return targets


def table_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the report's main table."""
    return [_table_row(row) for row in document["rows"] if row["runs"]]


def _table_row(row: Row) -> dict[str, Any]:
    latency = row.get("latency_ms") or {}
    mfu = row["mfu"]
    return {
        "model": row["model"],
        "px": row["image_size"],
        "backend": row["backend"],
        "precision": row["precision"],
        "batch": row["batch"],
        "mode": row["mode"],
        "images/s": row["images_per_s"],
        **{f"{key} ms": latency.get(key) for key in ("p50", "p90", "p95", "p99")},
        "TFLOP/s": row["tflops"],
        "of ceiling %": None if mfu is None else 100 * mfu,
        "J/image": _joules(row),
        "build s": row["build_s"],
        "load s": row["load_s"],
        "first ms": row["first_ms"],
        "engine MB": row["engine_mb"],
        "peak MB": row["peak_mb"],
    }


def _joules(row: Row) -> float | None:
    values = [sum(run["joules_per_image"].values()) for run in row["runs"]]
    values = sorted(value for value in values if value > 0)
    return values[len(values) // 2] if values else None


def _head(document: Mapping[str, Any]) -> list[str]:
    machine = document["machine"]
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "none"
    lines = [
        f"{document['date']}. Processor {machine['cpu']['model']}, {machine['cpu']['cores']} "
        f"cores; GPU {gpus}; {machine['os']}; Python {machine['python']}.",
        *(
            f"Ceiling, {c['precision']} matrix product of side {c['size']} on {c['device']}: "
            f"{c['tflops']:.3f} TFLOP/s, measured in this run."
            for c in document["ceilings"]
        ),
        f"Each cell: {document['plan']['repeats']} measurements of "
        f"{document['plan']['seconds']:g} s in random order, each in a process of its own after "
        f"{document['plan']['cool_down']:g} s of rest; medians. A call includes the copies in "
        "and out of the engine.",
    ]
    notes = {run["energy_note"] for row in document["rows"] for run in row["runs"]} - {""}
    return lines + [f"Energy: {note}." for note in sorted(notes)]


def _markdown(document: Mapping[str, Any]) -> str:
    lines = ["# Benchmark", ""]
    if document["weights"] == "random":
        lines += ["Weights: random (speed does not depend on them).", ""]
    lines += [*(f"{line}\n" for line in _head(document)), *_pipe_table(table_rows(document))]
    if document["skipped"]:
        lines += ["", "Left out:", ""]
        lines += [f"- {_words(entry)}" for entry in document["skipped"]]
    return "\n".join(lines) + "\n"


def _pipe_table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    heads = list(rows[0])
    body = ["| " + " | ".join(_text(row[key]) for key in heads) + " |" for row in rows]
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *body]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return format_number(value) if isinstance(value, (int, float)) else str(value)


def _words(entry: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in entry.items() if value)


def _html(document: Mapping[str, Any]) -> str:
    page = Page("dinorad-rt benchmark")
    for line in _head(document):
        page.paragraph(line, soft=True)
    if document["weights"] == "random":
        page.paragraph("Weights: random. Speed does not depend on them; accuracy is not shown.")
    page.heading("Results")
    page.table(table_rows(document), "One row per engine, batch and mode")
    _figures(page, document)
    if document["skipped"]:
        page.heading("Left out")
        page.table(document["skipped"], "What could not be built or measured", filterable=False)
    page.heading("Published by others")
    page.paragraph("Other machines and other harnesses: for orientation only.", soft=True)
    page.table(list(PUBLISHED), "Published images per second", filterable=False)
    page.details("Everything measured, as JSON", json.dumps(document, indent=1))
    return page.render()


def _figures(page: Page, document: Mapping[str, Any]) -> None:
    from dinorad_rt.reports.plots import line_plot

    page.heading("Latency and throughput against batch")
    for model, size in sorted({(row["model"], row["image_size"]) for row in document["rows"]}):
        rows = [r for r in document["rows"] if (r["model"], r["image_size"]) == (model, size)]
        for mode, value, label in (
            ("latency", lambda row: row["latency_ms"]["p50"], "median latency of a call, ms"),
            ("throughput", lambda row: row["images_per_s"], "images per second"),
        ):
            series = _series(rows, mode, value)
            if series:
                svg = line_plot(series, x="batch, images per call", y=label, log="xy")
                page.figure(svg, f"{model}, {size} px: {label} against batch")
    _roofline(page, document)


def _series(rows: Sequence[Row], mode: str, value: Any) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["mode"] == mode and row["runs"]:
            name = f"{row['backend']} {row['precision']}"
            series.setdefault(name, []).append((row["batch"], value(row)))
    return series


def _roofline(page: Page, document: Mapping[str, Any]) -> None:
    from dinorad_rt.reports.plots import line_plot

    for ceiling in document["ceilings"]:
        series: dict[str, list[tuple[float, float]]] = {}
        for row in document["rows"]:
            low = "fp16" if row["precision"] == "mixed" else row["precision"]
            if row["runs"] and row["mode"] == "throughput" and low == ceiling["precision"]:
                name = f"{row['model']} {row['image_size']} {row['backend']}"
                intensity = 2 * row["macs"] * row["batch"] / (row["engine_mb"] * 1e6)
                series.setdefault(name, []).append((intensity, row["tflops"]))
        if series:
            label = f"{ceiling['precision']} matrix product, {ceiling['tflops']:.2f} TFLOP/s"
            svg = line_plot(
                series,
                x="arithmetic per byte of weights, FLOP/B",
                y="TFLOP/s",
                ceiling=(label, ceiling["tflops"]),
            )
            page.figure(svg, f"Roofline, {ceiling['precision']}: work done against the ceiling")
