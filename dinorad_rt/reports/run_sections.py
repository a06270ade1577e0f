"""The part of the HTML report with every run: its metrics, its confusion, its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dinorad_rt.metrics.decisions import predicted_labels
from dinorad_rt.reports.cells import Shaded, format_number, interval
from dinorad_rt.reports.curves import confusion
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.runs import Run, words_of
from dinorad_rt.reports.sections import CHOICE, RANDOM
from dinorad_rt.reports.table import title_of, unit_of

MOST_CONFUSED = 30
"""Classes up to which each is a column of the confusion."""
NAMED_MISTAKES = 3


def add_runs(page: Page, material: Material) -> None:
    """Every run: its metrics, its confusion, and where each number came from."""
    page.heading("Runs and their provenance")
    facts = [provenance_facts(run) for run in material.runs]
    shared = shared_facts(facts)
    if shared:
        summary = f"The same for all {len(facts)} runs"
        with page.unfolding(summary):
            page.table(_fact_rows(shared), summary, filterable=False)
    for run, known in zip(material.runs, facts, strict=True):
        results = run.results
        summary = f"{run.label} · {results.protocol} · {results.dataset}"
        with page.unfolding(summary, anchor=run.anchor):
            if results.is_random:
                page.warning(f"{RANDOM}.")
            page.bullets([note.removeprefix(CHOICE) for note in results.notes])
            page.bullets(results.deviations)
            page.table(metric_rows(run), f"Metrics of {summary}", filterable=True)
            _add_confusion(page, run, summary)
            own = {key: value for key, value in known.items() if key not in shared}
            page.table(_fact_rows(own), f"Provenance of {summary}", filterable=False)
            page.details(
                "Settings and provenance as JSON",
                json.dumps(
                    {"settings": results.settings, "provenance": results.provenance}, indent=1
                ),
            )


def shared_facts(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts that are the same for every one of several runs."""
    if len(facts) < 2:
        return {}
    first, *others = facts
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def _fact_rows(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"what": key, "value": _plain_fact(value)} for key, value in facts.items()]


def metric_rows(run: Run) -> list[dict[str, Any]]:
    """Whole and macro values of every setting; each class under the setting that counts."""
    return [
        {
            "metric": title_of(value.name, unit_of(run.results), run.results.task),
            "value": interval(value),
            "class": value.class_name or ("all" if run.results.task == "binary" else "all, macro"),
            "setting": words_of(value.setting),
            "positives": value.n_positive,
            "images": value.n,
            "patients": value.n_patients,
            "resamples without a value": value.undefined,
        }
        for value in run.results.metrics
        if value.class_name is None or value.setting == run.setting
    ]


def _add_confusion(page: Page, run: Run, summary: str) -> None:
    predictions, results = run.predictions(), run.results
    if predictions is None or results.task == "multilabel":
        return
    predicted = predicted_labels(predictions.scores, results.task)
    counts = confusion(results.labels, predicted, len(results.class_names))
    rows = confusion_rows(counts, results.class_names)
    what = f"Confusion of {summary}, {run.setting_words}: images of each class"
    page.table(rows, what, filterable=len(rows) > MOST_CONFUSED)


def confusion_rows(counts: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per true class: a column per answer, or of many classes the commonest mistakes.

    Args:
        counts: (true class, predicted class).
        names: of the classes.
    """
    rows: list[dict[str, Any]] = []
    for at, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = int(row.sum())
        cells = [_share_cell(int(count), total) for count in row]
        truth = {"truth": f"{name} ({total})"}
        if len(names) <= MOST_CONFUSED:
            answers = zip(names, cells, strict=True)
            rows.append(truth | {f"predicted {other}": cell for other, cell in answers})
            continue
        wrong = [k for k in np.argsort(-row, kind="stable") if k != at and row[k]]
        mistakes = [f"{names[k]} {row[k]}" for k in wrong[:NAMED_MISTAKES]]
        more = [f"{len(wrong) - NAMED_MISTAKES} more"] if len(wrong) > NAMED_MISTAKES else []
        rows.append(
            truth | {"right": cells[at], "taken for": "; ".join([*mistakes, *more]) or None}
        )
    return rows


def _share_cell(count: int, total: int) -> Shaded:
    share = count / max(total, 1)
    return Shaded(f"{count} ({100 * share:.0f} %)", share, count)


def provenance_facts(run: Run) -> dict[str, Any]:
    """Where the numbers came from, in the order in which the data flowed."""
    results, provenance = run.results, run.results.provenance
    engine, data = run.engine, provenance.get("dataset") or {}
    weights = engine.get("weights")
    facts: dict[str, Any] = {"weights kind": results.weights_kind}
    facts |= {f"weights {k}": v for k, v in _flat(weights).items()}
    facts |= {
        "graph sha256": engine.get("graph_sha256"),
        "engine key": engine.get("key"),
        "engine": _engine_words(engine),
        "device": words_of(_flat(engine.get("device"))) or None,
        **{
            f"preprocessing {k}": v for k, v in _flat(provenance.get("preprocessing") or {}).items()
        },
        **{f"training {k}": v for k, v in _flat(provenance.get("training") or {}).items()},
        "dataset": data.get("name"),
        "dataset fingerprint": data.get("fingerprint"),
        "split hash": data.get("split_hash"),
        "images by split": words_of(data.get("splits") or {}) or None,
        "seeds": ", ".join(map(str, results.seeds)),
        "protocol preset": results.preset,
        **{f"version of {k}": v for k, v in _flat(provenance.get("versions") or {}).items()},
        **{f"machine {k}": v for k, v in _flat(provenance.get("machine") or {}).items()},
        **{f"seconds of {k.removesuffix('_s')}": round(v, 3) for k, v in results.timings.items()},
    }
    return {key: value for key, value in facts.items() if value is not None}


def _plain_fact(value: Any) -> str:
    """A fact as text: words and numbers of one column share a side."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "none"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_plain_fact, value))
    return format_number(value) if isinstance(value, float) else str(value)


def _engine_words(engine: Mapping[str, Any]) -> str | None:
    """`openvino 2026.4, fp32, batch 8`, as far as it is known."""
    named = " ".join(str(v) for k in ("backend", "backend_version") if (v := engine.get(k)))
    batch = engine.get("batch")
    parts = (named, engine.get("precision"), f"batch {batch}" if batch else "")
    return ", ".join(str(part) for part in parts if part) or None


def _flat(value: Any) -> dict[str, Any]:
    """Plain facts of a mapping; a single value becomes `name`."""
    if not isinstance(value, Mapping):
        return {} if value is None else {"name": value}
    shown = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            shown[str(key)] = ", ".join(f"{k} {_plain_fact(v)}" for k, v in item.items())
        elif isinstance(item, (list, tuple)):
            shown[str(key)] = ", ".join(map(str, item))
        else:
            shown[str(key)] = item
    return shown
