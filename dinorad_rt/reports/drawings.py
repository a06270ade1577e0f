"""Which plots a report shows: data of runs → curves → figures with captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.metrics.report import one_vs_rest, present_classes
from dinorad_rt.metrics.specs import measured
from dinorad_rt.reports import curves, figures
from dinorad_rt.reports.figures import Drawing, Estimate
from dinorad_rt.reports.results import MetricValue
from dinorad_rt.reports.runs import Run, TestSet, words_of
from dinorad_rt.reports.study_numbers import ALL, published_for
from dinorad_rt.reports.table import title_of, value_words
from dinorad_rt.reports.tradeoff import Joined, front
from dinorad_rt.words import count_of

Item = TypeVar("Item")
LINES_PER_PLOT = 6
MANY_SCORES = 200
FEW_SHOT = "few-shot"
SHOTS = "shots"
BAND = f"Bands: pointwise 95 % intervals by patient, {curves.RESAMPLES} resamples."


def drawings_of(test_set: TestSet) -> Iterator[Drawing]:
    """The plots of the runs on one test set, those with scores only."""
    for protocol in sorted(test_set.protocols):
        if protocol == FEW_SHOT:
            yield from few_shot(test_set)
            continue
        runs = [run for run in test_set.runs if run.results.protocol == protocol]
        scored = [run for run in runs if run.predictions() is not None]
        parts = parts_of(scored, LINES_PER_PLOT)
        for number, part in enumerate(parts, start=1):
            suffix = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
            yield from _curves(test_set, protocol, part, suffix)
        yield from forest(test_set, protocol)


def forest(test_set: TestSet, protocol: str) -> Iterator[Drawing]:
    """The main metric of every run of a protocol, with its interval, best first."""
    shown = [
        (run, value)
        for run in test_set.runs
        if run.results.protocol == protocol and (value := known(run.headline())) is not None
    ]
    if not shown:
        return
    title = title_of(shown[0][1].name)
    yield Drawing(
        file_name(test_set.name, protocol, "forest"),
        protocol,
        figures.forest_figure([(run.label, _estimate(value)) for run, value in shown], title),
        f"{protocol} on {test_set.name}: {title} with 95 % intervals by patient.",
        f"{title} of {protocol} on {test_set.name}: "
        + "; ".join(f"{run.label} {value_words(value)}" for run, value in shown),
    )


def few_shot(test_set: TestSet) -> Iterator[Drawing]:
    """The main metric over the number of shots; one plot per variant, such as per head."""
    groups: dict[str, dict[str, list[Estimate]]] = {}
    for run in test_set.runs:
        for value in run.results.metrics:
            shots = value.setting.get(SHOTS)
            whole = (value.name, value.class_name) == ("auroc", None)
            if not whole or known(value) is None or not isinstance(shots, (int, float)):
                continue
            others = words_of({k: v for k, v in value.setting.items() if k != SHOTS})
            variant = " ".join(filter(None, (run.variant, others)))
            groups.setdefault(variant, {}).setdefault(run.name, []).append(_over_seeds(value))
    published = _published_shots(test_set)
    for variant, lines in groups.items():
        for number, part in enumerate(parts_of(list(lines), LINES_PER_PLOT), start=1):
            chosen = {name: sorted(lines[name], key=lambda item: item.x) for name in part}
            yield _few_shot_drawing(test_set, variant, number, chosen, published)


def _few_shot_drawing(
    test_set: TestSet,
    variant: str,
    number: int,
    lines: dict[str, list[Estimate]],
    published: dict[str, list[tuple[float, float]]],
) -> Drawing:
    title = title_of("auroc")
    words = f"Few-shot on {test_set.name}{variant and f', {variant}'}"
    return Drawing(
        file_name(test_set.name, "few-shot", variant, str(number)),
        FEW_SHOT,
        figures.shots_figure(lines, published, x="shots per class", y=f"{title}, mean of repeats"),
        f"{words}. {_repeats(lines)}" + (" Dashed: published by others." if published else ""),
        f"{words}, {title}: "
        + "; ".join(
            f"{label}: "
            + ", ".join(f"{count_of(int(e.x), 'shot')} {measured('auroc', e.value)}" for e in line)
            for label, line in lines.items()
        ),
    )


def paretos(test_set: TestSet, joined: Sequence[Joined]) -> Iterator[Drawing]:
    """Accuracy against time, and against energy where it was measured.

    Drawn is the protocol that most engines share, of several that with the best run: the table
    has them all.
    """
    if not joined:
        return
    engines: dict[str, set[str]] = {}
    for item in joined:
        engines.setdefault(item.run.results.protocol, set()).add(str(item.run.engine.get("key")))
    protocol = max(engines, key=lambda name: len(engines[name]))
    joined = [item for item in joined if item.run.results.protocol == protocol]
    axes: tuple[tuple[str, str, Callable[[Joined], float | None]], ...] = (
        ("time", "ms per image at full load", lambda item: item.ms_per_image),
        ("latency", "ms per call, median", lambda item: item.latency_ms),
        ("energy", "J per image", lambda item: item.joules),
    )
    for kind, label, cost in axes:
        points, metric = [], ""
        for item in joined:
            at, one = cost(item), _estimate(item.value)
            if at is not None:
                metric = item.value.name
                points.append((item.run.label, Estimate(at, one.value, one.low, one.high)))
        if not points:
            continue
        title = title_of(metric)
        best = front([(point.x, point.value) for _, point in points])
        yield Drawing(
            file_name(test_set.name, "pareto", kind),
            "pareto",
            figures.pareto_figure(points, label, title, front=best),
            f"{title} of {protocol} on {test_set.name} against {label}, of the same engines. Grey: "
            "what no other run beats in both.",
            f"{title} of {protocol} against {label}: "
            + "; ".join(f"{name} {measured(metric, p.value)} at {p.x:.3g}" for name, p in points),
        )


def file_name(*parts: str) -> str:
    """A file name made of words."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def judged_scores(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Truth (samples, classes) bool and scores of the classes that a run's curves are made of.

    One column, of the positive class, for binary tasks; else those with positives and negatives.
    """
    results, predictions = run.results, run.predictions()
    assert predictions is not None
    usable, _ = present_classes(results.labels, results.class_names)
    columns = usable[-1:] if results.task == "binary" else usable
    hot = one_vs_rest(results.labels, len(results.class_names))
    return hot[:, columns], predictions.scores[:, columns]


def _curves(
    test_set: TestSet, protocol: str, runs: Sequence[Run], suffix: str
) -> Iterator[Drawing]:
    scored = {run.label: (run, *judged_scores(run)) for run in runs}
    classes = next(iter(scored.values()))[1].shape[1]
    mean = f", mean of {classes} classes" if classes > 1 else ""
    drawn = [
        curves.roc_and_pr(hot, scores, run.results.patients) for run, hot, scores in scored.values()
    ]
    for place, (kind, metric, *axes) in enumerate(
        (
            ("ROC", "auroc", "false positive rate", "true positive rate"),
            ("Precision-recall", "average_precision", "recall", "precision"),
        )
    ):
        lines = {
            f"{label} {_short(run, metric)}": pair[place]
            for (label, (run, _, _)), pair in zip(scored.items(), drawn, strict=True)
        }
        yield Drawing(
            file_name(test_set.name, protocol, kind, suffix),
            protocol,
            figures.curves_figure(lines, *axes, steps=kind != "ROC"),
            f"{kind} curves of {protocol} on {test_set.name}{mean}{suffix}. {BAND}",
            f"{kind} curves of {protocol} on {test_set.name}{mean}, with {title_of(metric)}: "
            + "; ".join(lines),
        )
    yield from _reliability(test_set, protocol, runs, suffix)


def _reliability(
    test_set: TestSet, protocol: str, runs: Sequence[Run], suffix: str
) -> Iterator[Drawing]:
    lines = {}
    for run in runs:
        hot, said = _said(run)
        if said.min() >= 0 and said.max() <= 1:
            index = by_appearance(run.results.patients).index  # numbers are sorted fast
            patients = np.repeat(index, len(said) // len(index))
            bins = 10 if len(said) >= MANY_SCORES else 5
            lines[run.label] = curves.reliability(hot, said, patients, bins=bins)
    if not lines:
        return
    what = {
        "binary": "score of the positive class",
        "multiclass": "score of the predicted class",
        "multilabel": "scores of all classes",
    }[test_set.results.task]
    yield Drawing(
        file_name(test_set.name, protocol, "reliability", suffix),
        protocol,
        figures.reliability_figure(lines, what, "share that was so"),
        f"Reliability of {protocol} on {test_set.name}{suffix}: bins of equal width, intervals "
        "by patient; the dotted line is perfect.",
        f"Reliability of {protocol} on {test_set.name}: "
        + "; ".join(
            f"{label}: "
            + ", ".join(f"said {s:.2f} was {f:.2f}" for s, f in zip(r.said, r.found, strict=True))
            for label, r in lines.items()
        ),
    )


def _said(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Whether it was so, and the score that said so; row by row."""
    predictions = run.predictions()
    assert predictions is not None
    scores, labels = predictions.scores, run.results.labels
    if run.results.task == "binary":
        return labels == scores.shape[1] - 1, scores[:, -1]
    if run.results.task == "multilabel":
        return labels.astype(bool).ravel(), scores.ravel()
    predicted = scores.argmax(axis=1)
    return labels == predicted, scores.max(axis=1)


