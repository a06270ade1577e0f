"""Tables for the terminal: coloured on one, plain text elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from dinorad_rt.reports.results import MetricValue, Results

TITLES = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
}
WIDE = 160


def print_table(table: RenderableType) -> None:
    """Print on stdout; wide and plain when it is no terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDE
    Console(width=width, highlight=False).print(table)


def to_text(table: RenderableType, width: int = WIDE) -> str:
    """The table as plain text."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def rows_table(title: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A table of rows; columns that are empty in every row are left out."""
    if not rows:
        return f"{title}: nothing"
    table = _table(title)
    keys = [key for key in rows[0] if any(str(row.get(key, "")) for row in rows)]
    for key in keys:
        table.add_column(str(key), overflow="fold")
    for row in rows:
        table.add_row(*(_plain(row.get(key, "")) for key in keys))
    return table


def key_value_table(title: str, values: Mapping[str, Any]) -> RenderableType:
    """A table of two columns."""
    table = _table(title, show_header=False)
    table.add_column("", style="bold")
    table.add_column("", overflow="fold")
    for key, value in values.items():
        table.add_row(_plain(key), _plain(value))
    return table


def results_table(results: Results) -> RenderableType:
    """Metrics with intervals, one row per setting and class; what was excluded below."""
    from rich.console import Group

    table = _table(_title(results))
    names = [name for name in TITLES if any(value.name == name for value in results.metrics)]
    settings = list(dict.fromkeys(_setting(value) for value in results.metrics))
    table.add_column(" ".join(results.metrics[0].setting) or "setting", justify="right")
    table.add_column("class")
    for name in names:
        table.add_column(f"{TITLES[name]} [95 % CI]")
    classes = list(dict.fromkeys(value.class_name for value in results.metrics))
    for setting in settings:
        for class_name in classes:
            cells = [_find(results, name, class_name, setting) for name in names]
            whole = "all" if results.task == "binary" else "all, macro"
            table.add_row(setting, _plain(class_name or whole), *(_cell(cell) for cell in cells))
    return Group(table, *(_plain(line) for line in _footer(results)))


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
    return f"{title}   weights: {results.weights_kind}"


def _footer(results: Results) -> list[str]:
    first = results.metrics[0]
    lines = [
        f"{first.n} test images of {first.n_patients} patients; intervals by patient, "
        f"{first.resamples} resamples."
    ]
    if results.excluded_classes:
        listed = "; ".join(f"{name} ({why})" for name, why in results.excluded_classes.items())
        lines.append(f"Excluded from the macro mean: {listed}.")
    return lines + results.notes


def _setting(value: MetricValue) -> str:
    return " ".join(str(item) for item in value.setting.values())


def _find(results: Results, name: str, class_name: str | None, setting: str) -> MetricValue | None:
    for value in results.metrics:
        if (value.name, value.class_name, _setting(value)) == (name, class_name, setting):
            return value
    return None


def _cell(value: MetricValue | None) -> str:
    if value is None:
        return ""
    if value.value is None:
        return "undefined"
    if value.ci_low is None or value.ci_high is None:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} \\[{value.ci_low:.3f}, {value.ci_high:.3f}]"


def _table(title: str, **options: Any) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, **options)


def _plain(value: Any) -> str:
    from rich.markup import escape

    return escape("" if value is None else str(value))
