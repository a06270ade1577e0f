"""Accuracy against latency: results of `eval` joined with the timings of `bench`.

The closest timing counts, and the table says how close: the very engine that was evaluated, the
same graph with another batch, or the same backbone, precision and backend with other weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import DataError
from dinorad_rt.reports.bench_rows import Row

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results

METRIC = "auroc"
_CLOSENESS = (
    ("the engine that was evaluated", ("engine_key",)),
    ("its graph, with another batch", ("graph_sha256", "backend")),
    ("its kind, with other weights", ("model", "precision", "backend", "image_size")),
)


@dataclass(frozen=True)
class Point:
    """One evaluated engine.

    Attributes:
        label: model, precision and backend.
        dataset: where it was evaluated, with the protocol.
        value, low, high: AUROC and its 95 % interval.
        milliseconds: median latency of a call.
        batch: images of that call.
        timed: what was timed.
        random: True if the evaluated weights were random.
    """

    label: str
    dataset: str
    value: float
    low: float | None
    high: float | None
    milliseconds: float
    batch: int
    timed: str
    random: bool

    def as_row(self) -> dict[str, Any]:
        """A row of the report's table."""
        return {
            "engine": self.label,
            "data": self.dataset,
            "AUROC": self.value,
            "95 % from": self.low,
            "to": self.high,
            "p50 ms": self.milliseconds,
            "batch": self.batch,
            "timed": self.timed,
            "weights": "random" if self.random else "trained",
        }


def pareto_points(document: Row, folders: Iterable[Path]) -> list[Point]:
    """A point for each run of `eval` that was timed.

    Args:
        document: content of bench.json.
        folders: of runs, each with a results.json.

    Raises:
        DataError: a folder holds no results, no AUROC, or nothing of it was timed.
    """
    from dinorad_rt.reports.results import Results

    return [_point(document["rows"], Results.open(folder), folder) for folder in folders]


def _point(rows: Sequence[Row], results: Results, folder: Path) -> Point:
    engine = results.provenance.get("engine") or {}
    timed, row = _closest(rows, engine, folder)
    best = _best_metric(results, folder)
    return Point(
        label=f"{engine.get('model')} {engine.get('precision')} {engine.get('backend')}",
        dataset=f"{results.dataset}, {results.protocol}",
        value=float(best.value),
        low=best.ci_low,
        high=best.ci_high,
        milliseconds=float(row["latency_ms"]["p50"]),
        batch=int(row["batch"]),
        timed=timed,
        random=results.is_random,
    )


def _best_metric(results: Results, folder: Path) -> Any:
    """The macro AUROC of the setting that validation chose, else of the last one."""
    found = [
        metric
        for metric in results.metrics
        if metric.name == METRIC and metric.class_name is None and metric.value is not None
    ]
    chosen = [m for m in found if results.chosen and m.setting.items() >= results.chosen.items()]
    if not found:
        raise DataError(
            f"The run {folder.name} holds no AUROC.", "Give --results runs of classification."
        )
    return (chosen or found)[-1]


def _closest(rows: Sequence[Row], engine: Row, folder: Path) -> tuple[str, Row]:
    shape = engine.get("input_shape") or [None]
    wanted = dict(engine) | {"engine_key": engine.get("key"), "image_size": shape[-1]}
    timed = [row for row in rows if row["mode"] == "latency" and row["runs"]]
    for words, keys in _CLOSENESS:
        same = [row for row in timed if all(row[key] == wanted.get(key) for key in keys)]
        if same:
            return words, min(same, key=lambda row: row["batch"])
    have = sorted({f"{row['model']} {row['precision']} {row['backend']}" for row in timed})
    raise DataError(
        f"The run {folder.name} evaluated {wanted.get('model')} {wanted.get('precision')} "
        f"{wanted.get('backend')} at {shape[-1]} px, which was not timed here.",
        f"Timed are: {', '.join(have)}. Add it with --model, --precision, --image-size.",
    )
