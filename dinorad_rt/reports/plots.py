"""Plots as SVG text, drawn by matplotlib, readable in print and by people who see no red or green.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/); each series has a marker of its own
as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
Points = Sequence[tuple[float, float]]


def line_plot(
    series: Mapping[str, Points],
    *,
    x: str,
    y: str,
    log: str = "",
    ceiling: tuple[str, float] | None = None,
) -> str:
    """Lines with markers.

    Args:
        series: name → points (x, y).
        x, y: axis labels with units.
        log: axes that are logarithmic: "", "x", "y" or "xy".
        ceiling: label and height of a horizontal line.

    Returns:
        SVG text.
    """
    figure, axes = _axes(x, y, log)
    for index, (name, points) in enumerate(series.items()):
        ordered = sorted(points)
        axes.plot(
            [point[0] for point in ordered],
            [point[1] for point in ordered],
            label=name,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
        )
    if ceiling is not None:
        axes.axhline(ceiling[1], color="#555555", linestyle="--", linewidth=1)
        axes.annotate(
            ceiling[0], (0.01, ceiling[1]), xycoords=("axes fraction", "data"), va="bottom"
        )
    if "x" in log:
        _plain_ticks(axes, [point[0] for points in series.values() for point in points])
    return _svg(figure, axes, legend=len(series) > 1)


def scatter_plot(
    points: Sequence[tuple[str, float, float]],
    *,
    x: str,
    y: str,
    log: str = "",
    front: Points = (),
) -> str:
    """Labelled points, and optionally a Pareto front through some of them.

    Args:
        points: (label, x, y).
        x, y: axis labels with units.
        log: as for `line_plot`.
        front: points of the front.

    Returns:
        SVG text.
    """
    figure, axes = _axes(x, y, log)
    if front:
        ordered = sorted(front)
        axes.step(*zip(*ordered, strict=True), where="post", color="#999999", linewidth=1)
    for index, (label, at_x, at_y) in enumerate(points):
        axes.plot(at_x, at_y, color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % 7])
        axes.annotate(label, (at_x, at_y), textcoords="offset points", xytext=(6, 4), fontsize=8)
    return _svg(figure, axes, legend=False)


def _axes(x: str, y: str, log: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xscale("log", base=2) if "x" in log else None
    axes.set_yscale("log") if "y" in log else None
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain_ticks(axes: Any, values: Sequence[float]) -> None:
    ticks = sorted(set(values))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _svg(figure: Any, axes: Any, *, legend: bool) -> str:
    import matplotlib as mpl

    if legend:
        axes.legend(frameon=False, fontsize=8)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "dinorad-rt", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
