"""`Results`: one schema for every protocol, written as results.json and predictions.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.files import atomic_path, read_json, write_json
from dinorad_rt.metrics.decisions import predicted_labels
from dinorad_rt.reports.schema import (
    FIXED_COLUMNS,
    count_of_settings,
    problem_of_results,
    problem_of_scores,
)
from dinorad_rt.types import Task

if TYPE_CHECKING:
    pass

SCHEMA = 2
RESULTS_FILE = "results.json"
PREDICTIONS_FILE = "predictions.parquet"
_AGAIN = "Run the evaluation again; stored embeddings are reused."


@dataclass(frozen=True)
class Predictions:
    """Scores of all test images under one setting.

    Attributes:
        setting: what tells this one from the others, such as {"k": 20}. Those that differ only in
            `repeat` are repeats of one setting, and are judged together.
        scores: (images, classes), higher means more likely.
    """

    setting: Mapping[str, int | float | str]
    scores: np.ndarray


@dataclass(frozen=True)
class MetricValue:
    """One metric of one setting, for one class or for all.

    Attributes:
        name: see `metrics.report`, such as auroc or balanced_accuracy.
        setting: such as {"k": 20}.
        class_name: the class it is for; None for the macro mean or the whole.
        value: None if undefined.
        ci_low, ci_high: 95 % interval by patient; None if undefined.
        n, n_patients: test images and patients behind it.
        n_positive: of them, positive images, for a metric of one class.
        resamples, undefined: resamples drawn, and those in which the metric has no value.
        values: one per seed, in the order of `Results.seeds`.
    """

    name: str
    setting: dict[str, Any]
    class_name: str | None
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_patients: int
    n_positive: int | None = None
    resamples: int = 0
    undefined: int = 0
    values: tuple[float | None, ...] = ()


@dataclass
class Results:
    """What a protocol found, and where every number came from.

    Attributes:
        protocol: its name.
        task: binary, multiclass or multilabel.
        dataset: its short name.
        class_names: index → name.
        metrics: every metric of every setting.
        excluded_classes: class → why it has no AUROC and is not in the macro mean.
        settings: of the protocol, all of them, as they were resolved.
        seeds: one per repeat.
        preset: the protocol preset: study, dinov2 or dinorad.
        chosen: the setting that validation chose; empty if nothing could choose.
        deviations: where the study's code, its text and this run differ from each other.
        timings: seconds by step.
        notes: what a reader must know.
        provenance: weights, graph, engine, preprocessing, data, splits, versions, machine.
        sample_ids, patients, labels: of the test images, in the order of the scores.
        predictions: scores by setting; empty if only results.json was read.
    """

    protocol: str
    task: Task
    dataset: str
    class_names: tuple[str, ...]
    metrics: list[MetricValue]
    excluded_classes: dict[str, str]
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    preset: str = "dinorad"
    chosen: dict[str, Any] = field(default_factory=dict)
    deviations: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    sample_ids: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))
    patients: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    predictions: list[Predictions] = field(default_factory=list)

    @property
    def is_random(self) -> bool:
        """True if the weights were random: the numbers say nothing of a backbone."""
        return self.weights_kind == "random"

    @property
    def weights_kind(self) -> str:
        """`hub`, `file`, `random`, or `unknown` if the provenance does not tell."""
        engine = self.provenance.get("engine") or {}
        return str(engine.get("weights_kind") or self.provenance.get("weights_kind") or "unknown")

    def metric(self, name: str, class_name: str | None = None, **setting: Any) -> MetricValue:
        """One metric value.

        Raises:
            KeyError: there is none of this name, class and setting.
        """
        for value in self.metrics:
            same = value.setting.items() >= setting.items()
            if (value.name, value.class_name) == (name, class_name) and same:
                return value
        raise KeyError((name, class_name, setting))

    def as_dict(self) -> dict[str, Any]:
        """The content of results.json."""
        return {
            "schema": SCHEMA,
            "protocol": self.protocol,
            "task": self.task,
            "dataset": self.dataset,
            "class_names": list(self.class_names),
            "weights": self.weights_kind,
            "preset": self.preset,
            "settings": self.settings,
            "chosen": self.chosen,
            "deviations": self.deviations,
            "seeds": list(self.seeds),
            "metrics": [asdict(value) for value in self.metrics],
            "excluded_classes": self.excluded_classes,
            "timings": self.timings,
            "notes": self.notes,
            "provenance": self.provenance,
        }

    def write(self, folder: Path) -> None:
        """Write predictions.parquet, then results.json: whoever sees the second has both."""
        import pyarrow.parquet as pq

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / PREDICTIONS_FILE) as part:
            pq.write_table(self._prediction_rows(), part)
        write_json(folder / RESULTS_FILE, self.as_dict())

    @classmethod
    def open(cls, folder: Path, *, predictions: bool = False) -> Self:
        """Read results.json of a run; those of schema 1 are brought to this one.

        Args:
            folder: of a run, or its results.json.
            predictions: read every image's scores as well.

        Raises:
            DataError: there is none, it is damaged, or it has a schema that this version does not
                know.
        """
        path = folder / RESULTS_FILE if folder.is_dir() else folder
        called = f"{path.name} of the run {path.resolve().parent.name}"
        try:
            document = migrated(read_json(path), called)
        except FileNotFoundError as error:
            raise DataError(f"{folder} holds no {RESULTS_FILE}.", "Name a run's folder.") from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{called} is no results file: {why}.", _AGAIN) from error
        damage = problem_of_results(document)
        if damage is not None:
            raise DataError(f"{called} is damaged: {damage}.", _AGAIN)
        try:
            rows = [
                MetricValue(**row | {"values": tuple(row["values"])}) for row in document["metrics"]
            ]
            lists = {key: tuple(document[key]) for key in ("class_names", "seeds")}
            results = cls(**document | lists | {"metrics": rows})
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{called} lacks or holds what schema {SCHEMA} does not: {error}.", _AGAIN
            ) from error
        if predictions:
            results._read_predictions(path.parent / PREDICTIONS_FILE)
        return results

    def __str__(self) -> str:
        from dinorad_rt.reports.table import results_table, to_text

        return to_text(results_table(self))

    def _read_predictions(self, path: Path) -> None:
        import pyarrow.parquet as pq

        called = f"The scores of the run {path.resolve().parent.name} ({path.name})"
        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{called} cannot be read: {error}.", _AGAIN) from error
        damage = problem_of_scores(table, self)
        if damage is not None:
            raise DataError(f"{called} are not those of its results.json: {damage}.", _AGAIN)
        keys = [name for name in table.column_names if name not in FIXED_COLUMNS]
        count = table.num_rows // count_of_settings(table)
        first = table.slice(0, count)
        labels = _matrix(first["labels"]).astype(np.int64)
        self.labels = labels if self.task == "multilabel" else labels[:, 0]
        self.sample_ids, self.patients = (
            np.asarray(first[name].to_pylist(), dtype=object) for name in ("sample_id", "patient")
        )
        self.predictions = []
        for start in range(0, table.num_rows, count):
            part = table.slice(start, count)
            setting = {name: part[name][0].as_py() for name in keys}
            self.predictions.append(Predictions(setting, _matrix(part["scores"])))

    def _prediction_rows(self) -> Any:
        import pyarrow as pa

        count = len(self.sample_ids)
        labels = self.labels if self.labels.ndim == 2 else self.labels[:, None]
        shared = {
            "sample_id": pa.array(self.sample_ids.tolist()),
            "patient": pa.array(self.patients.tolist()),
            "split": pa.array(["test"] * count),
            "labels": _lists(labels.astype(np.int64)),
        }
        tables = []
        for item in self.predictions:
            predicted = predicted_labels(item.scores, self.task)
            chosen = predicted if predicted.ndim == 2 else predicted[:, None]
            columns = {
                **shared,
                "scores": _lists(item.scores.astype(np.float64)),
                "predicted": _lists(chosen.astype(np.int64)),
                **{key: pa.array([value] * count) for key, value in item.setting.items()},
            }
            tables.append(pa.table(columns))
        return pa.concat_tables(tables)


def _lists(values: np.ndarray) -> Any:
    """(rows, columns) as an Arrow array of lists, without a Python object for each value."""
    import pyarrow as pa

    offsets = np.arange(0, values.size + 1, max(values.shape[1], 1), dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ravel(values)))


def _matrix(column: Any) -> np.ndarray:
    """(rows, columns) of a column of lists that are all as long."""
    lists = column.combine_chunks()
    return np.asarray(lists.flatten()).reshape(len(lists), -1)


def migrated(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The content of a results.json in this version's schema, without the keys that are derived.

    Raises:
        DataError: a schema that this version does not know.
    """
    found = document.pop("schema", None)
    document.pop("weights", None)
    if found == 1:
        document |= {"preset": "dinorad", "chosen": {}, "deviations": []}
    elif found != SCHEMA:
        raise DataError(
            f"{name} has schema {found!r}; this version reads schemas 1 to {SCHEMA}.",
            "Run the evaluation again with this version; stored embeddings are reused.",
        )
    return document
