"""The table of volumes beside a segmenter's results, and whether two of them can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dinorad_rt.errors import DataError, ProtocolError
from dinorad_rt.metrics.classification import ratio
from dinorad_rt.metrics.segmentation import VOLUME_METRICS
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results

CASES_FILE = "cases.parquet"
_COLUMNS = ("case_id", "patient", "class", *VOLUME_METRICS, "true_voxels", "predicted_voxels")
_AGAIN = "Judge the run again: dinorad-rt eval --checkpoint RUN --data DATA"


@dataclass(frozen=True, eq=False)
class CaseTable:
    """Scores of every test volume of one run.

    Attributes:
        case_ids, patients: (cases,) pseudonymous keys.
        class_names: of the foreground.
        scores: metric → (cases, classes) float64; NaN where it has no value.
        voxels: (cases, classes, 2) int64 of truth and prediction.
        unit: of HD95: mm or px.
        tolerance: of the NSD in that unit; NaN if it is not known.
    """

    case_ids: np.ndarray
    patients: np.ndarray
    class_names: tuple[str, ...]
    scores: Mapping[str, np.ndarray]
    voxels: np.ndarray
    unit: str
    tolerance: float

    @classmethod
    def open(cls, folder: Path, results: Results) -> Self:
        """The table of a run's folder.

        Args:
            folder: of a run, or its results.json.
            results: of the same run.

        Raises:
            DataError: there is no such table, or it is none of this run's classes.
        """
        import pyarrow.parquet as pq

        path = (folder if folder.is_dir() else folder.parent) / CASES_FILE
        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise DataError(
                f"The scores of the run's cases ({CASES_FILE}) cannot be read: {error}.", _AGAIN
            ) from error
        missing = [name for name in _COLUMNS if name not in table.column_names]
        classes = tuple(results.class_names[1:])
        width = len(classes)
        if missing or not width or not table.num_rows or table.num_rows % width:
            found = f"lacks {', '.join(missing)}" if missing else f"has {table.num_rows} rows"
            raise DataError(f"{CASES_FILE} of a run of {width} classes {found}.", _AGAIN)
        rows = {name: np.asarray(table[name].to_pylist()).reshape(-1, width) for name in _COLUMNS}
        if any(tuple(row) != classes for row in rows["class"]):
            raise DataError(f"{CASES_FILE} has other classes than results.json.", _AGAIN)
        return cls(
            case_ids=rows["case_id"][:, 0].astype(str),
            patients=rows["patient"][:, 0].astype(str),
            class_names=classes,
            scores={name: rows[name].astype(np.float64) for name in VOLUME_METRICS},
            voxels=np.stack([rows["true_voxels"], rows["predicted_voxels"]], axis=2),
            unit=str(results.settings.get("unit", "")),
            tolerance=float(results.settings.get("tolerance", "nan")),
        )

    def values(self, metric: str, class_name: str | None = None) -> np.ndarray:
        """(cases,) of a class, or the mean over the classes that have a value in the volume."""
        scores = self.scores[metric]
        if class_name is not None:
            return scores[:, self.class_names.index(class_name)]
        defined = ~np.isnan(scores)
        sums, sizes = np.where(defined, scores, 0.0).sum(axis=1), defined.sum(axis=1)
        return ratio(sums, sizes)

    def holds(self, metric: str) -> bool:
        """Whether any volume has a value."""
        return not bool(np.isnan(self.scores[metric]).all())

    def conventions(self) -> dict[tuple[str, str], str]:
        """(kind of empty mask, metric) → what such classes of volumes score here.

        Kinds of which there are none are left out.
        """
        truth, predicted = (self.voxels[..., side] == 0 for side in (0, 1))
        kinds = {
            "both masks empty": truth & predicted,
            "only the truth empty": truth & ~predicted,
            "only the prediction empty": ~truth & predicted,
        }
        return {
            (kind, metric): _scored(self.scores[metric][place], metric)
            for kind, place in kinds.items()
            for metric in VOLUME_METRICS
            if place.any()
        }


def aligned_cases(first: CaseTable, other: CaseTable, name: str) -> np.ndarray:
    """Rows of a table in the order of the first one's volumes.

    Args:
        first, other: tables of two runs.
        name: of the other run, for messages.

    Raises:
        ProtocolError: other volumes, patients, classes or masks.
    """
    problem = None
    if other.class_names != first.class_names:
        problem = f"its classes are {', '.join(other.class_names)}"
    else:
        common = len(np.intersect1d(other.case_ids, first.case_ids))
        if common < max(len(other.case_ids), len(first.case_ids)):
            problem = (
                f"it has {count_of(len(other.case_ids), 'test case')}, the first run "
                f"{len(first.case_ids)}, and {common} are the same"
            )
    if problem is None:
        place = np.argsort(other.case_ids)[np.argsort(np.argsort(first.case_ids))]
        if not np.array_equal(other.patients[place], first.patients):
            problem = "its patients of the same cases are others"
        elif not np.array_equal(other.voxels[place, :, 0], first.voxels[..., 0]):
            problem = "its masks of the same cases are others: they differ in voxels"
        else:
            return np.asarray(place)
    raise ProtocolError(
        f"{name} and the first run were not judged on the same test set: {problem}.",
        "Compare segmenters of one dataset with one split and the same classes. Runs of two "
        "machines have the same cases only with the same key of pseudonyms (DINORAD_RT_KEY).",
    )


def check_conventions(tables: Sequence[CaseTable], names: Sequence[str], metric: str) -> None:
    """Refuse a comparison of numbers that do not mean the same.

    Raises:
        ProtocolError: empty masks scored otherwise, another unit, or another tolerance.
    """
    problem = None
    first = tables[0]
    for table, name in zip(tables[1:], names[1:], strict=True):
        ours, theirs = first.conventions(), table.conventions()
        for key in ours.keys() & theirs.keys():
            if key[1] == metric and ours[key] != theirs[key]:
                problem = (
                    f"{name} gives classes with {key[0]} {theirs[key]} as {metric}, {names[0]} "
                    f"{ours[key]}"
                )
        if metric in ("hd95", "nsd") and table.unit != first.unit:
            problem = f"{name} measured distances in {table.unit}, {names[0]} in {first.unit}"
        if metric == "nsd" and table.tolerance != first.tolerance:
            problem = (
                f"{name} measured the NSD with a tolerance of {table.tolerance:g}, {names[0]} with "
                f"{first.tolerance:g}"
            )
    if problem is not None:
        raise ProtocolError(
            f"{problem}: their numbers do not mean the same.",
            "Judge both with this version and the same tolerance: dinorad-rt eval --checkpoint "
            "RUN --data DATA",
        )


def _scored(values: np.ndarray, metric: str) -> str:
    """`no value`, `0`, or for distances `a distance`; several where the table mixes them."""
    words: set[Any] = {
        "no value" if np.isnan(value) else "a distance" if metric == "hd95" else f"{value:g}"
        for value in values.tolist()
    }
    return " or ".join(sorted(words))
