"""Tables for the terminal: coloured on one, plain text elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dinorad_rt.metrics.specs import measured_interval, titled
from dinorad_rt.reports.terminal import RowsTable, ValueCell, plain_cell, plain_table
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from dinorad_rt.reports.results import MetricValue, Results

COLUMNS = (
    *("auroc", "average_precision", "balanced_accuracy", "accuracy"),
    *("dice", "jaccard", "hd95", "nsd"),
)
"""Metrics with a column of their own; others stand below the table."""
EXACT_MATCH = "exact match"
WIDE = 160


def print_table(table: RenderableType) -> None:
    """Print on stdout; when it is no terminal tables are wide and plain, sentences on one line."""
    from rich.console import Console, Group

    width = None if sys.stdout.isatty() else WIDE
    console = Console(width=width, highlight=False)
    for part in table.renderables if isinstance(table, Group) else [table]:
        console.print(part, soft_wrap=width is not None and isinstance(part, str))


def to_text(table: RenderableType, width: int = WIDE) -> str:
    """The table as plain text."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def rows_table(
    title: str, rows: Sequence[Mapping[str, Any]], spare: Sequence[str] = ()
) -> RenderableType:
    """A table of rows; columns that are empty in every row are left out.

    Args:
        title: above it.
        rows: key → cell.
        spare: keys that may be left out of a narrow terminal, the least important first.
    """
    if not rows:
        return f"{title}: nothing"
    keys = [key for key in rows[0] if any(str(row.get(key, "")) for row in rows)]
    return RowsTable(title, tuple(keys), tuple(rows), tuple(spare))


def key_value_table(title: str, values: Mapping[str, Any]) -> RenderableType:
    """A table of two columns."""
    table = plain_table(title, show_header=False)
    table.add_column("", style="bold")
    table.add_column("", overflow="fold")
    for key, value in values.items():
        table.add_row(plain_cell(key), plain_cell(value))
    return table


def results_table(results: Results) -> RenderableType:
    """Metrics with intervals: a row per setting, then a row per class of the one that counts."""
    from rich.console import Group

    settings = list(dict.fromkeys(_setting(value) for value in results.metrics))
    shown = _chosen_setting(results, settings)
    classes = list(dict.fromkeys(value.class_name for value in results.metrics))
    parts: list[RenderableType] = []
    if len(settings) > 1:
        parts.append(_settings_table(results, settings, shown))
    if len(settings) == 1 or len(classes) > 1:
        parts.append(_classes_table(results, shown, classes, alone=len(settings) == 1))
    others = _others_table(results, shown)
    parts += [] if others is None else [others]
    return Group(*parts, *(plain_cell(line) for line in _footer(results, shown)))


def _settings_table(results: Results, settings: Sequence[str], chosen: str) -> Table:
    table = plain_table(_title(results))
    names = _names(results)
    table.add_column(_setting_names(results), justify="right")
    for name in names:
        table.add_column(_head(name, results))
    for setting in settings:
        mark = "* " if setting == chosen and results.chosen else ""
        cells = [_find(results, name, None, setting) for name in names]
        table.add_row(mark + setting, *map(_cell, cells))
    return table


def _classes_table(
    results: Results, setting: str, classes: Sequence[str | None], *, alone: bool
) -> Table:
    which = _setting_text(results, setting)
    table = plain_table(f"{_title(results)}\n{which}".rstrip() if alone else which)
    names = _names(results)
    table.add_column("class", overflow="fold")
    if len(classes) > 1:
        table.add_column("positive", justify="right")
    for name in names:
        table.add_column(_head(name, results))
    for class_name in classes:
        cells = [_find(results, name, class_name, setting) for name in names]
        positive = next((cell.n_positive for cell in cells if cell), None)
        whole = "all" if results.task == "binary" else "all, macro"
        counts = [plain_cell(positive)] if len(classes) > 1 else []
        table.add_row(plain_cell(class_name or whole), *counts, *map(_cell, cells))
    return table


def _title(results: Results) -> str:
    engine = results.provenance.get("engine") or {}
    parts = [
        results.protocol,
        str(engine.get("model", "")),
        str(engine.get("backend", "")),
        str(engine.get("precision", "")),
        f"on {results.dataset}",
    ]
    title = " ".join(part for part in parts if part)
    preset = "" if results.preset == "dinorad" else f", preset {results.preset}"
    return f"{title}{preset}   weights: {results.weights_kind}"


