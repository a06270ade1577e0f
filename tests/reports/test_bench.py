"""The report of a benchmark: every number of bench.json, and accuracy joined with latency."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.errors import DataError
from dinorad_rt.files import write_json
from dinorad_rt.reports.bench import write_bench_report
from dinorad_rt.reports.bench_rows import skipped_rows, stage_rows, table_rows
from dinorad_rt.reports.pareto import pareto_points
from dinorad_rt.reports.plots import line_plot
from dinorad_rt.reports.published import published_rows
from dinorad_rt.reports.tradeoff import front

CLOCK = {"cpu_mhz": 2600.0, "gpus": []}


def _row(mode: str, batch: int, p50: float | None = None, **facts: Any) -> dict[str, Any]:
    times = None if p50 is None else {f"p{p}": p50 * (1 + p / 100) for p in (90, 95, 99)}
    run = {"joules_per_image": {}, "energy_note": "no counter", "clocks": [CLOCK, CLOCK]}
    base: dict[str, Any] = {
        "model": "vits14",
        "backend": "openvino",
        "precision": "bf16",
        "image_size": 224,
        "device": "cpu",
        "engine_key": f"key-{batch}",
        "graph_sha256": "graph",
        "macs": 6_123_561_984,
        "build_s": 1.5,
        "engine_mb": 86.0,
        "images_per_s": 50.0 * batch,
        "tflops": 0.612 * batch,
        "mfu": 0.8,
        "load_s": 0.25,
        "first_ms": 30.0,
        "loader_per_s": None,
        "activations_mb": 12.0,
        "peak_mb": 900.0,
        "runs": [run | {"files": "DICOM"}],
        "latency_ms": None if p50 is None else {"p50": p50, **(times or {})},
        "engine_ms": None if p50 is None else {"p50": p50 * 0.9, **(times or {})},
    }
    return base | {"mode": mode, "batch": batch} | facts


@pytest.fixture
def document() -> dict[str, Any]:
    """A run of one model with two batches."""
    rows = [_row("latency", 1, 20.0), _row("throughput", 1), _row("latency", 8, 80.0)]
    rows += [_row("throughput", 8), _row("end_to_end", 8, loader_per_s=123.0, images_per_s=77.0)]
    rows.append(_row("latency", 8, model="vitb14", runs=[]))
    left = {"model": "vits14", "image_size": "224", "backend": "onnxruntime", "precision": "bf16"}
    return {
        "date": "2026-11-24",
        "weights": "random",
        "plan": {"repeats": 3, "seconds": 2.0, "cool_down": 0.5},
        "machine": {
            "cpu": {"model": "A <CPU>", "cores": 2},
            "gpus": [],
            "os": "Linux",
            "python": "3.11",
        },
        "ceilings": [{"precision": "bf16", "size": 2048, "device": "cpu", "tflops": 0.9}],
        "rows": rows,
        "skipped": [
            left | {"batch": batch, "mode": "latency", "reason": "no bf16"} for batch in ("1", "8")
        ],
    }


def test_tables_hold_the_documents_numbers(document: dict[str, Any]) -> None:
    rows = table_rows(document)
    assert len(rows) == 5  # what has no run is no row
    first = rows[0]
    assert (first["batch"], first["mode"], first["p50 ms"]) == (1, "latency", 20.0)
    assert (first["engine only ms"], first["of ceiling %"]) == (18.0, 80.0)
    assert first["J/image"] is None and first["clock MHz"] == 2600.0
    (stage,) = stage_rows(document)
    assert (stage["loader only"], stage["end to end"]) == (123.0, 77.0)
    assert stage["engine only"] == pytest.approx(8 / 0.072)
    assert stage["with transfers"] == 400.0
    (left,) = skipped_rows(document)
    assert (left["why"], left["batches"], left["modes"]) == ("no bf16", "1, 8", "latency")


def test_markdown_and_page_are_written_and_stand_alone(
    document: dict[str, Any], tmp_path: Path
) -> None:
    markdown, page = write_bench_report(document, tmp_path)
    text, html = markdown.read_text(), page.read_text()
    for part in ("weights: random", "no counter", "0.900 TFLOP/s", "Clock before and after"):
        assert part.lower() in text.lower() and part.lower() in html.lower()
    assert "2026-11-24. Processor" in text and "both axes logarithmic" in html
    assert "ran faster than the ceiling" not in text
    assert "RTX 4090" in text and "FasterTransformer" in html
    assert "A &lt;CPU&gt;" in html and "A <CPU>" not in html
    assert html.count("<svg") >= 3
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", html)
    HTMLParser().feed(html)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_stages_without_a_cell_from_end_to_end_have_no_part(
    document: dict[str, Any], tmp_path: Path
) -> None:
    write_bench_report(document, tmp_path)
    assert "Where the time goes" in (tmp_path / "bench.html").read_text(encoding="utf-8")
    document["rows"] = [row for row in document["rows"] if row["mode"] != "end_to_end"]
    write_bench_report(document, tmp_path)
    assert "Where the time goes" not in (tmp_path / "bench.html").read_text(encoding="utf-8")


def test_calls_and_cells_above_the_ceiling_are_told(
    document: dict[str, Any], tmp_path: Path
) -> None:
    document["date"] = "2026-11-24T10:30:00+02:00"
    first = document["rows"][0]
    first["mfu"] = 1.46
    first["runs"] = [run | {"latency_ms": {"n": 5}} for run in first["runs"] * 2]
    text = write_bench_report(document, tmp_path)[0].read_text()
    assert "1 cell ran faster than the ceiling" in text
    assert "2026-11-24 08:30 UTC" in text
    rows = table_rows(document)
    assert [row["calls"] for row in rows] == [10, None, None, None, None]


def test_ticks_of_logarithmic_axes_are_plain_numbers() -> None:
    narrow = line_plot({"a": [(1, 1.4), (8, 3.5)]}, x="batch", y="images per second", log="xy")
    wide = line_plot({"a": [(1.5, 2), (900, 30000)]}, x="FLOP/B", y="ms", log="xy")
    for drawn in (narrow, wide):
        assert "\u00d7" not in drawn and "mathdefault" not in drawn and "^" not in drawn
    assert ">1.5<" in narrow and ">3<" in narrow and ">10000<" in wide


def test_a_ceiling_is_named_beside_the_plot() -> None:
    drawn = line_plot({"a": [(1.5, 2), (9, 3)]}, x="x", y="y", log="xy", ceiling=("the roof", 4.0))
    assert drawn.index('id="legend_1"') < drawn.index(">the roof<")


def _results(folder: Path, auroc: float, **engine: Any) -> Path:
    facts: dict[str, Any] = {
        "key": "key-8",
        "graph_sha256": "graph",
        "model": "vits14",
        "precision": "bf16",
        "backend": "openvino",
        "input_shape": [3, 224, 224],
        "weights_kind": "file",
    }
    metric = {
        "name": "auroc",
        "class_name": None,
        "ci_low": auroc - 0.1,
        "ci_high": auroc + 0.05,
        "n": 40,
        "n_patients": 40,
        "values": [],
    }
    document = {
        "schema": 2,
        "protocol": "knn",
        "task": "binary",
        "dataset": "ct",
        "class_names": ["a", "b"],
        "excluded_classes": {},
        "settings": {},
        "seeds": [0],
        "chosen": {"k": 10},
        "metrics": [
            metric | {"setting": {"k": 10}, "value": auroc},
            metric | {"setting": {"k": 20}, "value": auroc / 2},
        ],
        "provenance": {"engine": facts | engine},
    }
    write_json(folder / "results.json", document)
    return folder


def test_results_meet_the_closest_timing(document: dict[str, Any], tmp_path: Path) -> None:
    runs = [
        _results(tmp_path / "same", 0.9),
        _results(tmp_path / "graph", 0.8, key="another"),
        _results(tmp_path / "kind", 0.7, key="another", graph_sha256="another"),
    ]
    same, graph, kind = pareto_points(document, runs)
    assert (same.timed, same.milliseconds, same.batch) == ("the engine that was evaluated", 80.0, 8)
    assert (graph.timed, graph.milliseconds) == ("its graph, with another batch", 20.0)
    assert kind.timed == "its kind, with other weights"
    assert (same.value, same.low) == (0.9, pytest.approx(0.8))  # of the chosen k
    points = [(point.milliseconds, point.value) for point in (same, graph, kind)]
    assert front(points) == [(20.0, 0.8), (80.0, 0.9)]
    _, page = write_bench_report(document, tmp_path, runs)
    assert "AUROC against latency" in page.read_text()


def test_results_that_were_not_timed_are_refused(document: dict[str, Any], tmp_path: Path) -> None:
    other = _results(tmp_path / "other", 0.9, key="x", graph_sha256="y", precision="fp16")
    with pytest.raises(DataError, match="vits14 fp16 openvino at 224 px, which was not timed") as e:
        pareto_points(document, [other])
    assert "vits14 bf16 openvino" in e.value.fix
    with pytest.raises(DataError, match=r"results\.json"):
        pareto_points(document, [tmp_path])


def test_published_figures_carry_source_and_device() -> None:
    rows = published_rows()
    assert len(rows) > 50 and all(row["source"] and row["device"] for row in rows)
    ours = [row for row in rows if row["model"] == "DINOv2 L/14 @518"]
    assert {row["images/s"] for row in ours} >= {133.1, 108, 58.8, 1.5}
