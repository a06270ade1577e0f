"""Is one run better than another on the same patients? In numbers and in words.

The answer rests on the paired bootstrap by patient, for any metric, with Holm's correction over
all pairs. Beside it: DeLong's test where the metric is one class's AUROC, a permutation test that
swaps the models patient by patient, and a test of equivalence within a margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.embeddings.table import DatasetInfo
from dinorad_rt.errors import LabelError, ProtocolError, unknown_name
from dinorad_rt.metrics.comparisons import (
    SwapStatistic,
    auroc_swap,
    equivalence_test,
    holm,
    mean_swap,
    paired_bootstrap,
    permutation_test,
)
from dinorad_rt.metrics.decisions import predicted_labels
from dinorad_rt.metrics.delong import compare_auroc
from dinorad_rt.metrics.intervals import LEVEL, RESAMPLES
from dinorad_rt.metrics.report import Panel, one_vs_rest, panel_of, present_classes

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Predictions, Results

LOWER_IS_BETTER = ("brier", "calibration_error")
MARGIN = 0.02
_PERMUTED_VALUES = 50_000_000
"""Permutations times images times classes; beyond it fewer permutations are drawn."""


@dataclass(frozen=True)
class Question:
    """What is compared.

    Attributes:
        metric: one of those that `metrics.report` names.
        class_name: of a metric of one class; None for all classes.
        margin: largest difference that does not matter.
        resamples, seed: of bootstrap and permutations.
    """

    metric: str = "auroc"
    class_name: str | None = None
    margin: float = MARGIN
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same images; differences are second minus first.

    Attributes:
        first, second: names of the runs.
        value_first, value_second: of the metric.
        difference, low, high: with its 95 % interval by patient; None if undefined.
        p_value: two-sided, paired bootstrap.
        p_holm: the same, corrected for all pairs.
        p_delong: where the metric is one class's AUROC; else None.
        p_permutation: where the metric is an AUROC or the accuracy; else None.
        equivalent: the difference surely lies inside the margin.
        p_equivalence: of the two one-sided tests.
        n, n_patients: images and patients.
        verdict: in words.
    """

    first: str
    second: str
    value_first: float | None
    value_second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    p_delong: float | None
    p_permutation: float | None
    equivalent: bool | None
    p_equivalence: float | None
    n: int
    n_patients: int
    verdict: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Run:
    """One run's scores, repeats of one setting, with rows in the common order."""

    name: str
    scores: tuple[np.ndarray, ...]
    panels: tuple[Panel, ...]

    def metric(self, row: int) -> Any:
        """Counts → (1, resamples) mean over repeats of one row of the panel."""

        def measure(counts: np.ndarray) -> np.ndarray:
            values = [panel.metric(counts)[row : row + 1] for panel in self.panels]
            return np.asarray(np.mean(values, axis=0))

        return measure


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
        UnknownNameError: no such class.
    """
    question = question or Question()
    if len(runs) < 2:
        raise ProtocolError(f"{len(runs)} run was given.", "Name two runs or more.")
    first = runs[0]
    rows = [_aligned(first, run, name) for run, name in zip(runs, names, strict=True)]
    usable, _ = present_classes(first.labels, first.class_names)
    keys, index = np.unique(first.patients, return_inverse=True)
    patients = (index, len(keys))
    prepared = [
        _prepared(run, name, order, patients=patients, usable=usable, settings=settings)
        for run, name, order in zip(runs, names, rows, strict=True)
    ]
    row = _row(prepared[0].panels[0], first, question)
    found = [
        _pair(a, b, first, row, question=question, usable=usable)
        for a, b in combinations(prepared, 2)
    ]
    corrected = holm(np.array([np.nan if c.p_value is None else c.p_value for c in found]))
    found = [replace(c, p_holm=_plain(p)) for c, p in zip(found, corrected, strict=True)]
    return [replace(c, verdict=verdict(c, question, len(found))) for c in found]


def run_names(runs: Sequence[Results], folders: Sequence[str]) -> list[str]:
    """What tells runs apart: model, backend, precision, protocol, preset; else their folders."""
    facts = []
    for run in runs:
        engine = run.provenance.get("engine") or {}
        parts = (engine.get("model"), engine.get("backend"), engine.get("precision"))
        facts.append([*(str(part or "") for part in parts), run.protocol, run.preset])
    varied = [i for i in range(5) if len({row[i] for row in facts}) > 1]
    names = [" ".join(row[i] for i in varied if row[i]) for row in facts]
    if len(set(names)) < len(names):
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
    *,
    patients: tuple[np.ndarray, int],
    usable: Sequence[int],
    settings: Mapping[str, Any] | None,
) -> _Run:
    setting, items = chosen_predictions(run, settings)
    labels = np.asarray(run.labels)[order]
    dataset = DatasetInfo(run.dataset, run.task, run.class_names)
    scores = tuple(item.scores[order] for item in items)
    panels = tuple(
        panel_of(
            part,
            labels,
            patients,
            dataset,
            usable=usable,
            specificity=float(run.settings.get("specificity", 0.9)),
        )
        for part in scores
    )
    shown = ", ".join(f"{key} {value}" for key, value in setting.items())
    return _Run(f"{name} ({shown})" if shown else name, scores, panels)


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


def _row(panel: Panel, run: Results, question: Question) -> int:
    """Which row of the panel the question is about."""
    index = None
    if question.class_name is not None and run.task != "binary":
        if question.class_name not in run.class_names:
            raise unknown_name(
                "class", question.class_name, run.class_names, ", ".join(run.class_names)
            )
        index = run.class_names.index(question.class_name)
    if (question.metric, index) in panel.keys:
        return panel.keys.index((question.metric, index))
    have = dict.fromkeys(name for name, c in panel.keys if (c is None) == (index is None))
    of = f" of {question.class_name}" if index is not None else ""
    raise ProtocolError(
        f"A {run.task} run has no {question.metric}{of} on these test images.",
        f"It has {', '.join(have)}.",
    )


def _pair(
    a: _Run, b: _Run, run: Results, row: int, *, question: Question, usable: Sequence[int]
) -> Comparison:
    patients = len(np.unique(run.patients))
    first, second = a.metric(row), b.metric(row)
    (found,) = paired_bootstrap(
        first,
        second,
        patients,
        resamples=question.resamples,
        seed=question.seed,
        width=max(panel.width for panel in (*a.panels, *b.panels)),
    )
    once = np.ones((1, patients), dtype=np.int64)
    same = None
    if not np.isnan(found.draws).all():
        same = equivalence_test(found.draws, question.margin)
    return Comparison(
        first=a.name,
        second=b.name,
        value_first=_plain(first(once)[0, 0]),
        value_second=_plain(second(once)[0, 0]),
        difference=_plain(found.value),
        low=_plain(found.low),
        high=_plain(found.high),
        p_value=_plain(found.p_value),
        p_holm=None,
        p_delong=_delong(a, b, run, question, usable),
        p_permutation=_permutation(a, b, run, question, usable),
        equivalent=None if same is None else same.equivalent,
        p_equivalence=None if same is None else same.p_value,
        n=len(run.labels),
        n_patients=patients,
    )


def _classes(run: Results, question: Question, usable: Sequence[int]) -> list[int]:
    """Classes whose AUROCs the metric is the mean of; none for other metrics."""
    if question.metric != "auroc":
        return []
    if run.task == "binary":
        return [len(run.class_names) - 1]
    if question.class_name is not None:
        return [run.class_names.index(question.class_name)]
    return list(usable)


def _delong(
    a: _Run, b: _Run, run: Results, question: Question, usable: Sequence[int]
) -> float | None:
    classes = _classes(run, question, usable)
    if len(classes) != 1 or len(a.scores) > 1 or len(b.scores) > 1:
        return None
    positive = one_vs_rest(run.labels, len(run.class_names))[:, classes[0]]
    left, right = (part.scores[0][:, classes[0]] for part in (a, b))
    try:
        return _plain(compare_auroc(positive, left, right, run.patients).p_value)
    except LabelError:  # one patient of a class has no variance
        return None


def _permutation(
    a: _Run, b: _Run, run: Results, question: Question, usable: Sequence[int]
) -> float | None:
    if len(a.scores) > 1 or len(b.scores) > 1:
        return None
    left, right = a.scores[0], b.scores[0]
    classes = _classes(run, question, usable)
    if classes:
        hot = one_vs_rest(run.labels, len(run.class_names))
        parts = [auroc_swap(hot[:, c], left[:, c], right[:, c]) for c in classes]
        statistic = _mean_of(parts)
    elif question.metric == "accuracy":
        correct = [predicted_labels(part, run.task) == run.labels for part in (left, right)]
        statistic = mean_swap(*(c.all(axis=1) if c.ndim == 2 else c for c in correct))
    else:
        return None
    work = len(left) * max(len(classes), 1)
    permutations = int(min(question.resamples, max(999, _PERMUTED_VALUES // work)))
    return permutation_test(statistic, run.patients, permutations=permutations, seed=question.seed)


def _mean_of(parts: Sequence[SwapStatistic]) -> SwapStatistic:
    def statistic(swapped: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([part(swapped) for part in parts], axis=0))

    return statistic


def verdict(found: Comparison, question: Question, pairs: int) -> str:
    """One comparison in a sentence."""
    what = question.metric.replace("_", " ").replace("auroc", "AUROC")
    if question.class_name:
        what += f" of {question.class_name}"
    if found.difference is None or found.low is None or found.high is None:
        return f"{what} of {found.first} and {found.second} cannot be compared: it is undefined."
    p_value = found.p_holm if found.p_holm is not None else 1.0
    p_text = f"p {_p(found.p_value)}"
    if pairs > 1:
        p_text += f" (after Holm's correction for {pairs} pairs {_p(p_value)})"
    numbers = (
        f"{what} {found.value_second:.3f} against {found.value_first:.3f}, difference "
        f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {p_text}, on the same "
        f"{found.n} images of {found.n_patients} patients"
    )
    if p_value < 1 - LEVEL and (found.low > 0 or found.high < 0):
        higher = found.difference > 0
        better = higher != (question.metric in LOWER_IS_BETTER)
        word = "better" if better else "worse"
        return f"{found.second} is {word} than {found.first}: {numbers}."
    if found.equivalent:
        return (
            f"{found.second} and {found.first} are equivalent within ±{question.margin:g}: "
            f"{numbers}."
        )
    return (
        f"No difference is shown between {found.second} and {found.first}, nor that they are "
        f"equivalent within ±{question.margin:g}: {numbers}."
    )


def _p(value: float | None) -> str:
    if value is None:
        return "undefined"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
