"""What `bench.json` says, as rows of tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
MODE_WORDS = {"latency": "latency", "throughput": "throughput", "end_to_end": "end to end"}


def table_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the report's main table."""
    return [_table_row(row) for row in measured_rows(document)]


def stage_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the time goes: images per second of each stage alone and of the whole.

    One row per model, size, backend and precision, at the batch that was measured end to end.
    """
    rows = measured_rows(document)
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


def measured_rows(document: Mapping[str, Any]) -> list[Row]:
    """The cells that were measured at all, in the order of the tables."""
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
        "calls": _calls(row),
        "engine only ms": engine.get("p50"),
        "TFLOP/s": row["tflops"],
        "of ceiling %": None if mfu is None else 100 * mfu,
        "J/image": joules_per_image(row),
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


def joules_per_image(row: Mapping[str, Any]) -> float | None:
    """Median energy per image over the repeats of a benchmark row; None without a counter."""
    sums = [sum(run.get("joules_per_image", {}).values()) for run in row["runs"]]
    known = [value for value in sums if value > 0]
    return statistics.median(known) if known else None


def clock_rates(row: Row, name: str) -> list[float]:
    """Clock rates at the ends of a row's measurements: of the GPU if there is one."""
    moments = [moment for run in row["runs"] for moment in run["clocks"]]
    gpus = [gpu[name] for moment in moments for gpu in moment["gpus"][:1]]
    cpus = [moment["cpu_mhz"] for moment in moments if moment["cpu_mhz"]]
    return gpus or cpus


def _calls(row: Row) -> int | None:
    """Calls behind the latencies of a row, over all repeats."""
    counts = [(run.get("latency_ms") or {}).get("n", 0) for run in row["runs"]]
    return sum(counts) or None


def _clock(row: Row) -> float | None:
    rates = clock_rates(row, "sm_mhz")
    return statistics.median(rates) if rates else None
