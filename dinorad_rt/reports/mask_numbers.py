"""What the report says of masks in numbers: metrics of each class, and Dice patient by patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.reports import figures
from dinorad_rt.reports.drawings import file_name, title_of
from dinorad_rt.reports.figures import Drawing
from dinorad_rt.reports.page import Interval, Link
from dinorad_rt.reports.runs import Run, TestSet, unit_of
from dinorad_rt.training.segmentation.evaluate import CASES_FILE

METRICS = ("dice", "jaccard", "hd95", "nsd")
COUNTED = {"volumes": "mean over cases", "pixels": "all pixels pooled"}
ROWS_PER_PLOT = 10


@dataclass(frozen=True)
class CaseRow:
    """One class of one volume or image of the test split.

    Attributes:
        case_id, patient: pseudonymous keys.
        class_name: which class.
        dice: None where truth and prediction are both empty.
    """

    case_id: str
    patient: str
    class_name: str
    dice: float | None


def is_segmentation(run: Run) -> bool:
    """True if the run's answers are masks."""
    return run.results.task == "segmentation"


def read_cases(folder: Path | None) -> tuple[CaseRow, ...]:
    """The rows of cases.parquet beside the results; none if it is not there.

    Raises:
        DataError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if folder is None or not (folder / CASES_FILE).is_file():
        return ()
    names = ("case_id", "patient", "class", "dice")
    try:
        rows = pq.read_table(folder / CASES_FILE, columns=list(names)).to_pylist()
        return tuple(CaseRow(*(row[name] for name in names)) for row in rows)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"{CASES_FILE} of a run cannot be read: {error}.", "Run the evaluation again."
        ) from error


def dice_of_cases(rows: Sequence[CaseRow]) -> dict[str, float]:
    """Case → its mean Dice over the classes that have one; cases without any are left out."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.dice is not None:
            found.setdefault(row.case_id, []).append(row.dice)
    return {case: float(np.mean(values)) for case, values in found.items()}


def dice_of_patients(rows: Sequence[CaseRow]) -> np.ndarray:
    """Each patient's mean Dice over the rows of that patient, lowest first."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.dice is not None:
            found.setdefault(row.patient, []).append(row.dice)
    return np.sort([float(np.mean(values)) for values in found.values()])


def class_rows(test_set: TestSet) -> list[dict[str, Any]]:
    """One row per run, way of counting and class: Dice, Jaccard, HD95 and NSD with intervals."""
    names = test_set.results.class_names[1:]
    classes = (None, *names) if len(names) > 1 else names
    unit = unit_of(test_set.results)
    rows = []
    for run in test_set.runs:
        for over, words in COUNTED.items():
            for name in classes:
                values = _values(run, over, name)
                if not values:
                    continue
                positives = next(iter(values.values())).n_positive
                rows.append(
                    {
                        "run": Link(run.label, run.anchor),
                        "class": name or "mean of the classes",
                        "counted": words,
                        **{
                            title_of(metric, unit): _interval(values.get(metric))
                            for metric in METRICS
                        },
                        "cases with it": positives,
                    }
                )
    return rows


def mask_drawings(test_set: TestSet) -> Iterator[Drawing]:
    """The Dice of every patient, per run and class; of runs with cases.parquet beside them."""
    if test_set.results.task != "segmentation":
        return
    lines = {
        label: values
        for run in test_set.runs
        for label, values in _patients_of(run, test_set.results.class_names[1:]).items()
    }
    parts = [
        dict(list(lines.items())[at : at + ROWS_PER_PLOT])
        for at in range(0, len(lines), ROWS_PER_PLOT)
    ]
    for number, part in enumerate(parts, start=1):
        suffix = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        yield Drawing(
            file_name(test_set.name, "dice by patient", suffix),
            "segmentation",
            figures.distribution_figure(part, "Dice of a patient"),
            f"Dice of each patient on {test_set.name}{suffix}: one dot per patient, the mean over "
            "the patient's volumes; the bar spans the middle half, the line is the median.",
            f"Dice of each patient on {test_set.name}{suffix}: "
            + "; ".join(f"{label}: {_spread_words(values)}" for label, values in part.items()),
        )


def _patients_of(run: Run, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Label → Dice of the patients: of each class, after the mean if there are several."""
    rows = read_cases(run.folder)
    if not rows:
        return {}
    if len(classes) == 1:
        return {f"{run.label}, {classes[0]}": dice_of_patients(rows)}
    found = {f"{run.label}, mean of the classes": dice_of_patients(rows)}
    for name in classes:
        values = dice_of_patients([row for row in rows if row.class_name == name])
        if len(values):
            found[f"{run.label}, {name}"] = values
    return found


def _spread_words(values: np.ndarray) -> str:
    low, first, middle, third, high = np.percentile(values, (0, 25, 50, 75, 100))
    return (
        f"{len(values)} patients, lowest {low:.3f}, quartiles {first:.3f}, {middle:.3f} and "
        f"{third:.3f}, highest {high:.3f}"
    )


def _values(run: Run, over: str, class_name: str | None) -> Mapping[str, Any]:
    return {
        value.name: value
        for value in run.results.metrics
        if value.setting.get("over") == over and value.class_name == class_name
    }


def _interval(value: Any) -> Interval | None:
    return None if value is None else Interval(value.value, value.ci_low, value.ci_high)
