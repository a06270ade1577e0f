"""Is one run better than another on the same patients? In numbers and in words.

The answer rests on the paired bootstrap by patient, for any metric, with Holm's correction over
all pairs. Beside it: DeLong's test where the metric is one class's AUROC, a permutation test that
swaps the models patient by patient, and a test of equivalence within a margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.embeddings.table import DatasetInfo
from dinorad_rt.errors import LabelError, ProtocolError, unknown_name
from dinorad_rt.metrics.answers import Comparison, Question, comparison_of, corrected, plain
from dinorad_rt.metrics.comparisons import (
    Drawn,
    SwapStatistic,
    auroc_swap,
    mean_swap,
    paired_differences,
    permutation_test,
)
from dinorad_rt.metrics.decisions import predicted_labels
from dinorad_rt.metrics.delong import compare_auroc
from dinorad_rt.metrics.intervals import bootstrap_draws
from dinorad_rt.metrics.report import Panel, one_vs_rest, panel_of, present_classes

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Predictions, Results

__all__ = ["Comparison", "Question", "chosen_predictions", "compare_runs", "run_names"]


@dataclass(frozen=True)
class _Run:
    """One run's scores, repeats of one setting, with rows in the common order.

    Attributes:
        name: of the run, with its setting.
        scores: of each repeat.
        drawn: the metric's mean over the repeats, of the samples as they are and of the resamples.
    """

    name: str
    scores: tuple[np.ndarray, ...]
    drawn: Drawn


def compare_runs(
    runs: Sequence[Results],
    names: Sequence[str],
    question: Question | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Comparison]:
    """Compare every pair of runs.

    Args:
        runs: with their predictions.
        names: of the runs, all different.
        question: what is compared.
        settings: which setting of runs that have several, such as {"k": 20}; where it does not
            apply or is None, the one that validation chose.

    Returns:
        One comparison for each pair, in the order of the runs.

    Raises:
        ProtocolError: fewer than two runs, different test sets, a metric that a run does not
            have, or a setting that is not given and was not chosen.
        UnknownNameError: no such class, or a setting that no run has.
    """
    question = question or Question()
    if len(runs) < 2:
        raise ProtocolError(f"{len(runs)} run was given.", "Name two runs or more.")
    _check_settings(runs, settings or {})
    first = runs[0]
    rows = [_aligned(first, run, name) for run, name in zip(runs, names, strict=True)]
    groups = by_appearance(first.patients)
    patients = (groups.index, len(groups))
    prepared = [
        _prepared(run, name, order, first, patients=patients, settings=settings, question=question)
        for run, name, order in zip(runs, names, rows, strict=True)
    ]
    found = [_pair(a, b, first, question) for a, b in combinations(prepared, 2)]
    return corrected(found, question)


def run_names(runs: Sequence[Results], folders: Sequence[str]) -> list[str]:
    """What tells runs apart: model, backend, precision, protocol, preset; else their folders."""
    facts = []
    for run in runs:
        engine = run.provenance.get("engine") or {}
        parts = (engine.get("model"), engine.get("backend"), engine.get("precision"))
        facts.append([*(str(part or "") for part in parts), run.protocol, run.preset])
    varied = [i for i in range(5) if len({row[i] for row in facts}) > 1]
    names = [" ".join(row[i] for i in varied if row[i]) for row in facts]
    if len(set(names)) < len(names) or not all(names):
        names = list(folders)
    if len(set(names)) < len(names):
        names = [f"run {index}" for index in range(1, len(names) + 1)]
    return names


def _aligned(first: Results, run: Results, name: str) -> np.ndarray:
    """Rows of a run in the order of the first one's images.

    Raises:
        ProtocolError: other images, labels, patients or classes.
    """
    problem = None
    if (run.task, run.class_names) != (first.task, first.class_names):
        problem = f"its classes are {', '.join(run.class_names)} ({run.task})"
    elif not len(run.sample_ids) or not run.predictions:
        problem = "it holds no predictions"
    else:
        common = len(np.intersect1d(run.sample_ids.astype(str), first.sample_ids.astype(str)))
        if common < max(len(run.sample_ids), len(first.sample_ids)):
            problem = (
                f"it has {len(run.sample_ids)} test images, the first run {len(first.sample_ids)}, "
                f"and {common} are the same"
            )
    if problem is None:
        order = np.argsort(run.sample_ids.astype(str))
        place = order[np.argsort(np.argsort(first.sample_ids.astype(str)))]
        same = np.array_equal(run.labels[place], first.labels)
        if same and np.array_equal(run.patients[place], first.patients):
            return np.asarray(place)
        problem = "its labels or patients of the same images are others"
    raise ProtocolError(
        f"{name} and the first run were not judged on the same test set: {problem}.",
        "Compare runs of one dataset with one split. Runs of two machines have the same images "
        "only with the same key of pseudonyms (DINORAD_RT_KEY).",
    )


def _prepared(
    run: Results,
    name: str,
    order: np.ndarray,
    first: Results,
    *,
    patients: tuple[np.ndarray, int],
    settings: Mapping[str, Any] | None,
    question: Question,
) -> _Run:
    setting, items = chosen_predictions(run, settings)
    scores = tuple(item.scores[order] for item in items)
    usable, _ = present_classes(first.labels, first.class_names)
    index = _class_index(first, question)
    build = partial(
        panel_of,
        labels=first.labels,
        patients=patients,
        dataset=DatasetInfo(first.dataset, first.task, first.class_names),
        specificity=float(run.settings.get("specificity", 0.9)),
    )
    asked = [index] if index in usable else usable
    panels = [build(part, usable=asked, only=question.metric) for part in scores]
    if (question.metric, index) not in panels[0].keys:
        raise _no_metric(build(scores[0], usable=usable), index, first, question)
    row = panels[0].keys.index((question.metric, index))

    def measure(counts: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([panel.metric(counts)[row] for panel in panels], axis=0))[None]

    drawn = bootstrap_draws(
        measure,
        patients[1],
        resamples=question.resamples,
        seed=question.seed,
        width=max(panel.width for panel in panels),
    )
    shown = ", ".join(f"{key} {value}" for key, value in setting.items())
    return _Run(f"{name} ({shown})" if shown else name, scores, drawn)


def chosen_predictions(
    run: Results, settings: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[Predictions]]:
    """The setting of a run that counts, and its repeats.

    Args:
        run: with its predictions.
        settings: asked for; keys that the run does not have are passed over.

    Raises:
        ProtocolError: several settings fit and validation chose none.
    """
    from dinorad_rt.metrics.report import grouped

    groups = grouped(run.predictions)
    asked = {k: v for k, v in (settings or {}).items() if any(k in key for key, _ in groups)}
    wanted = asked or run.chosen
    fitting = [group for group in groups if group[0].items() >= wanted.items()]
    if len(fitting) == 1:
        return fitting[0]
    listed = "; ".join(", ".join(f"{k}={v}" for k, v in key.items()) for key, _ in groups)
    asks = ", ".join(f"{k}={v}" for k, v in asked.items())
    raise ProtocolError(
        f"The {run.protocol} run has the settings {listed}; "
        + (f"{asks} fits {len(fitting)} of them." if asked else "validation chose none of them."),
        "Name one: --setting " + ",".join(f"{k}={v}" for k, v in groups[-1][0].items()),
    )


def _check_settings(runs: Sequence[Results], settings: Mapping[str, Any]) -> None:
    """Refuse a setting that none of the runs has: it would choose nothing.

    Raises:
        UnknownNameError: naming it.
    """
    known = dict.fromkeys(key for run in runs for part in run.predictions for key in part.setting)
    for name in settings:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise unknown_name("setting", name, known, f"these runs have {listed}")


def _class_index(run: Results, question: Question) -> int | None:
    """Index of the class that the question is about; None for all, and of a binary task's one.

    Raises:
        UnknownNameError: no such class.
    """
    if question.class_name is None:
        return None
    names = run.class_names if run.task != "binary" else run.class_names[-1:]
    if question.class_name not in names:
        raise unknown_name("class", question.class_name, names, ", ".join(names))
    return None if run.task == "binary" else run.class_names.index(question.class_name)


def _no_metric(panel: Panel, index: int | None, run: Results, question: Question) -> ProtocolError:
    """The error for a metric that runs do not have, with those of the panel, which has all."""
    have = dict.fromkeys(name for name, c in panel.keys if (c is None) == (index is None))
    of = "" if index is None else f" of {question.class_name}"
    return ProtocolError(
        f"A {run.task} run has no {question.metric}{of} on these test images.",
        f"It has {', '.join(have)}.",
    )


def _pair(a: _Run, b: _Run, run: Results, question: Question) -> Comparison:
    (found,) = paired_differences(a.drawn, b.drawn)
    return comparison_of(
        found,
        (a.name, b.name),
        (float(a.drawn[0][0]), float(b.drawn[0][0])),
        question,
        (len(run.labels), len(np.unique(run.patients))),
        p_delong=_delong(a, b, run, question),
        p_permutation=_permutation(a, b, run, question),
    )


def _classes(run: Results, question: Question) -> list[int]:
    """Classes whose AUROCs the metric is the mean of; none for other metrics."""
    if question.metric != "auroc":
        return []
    if run.task == "binary":
        return [len(run.class_names) - 1]
    if question.class_name is not None:
        return [run.class_names.index(question.class_name)]
    return present_classes(run.labels, run.class_names)[0]


def _delong(a: _Run, b: _Run, run: Results, question: Question) -> float | None:
    classes = _classes(run, question)
    if len(classes) != 1 or len(a.scores) > 1 or len(b.scores) > 1:
        return None
    positive = one_vs_rest(run.labels, len(run.class_names))[:, classes[0]]
    left, right = (part.scores[0][:, classes[0]] for part in (a, b))
    try:
        return plain(compare_auroc(positive, left, right, run.patients).p_value)
    except LabelError:  # one patient of a class has no variance
        return None


def _permutation(a: _Run, b: _Run, run: Results, question: Question) -> float | None:
    if len(a.scores) > 1 or len(b.scores) > 1:
        return None
    left, right = a.scores[0], b.scores[0]
    classes = _classes(run, question)
    if classes:
        hot = one_vs_rest(run.labels, len(run.class_names))
        parts = [auroc_swap(hot[:, c], left[:, c], right[:, c]) for c in classes]
        statistic = _mean_of(parts)
    elif question.metric == "accuracy":
        correct = [predicted_labels(part, run.task) == run.labels for part in (left, right)]
        statistic = mean_swap(*(c.all(axis=1) if c.ndim == 2 else c for c in correct))
    else:
        return None
    permutations = question.permutations(len(left) * max(len(classes), 1))
    return permutation_test(statistic, run.patients, permutations=permutations, seed=question.seed)


def _mean_of(parts: Sequence[SwapStatistic]) -> SwapStatistic:
    def statistic(swapped: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([part(swapped) for part in parts], axis=0))

    return statistic
