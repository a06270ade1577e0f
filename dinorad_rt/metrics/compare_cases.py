"""Is one segmenter better than another on the same patients? `compare` for masks.

Paired difference of the mean over volumes, with the paired bootstrap by patient; a permutation test
that swaps the segmenters patient by patient; equivalence; Holm's correction over the pairs of each
metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.errors import ProtocolError, unknown_name
from dinorad_rt.metrics.answers import (
    HD95_MARGIN,
    MARGIN,
    Comparison,
    Question,
    comparison_of,
    corrected,
)
from dinorad_rt.metrics.by_patient import defined_mean_by_patient
from dinorad_rt.metrics.cases import CASES_FILE, CaseTable, aligned_cases, check_conventions
from dinorad_rt.metrics.compare import compare_runs, run_names
from dinorad_rt.metrics.comparisons import mean_swap, paired_bootstrap, permutation_test
from dinorad_rt.metrics.intervals import RESAMPLES
from dinorad_rt.metrics.segmentation import VOLUME_METRICS

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results

DEFAULT_METRICS = ("dice", "hd95", "nsd")
ENGINE_FOLDER = "engine"
"""Where `eval --checkpoint RUN` writes, below the run."""


@dataclass(frozen=True)
class Asked:
    """What the user asked, before the runs' task is known.

    Attributes:
        metric: None for the task's own: AUROC; or Dice, HD95 and NSD as far as all runs hold them.
        class_name: None for the mean over classes.
        margin: None for 0.02, of HD95 1 mm (or pixel).
        resamples, seed: of bootstrap and permutations.
    """

    metric: str | None = None
    class_name: str | None = None
    margin: float | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    def question(self, metric: str) -> Question:
        """About one metric of classification."""
        return Question(metric, self.class_name, self.margin or MARGIN, self.resamples, self.seed)


def answer_runs(
    runs: Sequence[Results | Path],
    asked: Asked,
    settings: Mapping[str, Any] | None = None,
) -> tuple[list[tuple[Question, list[Comparison]]], dict[str, Results]]:
    """Compare runs of any task.

    Args:
        runs: results with their predictions, or folders of runs; segmenters go by folders.
        asked: the question.
        settings: as for `compare_runs`.

    Returns:
        Comparisons of every pair for each metric, and name → results of the runs.

    Raises:
        DataError: a folder without results or scores.
        ProtocolError: as `compare_runs` and `compare_cases`; runs of two tasks.
    """
    from dinorad_rt.reports.results import Results

    opened = [run if isinstance(run, Results) else Results.open(run) for run in runs]
    masks = [result.task == "segmentation" for result in opened]
    if any(masks) and not all(masks):
        raise ProtocolError(
            f"{sum(masks)} of {len(runs)} runs segment, the others classify.",
            "Compare runs of one task.",
        )
    folders = _folder_names(runs)
    names = run_names(opened, folders)
    if any(masks):
        tables = [_table_of(run, result) for run, result in zip(runs, opened, strict=True)]
        if settings:
            raise ProtocolError("Segmenters have no settings to choose from.", "Omit --setting.")
        found = compare_cases(tables, names, asked)
        return found, dict(zip(names, opened, strict=True))
    full = [
        result if isinstance(run, Results) else Results.open(run, predictions=True)
        for run, result in zip(runs, opened, strict=True)
    ]
    question = asked.question(asked.metric or "auroc")
    return [(question, compare_runs(full, names, question, settings))], dict(
        zip(names, full, strict=True)
    )


def compare_cases(
    tables: Sequence[CaseTable], names: Sequence[str], asked: Asked | None = None
) -> list[tuple[Question, list[Comparison]]]:
    """Compare every pair of segmenters, metric by metric.

    Args:
        tables: of the runs' test volumes.
        names: of the runs, all different.
        asked: the question.

    Returns:
        For each metric one comparison per pair, in the order of the runs.

    Raises:
        ProtocolError: fewer than two runs, other volumes, classes, masks or conventions, or a
            metric that volumes do not have.
        UnknownNameError: no such class.
    """
    asked = asked or Asked()
    if len(tables) < 2:
        raise ProtocolError(f"{len(tables)} run was given.", "Name two runs or more.")
    first = tables[0]
    orders = [aligned_cases(first, *pair) for pair in zip(tables, names, strict=True)]
    return [
        (question, _answers(tables, names, orders, question))
        for question in _questions(tables, names, asked)
    ]


def _questions(tables: Sequence[CaseTable], names: Sequence[str], asked: Asked) -> list[Question]:
    """One for each metric, checked against the tables."""
    first = tables[0]
    if asked.class_name is not None and asked.class_name not in first.class_names:
        raise unknown_name(
            "class", asked.class_name, first.class_names, ", ".join(first.class_names)
        )
    held = [name for name in VOLUME_METRICS if all(table.holds(name) for table in tables)]
    if asked.metric is not None and asked.metric not in held:
        raise ProtocolError(
            f"These segmenters have no {asked.metric} of each case.",
            f"They have {', '.join(held)}.",
        )
    metrics = [asked.metric] if asked.metric else [n for n in DEFAULT_METRICS if n in held]
    found = []
    for metric in metrics:
        check_conventions(tables, names, metric)
        distance = metric == "hd95"
        usual = HD95_MARGIN if distance else MARGIN
        given = asked.margin if asked.metric or not distance else None
        found.append(
            replace(
                asked.question(metric),
                margin=given or usual,
                unit=first.unit if distance else "",
                judged="case",
            )
        )
    return found


def _answers(
    tables: Sequence[CaseTable],
    names: Sequence[str],
    orders: Sequence[np.ndarray],
    question: Question,
) -> list[Comparison]:
    values = [
        table.values(question.metric, question.class_name)[order]
        for table, order in zip(tables, orders, strict=True)
    ]
    patients = tables[0].patients
    pairs = combinations(zip(names, values, strict=True), 2)
    return corrected([_pair(a, b, patients, question) for a, b in pairs], question)


def _pair(
    a: tuple[str, np.ndarray], b: tuple[str, np.ndarray], patients: np.ndarray, question: Question
) -> Comparison:
    groups = by_appearance(patients)
    count, index = len(groups), groups.index
    first, second = (defined_mean_by_patient(v[:, None], index, count) for _, v in (a, b))
    (found,) = paired_bootstrap(
        first, second, count, resamples=question.resamples, seed=question.seed
    )
    once = np.ones((1, count), dtype=np.int64)
    swapped = None
    if not np.isnan(found.value):
        swapped = permutation_test(
            mean_swap(a[1], b[1]),
            patients,
            permutations=question.permutations(len(patients)),
            seed=question.seed,
        )
    return comparison_of(
        found,
        (a[0], b[0]),
        (float(first(once)[0, 0]), float(second(once)[0, 0])),
        question,
        (len(patients), count),
        p_permutation=swapped,
        unpaired=int((np.isnan(a[1]) != np.isnan(b[1])).sum()),
    )


def _table_of(run: Results | Path, results: Results) -> CaseTable:
    if not isinstance(run, Path):
        raise ProtocolError(
            f"The results of a segmenter on {results.dataset} hold no scores of single cases.",
            f"Give the folder of the run, which has {CASES_FILE}.",
        )
    return CaseTable.open(run, results)


def _folder_names(runs: Sequence[Results | Path]) -> list[str]:
    """Last part of each folder; with the one above where it tells nothing (RUN/engine)."""
    folders = [
        (run if run.is_dir() else run.parent).resolve() if isinstance(run, Path) else None
        for run in runs
    ]
    alike = len({folder.name for folder in folders if folder is not None}) < len(folders)
    return [
        ""
        if folder is None
        else f"{folder.parent.name}/{folder.name}"
        if alike or folder.name == ENGINE_FOLDER
        else folder.name
        for folder in folders
    ]
