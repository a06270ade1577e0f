"""The plots of the report. Each function draws plain values and gives a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinorad_rt.reports.curves import Curve, Reliability
from dinorad_rt.reports.plots import (
    add_legend,
    draw_front,
    new_axes,
    plain_log_axis,
    plain_ticks,
    series_style,
    wrapped,
)
from dinorad_rt.reports.svg import INK

Point = tuple[float, float]
FOREST_LETTERS = 52


@dataclass(frozen=True)
class Drawing:
    """A plot of the report.

    Attributes:
        name: of its file, without a suffix.
        protocol: what it is about.
        figure: drawn by matplotlib.
        caption: what it shows.
        alternative: the same for those who do not see it, with the numbers.
    """

    name: str
    protocol: str
    figure: Any
    caption: str
    alternative: str


@dataclass(frozen=True)
class Estimate:
    """A point with an interval; no interval where the ends are None."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None


def forest_figure(rows: Sequence[tuple[str, Estimate]], x: str) -> Any:
    """Values with their intervals under each other, the first on top, each under its name.

    Args:
        rows: name → estimate; its `x` is not used.
        x: label of the axis.
    """
    named = [(wrapped(name, FOREST_LETTERS), estimate) for name, estimate in rows]
    places = np.cumsum([1.1 + 0.45 * name.count("\n") for name, _ in named])
    figure, axes = new_axes(x, "", size=(4.4, 0.7 + 0.4 * places[-1]))
    for place, (name, estimate) in zip(places, named, strict=True):
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color="#0072B2", linewidth=2)
        axes.plot(estimate.value, place, "o", color="#0072B2", markersize=6)
        _name_row(axes, name, place, above=8)
    axes.set_ylim(places[-1] + 0.5, 0)
    _hide_y(axes)
    return figure


def distribution_figure(lines: Mapping[str, np.ndarray], x: str) -> Any:
    """Every value as a dot, under each other by name, with median and quartiles.

    Args:
        lines: name → values in [0, 1], at least one each.
        x: label of the axis.
    """
    named = [(wrapped(name, FOREST_LETTERS), values) for name, values in lines.items()]
    places = np.cumsum([1.2 + 0.45 * name.count("\n") for name, _ in named])
    figure, axes = new_axes(x, "", size=(4.4, 0.9 + 0.45 * places[-1]))
    for place, (name, values) in zip(places, named, strict=True):
        first, middle, third = np.percentile(values, (25, 50, 75))
        axes.plot([first, third], [place, place], color="#0072B2", alpha=0.3, linewidth=9)
        axes.plot([middle, middle], [place - 0.2, place + 0.2], color="#0072B2", linewidth=2)
        offsets = 0.16 * np.resize((0, 1, -1, 0.5, -0.5), len(values))
        axes.plot(
            *(values, place + offsets), "o", color="#D55E00", markersize=3.5, markeredgewidth=0
        )
        _name_row(axes, name, place, above=13)
    low = min(float(values.min()) for _, values in named)
    axes.set_xlim(max(-0.02, low - 0.06), 1.005)
    axes.set_ylim(places[-1] + 0.5, 0.2)
    _hide_y(axes)
    return figure


def curves_figure(lines: Mapping[str, Curve], x: str, y: str, *, steps: bool = False) -> Any:
    """ROC or precision-recall curves with their bands.

    Args:
        lines: name → curve.
        x, y: axis labels.
        steps: draw steps instead of straight lines (precision-recall); without them the line of
            chance is drawn (ROC).
    """
    figure, axes = new_axes(x, y, size=(4.6, 4.2))
    if not steps:
        axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1)
    for index, (name, curve) in enumerate(lines.items()):
        style = series_style(index) | {"marker": ""}
        axes.fill_between(
            curve.grid, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0
        )
        drawstyle = "steps-pre" if steps else "default"
        axes.plot(*_thinned(curve), label=name, drawstyle=drawstyle, linewidth=1.6, **style)
    _unit_square(axes)
    add_legend(figure)
    return figure


def reliability_figure(lines: Mapping[str, Reliability], x: str, y: str) -> Any:
    """How often it was so, against how often it was said, with intervals by patient."""
    figure, axes = new_axes(x, y, size=(4.6, 4.2))
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1)
    for index, (name, line) in enumerate(lines.items()):
        style = series_style(index)
        spread = np.stack([line.found - line.low, line.high - line.found]).clip(min=0)
        beside = line.said + 0.006 * (index - (len(lines) - 1) / 2)  # bars beside each other
        pale = {"ecolor": (style["color"], 0.4), "elinewidth": 1.0}
        axes.errorbar(beside, line.found, yerr=spread, label=name, linewidth=1.2, **pale, **style)
    _unit_square(axes)
    add_legend(figure)
    return figure


def shots_figure(
    lines: Mapping[str, Sequence[Estimate]],
    published: Mapping[str, Sequence[Point]],
    *,
    x: str,
    y: str,
) -> Any:
    """Few-shot curves: a line over the number of shots, a band over the seeds.

    Args:
        lines: name → estimates, `x` the shots, the ends the lowest and highest seed.
        published: name → (shots, value) of others, dashed.
        x, y: axis labels.
    """
    figure, axes = new_axes(x, y, "x")
    for index, (name, line) in enumerate(lines.items()):
        style = series_style(index)
        at = [item.x for item in line]
        low = [item.value if item.low is None else item.low for item in line]
        high = [item.value if item.high is None else item.high for item in line]
        axes.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(at, [item.value for item in line], label=name, linewidth=1.6, **style)
    for index, (name, points) in enumerate(published.items()):
        style = series_style(index) | {"linestyle": "--", "color": "#777777"}
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1, **style)
    every = [item.x for line in lines.values() for item in line]
    plain_ticks(axes, every + [at for points in published.values() for at, _ in points])
    add_legend(figure)
    return figure


def pareto_figure(
    points: Sequence[tuple[str, Estimate]], x: str, y: str, *, front: Sequence[Point]
) -> Any:
    """Accuracy with its interval against a cost, and the front of what nothing beats.

    Args:
        points: name → estimate, `x` the cost.
        x, y: axis labels.
        front: (cost, accuracy), cheapest first.
    """
    figure, axes = new_axes(x, y)
    axes.set_xscale("log")
    draw_front(axes, front)
    for index, (name, point) in enumerate(points):
        style = series_style(index) | {"linestyle": ""}
        spread = None
        if point.low is not None and point.high is not None:
            spread = [[max(point.value - point.low, 0)], [max(point.high - point.value, 0)]]
        axes.errorbar(point.x, point.value, yerr=spread, label=name, elinewidth=0.8, **style)
    costs = [point.x for _, point in points]
    axes.set_xlim(min(costs) / 1.5, max(costs) * 1.5)
    plain_log_axis(axes.xaxis, costs)
    add_legend(figure)
    return figure


def _unit_square(axes: Any) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")


def _thinned(curve: Curve, most: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """At most about `most` points of a long curve, ends included: a plot shows no more."""
    if len(curve.x) <= most:
        return curve.x, curve.y
    keep = np.unique(np.linspace(0, len(curve.x) - 1, most).astype(int))
    return curve.x[keep], curve.y[keep]


def _name_row(axes: Any, name: str, place: float, *, above: int) -> None:
    """Write a row's name over its line, `above` points higher."""
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    style = {"fontsize": 9, "color": INK, "parse_math": False}  # a dollar in a name is a dollar
    axes.annotate(name, (0.0, place), xytext=(2, above), **style, **where)


def _hide_y(axes: Any) -> None:
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
