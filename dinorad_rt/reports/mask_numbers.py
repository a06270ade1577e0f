"""What the report says of masks in numbers: metrics of each class, and Dice patient by patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dinorad_rt.metrics.cases import CASES_FILE, CaseTable
from dinorad_rt.metrics.specs import COUNTED, measured
from dinorad_rt.reports import figures
from dinorad_rt.reports.cells import Link, interval
from dinorad_rt.reports.drawings import file_name, parts_of
from dinorad_rt.reports.figures import Drawing
from dinorad_rt.reports.runs import Run, TestSet
from dinorad_rt.reports.table import title_of, unit_of
from dinorad_rt.words import count_of

METRICS = ("dice", "jaccard", "hd95", "nsd")
COUNTED_HOW = {
    "per case": "the mean over images or volumes, interval by patient",
    "pooled pixels": "those of all images or volumes counted together, interval by patient",
}
MEAN = "mean of the classes"
ROWS_PER_PLOT = 10


def cases_of(run: Run) -> CaseTable | None:
    """The table of test volumes beside a run's results; None if it is not there.

    Raises:
        DataError: it cannot be read.
    """
    if run.folder is None or not (run.folder / CASES_FILE).is_file():
        return None
    return CaseTable.open(run.folder, run.results)


def dice_of_patients(cases: CaseTable, class_name: str | None = None) -> np.ndarray:
    """Each patient's mean Dice over the patient's volumes, lowest first.

    Args:
        cases: of a run.
        class_name: of which class; None for the mean of the classes.

    Returns:
        (patients with a value,) float64.
    """
    values = cases.values("dice", class_name)
    defined = ~np.isnan(values)
    _, index = np.unique(cases.patients[defined], return_inverse=True)
    found: np.ndarray = np.bincount(index, weights=values[defined]) / np.bincount(index)
    return np.sort(found)


def class_tables(test_set: TestSet) -> dict[str, list[dict[str, Any]]]:
    """A table per way of counting, under its words: a row per run and class, with intervals.

    Metrics that this way of counting does not have are left out, and ways of none.
    """
    names = test_set.results.class_names[1:]
    classes = (None, *names) if len(names) > 1 else names
    unit = unit_of(test_set.results)
    tables = {}
    for over, words in COUNTED.items():
        found = [(run, name, _values(run, over, name)) for run in test_set.runs for name in classes]
        metrics = [metric for metric in METRICS if any(metric in values for *_, values in found)]
        rows = [
            {
                "run": Link(run.label, run.anchor),
                "class": name or "mean",
                **{title_of(metric, unit): interval(values.get(metric)) for metric in metrics},
                "cases": next(iter(values.values())).n_positive,
            }
            for run, name, values in found
            if values
        ]
        if rows:
            tables[words] = rows
    return tables


def mask_drawings(test_set: TestSet) -> Iterator[Drawing]:
    """The Dice of every patient, per run and class; of runs with cases.parquet beside them."""
    if test_set.results.task != "segmentation":
        return
    lines = {
        label: values
        for run in test_set.runs
        for label, values in _patients_of(run, test_set.results.class_names[1:]).items()
    }
    parts = [dict(part) for part in parts_of(list(lines.items()), ROWS_PER_PLOT)]
    for number, part in enumerate(parts, start=1):
        suffix = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        yield Drawing(
            file_name(test_set.name, "dice by patient", suffix),
            "segmentation",
            figures.distribution_figure(part, "Dice of a patient"),
            f"Dice of each patient on {test_set.name}{suffix}: one dot per patient, the mean over "
            "the patient's images or volumes; the bar spans the middle half, the line the median.",
            f"Dice of each patient on {test_set.name}{suffix}: "
            + "; ".join(f"{label}: {_spread_words(values)}" for label, values in part.items()),
        )


def _patients_of(run: Run, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Label → Dice of the patients: of each class, after the mean if there are several."""
    cases = cases_of(run)
    if cases is None:
        return {}
    wanted: list[str | None] = [*classes] if len(classes) == 1 else [None, *classes]
    found = {f"{run.label}, {name or MEAN}": dice_of_patients(cases, name) for name in wanted}
    return {label: values for label, values in found.items() if len(values)}


def _spread_words(values: np.ndarray) -> str:
    ends = np.percentile(values, (0, 25, 50, 75, 100))
    low, first, middle, third, high = (measured("dice", value) for value in ends)
    return (
        f"{count_of(len(values), 'patient')}, lowest {low}, quartiles {first}, "
        f"{middle} and {third}, highest {high}"
    )


def _values(run: Run, over: str, class_name: str | None) -> Mapping[str, Any]:
    return {
        value.name: value
        for value in run.results.metrics
        if value.setting.get("over") == over and value.class_name == class_name
    }