def _footer(results: Results, shown: str) -> list[str]:
    first = results.metrics[0]
    repeats = len(results.seeds)
    lines = [
        f"{count_of(first.n, 'test image')} of {count_of(first.n_patients, 'patient')}; 95 % "
        f"intervals by patient, {count_of(first.resamples, 'resample')}."
    ]
    if repeats > 1:
        lines.append(
            f"Means of {repeats} repeats (seeds {results.seeds[0]} to {results.seeds[-1]}); the "
            "intervals cover patients and repeats."
        )
    if results.excluded_classes:
        lines.append(f"Excluded from the macro mean: {excluded_words(results.excluded_classes)}.")
    return [*lines, *results.notes, *results.deviations]


def excluded_words(excluded: Mapping[str, str]) -> str:
    """`Edema, Hernia (no positive among 100 test images)`: classes of one reason together."""
    reasons: dict[str, list[str]] = {}
    for name, why in excluded.items():
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())


def _others_table(results: Results, shown: str) -> RenderableType | None:
    """The metrics without a column."""
    specificity = float(results.settings.get("specificity", 0.9))
    names = ("auroc_micro", "auroc_study", "f1", "sensitivity", "brier", "calibration_error")
    titles = {name: titled(name) for name in names}
    titles["sensitivity"] += f" at {100 * specificity:.0f} % specificity"
    table = plain_table("", show_header=False)
    table.add_column("", overflow="fold")
    table.add_column("")
    for name, title in titles.items():
        value = _find(results, name, None, shown)
        if value is not None and value.value is not None:
            table.add_row(title, _cell(value))
    if not table.row_count:
        return None
    table.title = f"Also{_of(results, shown)}"
    return table


def _of(results: Results, shown: str) -> str:
    several = len({_setting(value) for value in results.metrics}) > 1
    return f" ({_setting_text(results, shown)})" if several else ""


def _head(name: str, results: Results) -> ValueCell:
    return ValueCell(f"{title_of(name, unit_of(results), results.task)} [95 % CI]")


def title_of(metric: str, unit: str = "", task: str = "") -> str:
    """A metric as people write it; distances with their unit, if it is given."""
    return EXACT_MATCH if is_exact_match(metric, task) else titled(metric, unit)


def unit_of(results: Results) -> str:
    """Unit of the distances of masks, mm or px; nothing for other tasks."""
    return str(results.settings.get("unit", "")) if results.task == "segmentation" else ""


def is_exact_match(metric: str, task: str) -> bool:
    """Of several labels, accuracy asks for all of them at once."""
    return metric == "accuracy" and task == "multilabel"


def _names(results: Results) -> list[str]:
    return [name for name in COLUMNS if any(value.name == name for value in results.metrics)]


def _setting_names(results: Results) -> str:
    return " ".join(results.metrics[0].setting)


def _setting_text(results: Results, shown: str) -> str:
    """`blocks = 4, patch_mean = yes` of a setting as `_setting` writes it."""
    for value in results.metrics:
        if _setting(value) == shown:
            return ", ".join(f"{name} = {item}" for name, item in value.setting.items())
    return shown


def _chosen_setting(results: Results, settings: Sequence[str]) -> str:
    """The one that validation chose, else the last."""
    for value in results.metrics:
        if results.chosen and value.setting.items() >= results.chosen.items():
            return _setting(value)
    return settings[-1]


def _setting(value: MetricValue) -> str:
    return " ".join(str(item) for item in value.setting.values())


def _find(results: Results, name: str, class_name: str | None, setting: str) -> MetricValue | None:
    for value in results.metrics:
        if (value.name, value.class_name, _setting(value)) == (name, class_name, setting):
            return value
    return None


def _cell(value: MetricValue | None) -> RenderableType:
    return "" if value is None else ValueCell(value_words(value))


def value_words(value: MetricValue) -> str:
    """A value with its interval, in the decimals of its metric."""
    return measured_interval(value.name, value.value, value.ci_low, value.ci_high)
