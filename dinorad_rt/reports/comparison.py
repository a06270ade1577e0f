"""Comparisons of runs for the terminal: a row per pair, and what was shown in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dinorad_rt.metrics.intervals import few_patients_notes
from dinorad_rt.metrics.specs import difference_interval, measured_interval, titled
from dinorad_rt.reports.table import rows_table
from dinorad_rt.reports.terminal import BLANK, plain_cell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dinorad_rt.metrics.answers import Comparison, Question

FEW_OPEN = 3
"""Pairs without an answer up to which each has its sentence."""


def comparison_table(comparisons: Sequence[Comparison], question: Question) -> RenderableType:
    """Pairs of runs with the difference, its interval and p-values; the verdicts below.

    Of many pairs without an answer one sentence tells, in place of one for each.
    """
    from rich.console import Group

    what = titled(question.metric) + (f" of {question.class_name}" if question.class_name else "")
    what += f" in {question.unit}" if question.unit else ""
    equivalent = f"p equivalent {question.margin_words}"
    tests = {
        "p": "p_value",
        "p Holm": "p_holm",
        "p DeLong": "p_delong",  # of AUROC only
        "p permutation": "p_permutation",
        equivalent: "p_equivalence",
    }
    done = {
        name: field
        for name, field in tests.items()
        if any(getattr(item, field) is not None for item in comparisons)
    }
    rows = []
    for item in comparisons:
        difference = "undefined"
        if item.difference is not None and item.low is not None and item.high is not None:
            difference = difference_interval(question.metric, item.difference, item.low, item.high)
        value, bracket, interval = difference.partition(" [")
        row = {"first": item.first, "second": item.second, "values": _values(item, question)}
        row["difference [95 % CI]"] = value + bracket + interval.replace(" ", BLANK)
        for name, field in done.items():
            p = getattr(item, field)
            row[name] = "" if p is None else f"<{BLANK}0.001" if p < 0.001 else f"{p:.3f}"
        rows.append(row)
    holm = ("p",) if "p Holm" in done else ()  # which says the same, corrected
    spare = ("values", "p permutation", "p DeLong", equivalent, *holm)
    title = f"{what}: second minus first, on the same patients"
    table = rows_table(title, rows, spare)
    lines = _verdicts(comparisons, question)
    lines += few_patients_notes(min((item.n_patients for item in comparisons), default=0))
    return Group(table, *(plain_cell(f"· {line}") for line in lines))


def _values(item: Comparison, question: Question) -> str:
    """Value of the first and of the second run."""
    return ", ".join(
        measured_interval(question.metric, value, None, None)
        for value in (item.value_first, item.value_second)
    )


def _verdicts(comparisons: Sequence[Comparison], question: Question) -> list[str]:
    """What is shown, pair by pair, and how many pairs show nothing."""
    unshown = [item.verdict for item in comparisons if item.is_open]
    if len(unshown) <= FEW_OPEN:
        return [item.verdict for item in comparisons]
    shown = [item.verdict for item in comparisons if not item.is_open]
    others = "other " if shown else ""
    return [
        *shown,
        f"Of the {len(unshown)} {others}pairs no difference is shown, nor that they are "
        f"equivalent within {question.margin_words}.",
    ]
