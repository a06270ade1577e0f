"""What a results.json and its table of scores must hold, checked before any of it is used.

Runs are kept for years, copied, cut by full disks and edited by hand. What is wrong with one is
said in a sentence, not found by the line of code that happens to need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from dinorad_rt.types import Task
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results

_TEXT, _NUMBER, _WHOLE = str, (int, float, type(None)), (int, type(None))
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("protocol", "task", "dataset", "preset"), _TEXT),
    **dict.fromkeys(("class_names", "metrics", "seeds", "deviations", "notes"), list),
    **dict.fromkeys(("excluded_classes", "settings", "chosen", "timings", "provenance"), Mapping),
}
_OPTIONAL = ("preset", "chosen", "deviations", "timings", "notes", "provenance")
_METRIC_KINDS: Mapping[str, Any] = {
    "name": _TEXT,
    "setting": Mapping,
    "class_name": (str, type(None)),
    **dict.fromkeys(("value", "ci_low", "ci_high"), _NUMBER),
    **dict.fromkeys(("n", "n_patients"), int),
    "n_positive": _WHOLE,
    "values": list,
}
_PROVENANCE = ("engine", "dataset", "preprocessing", "evaluation", "training")
FIXED_COLUMNS = ("sample_id", "patient", "split", "labels", "scores", "predicted")
"""Of predictions.parquet; the others are settings."""
_NEEDED = ("sample_id", "patient", "labels", "scores")


def problem_of_results(document: Mapping[str, Any]) -> str | None:
    """What is wrong with the content of a results.json, or None.

    Args:
        document: in this version's schema.
    """
    missing = [key for key in _KINDS if key not in document and key not in _OPTIONAL]
    if missing:
        return f"it lacks {', '.join(missing)}"
    found = _wrong_kind(document, _KINDS)
    if found is not None:
        return found
    if document["task"] not in get_args(Task):
        return f"task is {document['task']!r}"
    if not all(isinstance(name, str) for name in document["class_names"]):
        return "class_names holds what is no name"
    for number, row in enumerate(document["metrics"], start=1):
        if not isinstance(row, Mapping):
            return f"metric {number} is {_kind(row)}"
        found = _wrong_kind(row, _METRIC_KINDS)
        if found is not None:
            return f"of metric {number}, {found}"
    facts = {key: document.get("provenance", {}).get(key) or {} for key in _PROVENANCE}
    found = _wrong_kind(facts, dict.fromkeys(_PROVENANCE, Mapping))
    return None if found is None else f"of the provenance, {found}"


def problem_of_scores(table: Any, results: Results) -> str | None:
    """What keeps a table of predictions.parquet from being the scores of these results, or None."""
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        return f"it lacks {', '.join(missing)}"
    if not table.num_rows:
        return "it has no row"
    classes = len(results.class_names)
    widths = _widths(table["scores"])
    if widths != [classes]:
        counts = " or ".join(map(str, widths))
        return f"it has scores of {counts} classes, results.json {classes}"
    if _widths(table["labels"]) != [classes if results.task == "multilabel" else 1]:
        return f"its labels are not those of a {results.task} task of {classes} classes"
    settings = count_of_settings(table)
    images, rest = divmod(table.num_rows, settings)
    judged = results.metrics[0].n if results.metrics else 0
    if rest or images != judged:
        return (
            f"it has {count_of(table.num_rows, 'row')} of {count_of(settings, 'setting')}, "
            f"results.json {count_of(judged, 'test image')}"
        )
    return None


def count_of_settings(table: Any) -> int:
    """How many settings a table of predictions.parquet has scores of."""
    keys = [name for name in table.column_names if name not in FIXED_COLUMNS]
    return int(table.group_by(keys).aggregate([]).num_rows) if keys else 1


def _widths(column: Any) -> list[int]:
    """The different lengths of a column of lists."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), 0)
    return sorted(pc.unique(lengths).to_pylist())


def _wrong_kind(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> str | None:
    for key, kind in kinds.items():
        if key in values and not isinstance(values[key], kind):
            return f"{key} is {_kind(values[key])}"
    return None


def _kind(value: Any) -> str:
    names = {"str": "a text", "list": "a list", "dict": "a table", "NoneType": "nothing"}
    name = type(value).__name__
    return names.get(name, "a number" if isinstance(value, (int, float)) else name)