def _repeats(lines: Mapping[str, Sequence[Estimate]]) -> str:
    if all(item.low is None for line in lines.values() for item in line):
        return "One draw of each size: no band."
    return "Bands: lowest to highest repeat, each with a subset of its own."


def _over_seeds(value: MetricValue) -> Estimate:
    known = [item for item in value.values if item is not None]
    assert value.value is not None
    ends = (min(known), max(known)) if len(known) > 1 else (None, None)
    return Estimate(float(value.setting[SHOTS]), value.value, *ends)


def _published_shots(test_set: TestSet) -> dict[str, list[tuple[float, float]]]:
    return {
        f"{item.model}, published": [
            (float(shots), value) for shots, value in item.values.items() if shots != ALL
        ]
        for item in published_for(test_set.results.dataset, FEW_SHOT)
    }


def _estimate(value: MetricValue) -> Estimate:
    assert value.value is not None
    return Estimate(0.0, value.value, value.ci_low, value.ci_high)


def known(value: MetricValue | None) -> MetricValue | None:
    """The metric if it has a value."""
    return None if value is None or value.value is None else value


def _short(run: Run, metric: str) -> str:
    value = run.headline(metric)
    return "" if value is None else value_words(value).replace(" ", "\u00a0")  # one unit of a line


def parts_of(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """What goes into one plot each: at most `size` items."""
    return [items[start : start + size] for start in range(0, len(items), size)]
