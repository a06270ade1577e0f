"""Plots drawn by matplotlib, readable in print and by people who see no red or green.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/); each series has a marker of its own
as well. `line_plot` and `scatter_plot` give SVG text; the plots of the report are in `figures`.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dinorad_rt.files import atomic_path
from dinorad_rt.reports.fonts import letters_of
from dinorad_rt.reports.svg import INK

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
FORMATS = ("svg", "pdf", "png")
LETTERS_PER_INCH = 11
"""Of the legend, beside its line."""
MOST_TICKS = 8
WIDE_RANGE = 1000.0
NARROW_TICKS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
Points = Sequence[tuple[float, float]]
STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "dinorad-rt",
}


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
        ceiling: label and height of a horizontal line, named in the legend.

    Returns:
        SVG text.
    """
    figure, axes = new_axes(x, y, log)
    for index, (name, points) in enumerate(series.items()):
        ordered = sorted(points)
        axes.plot(
            [point[0] for point in ordered],
            [point[1] for point in ordered],
            label=name,
            **series_style(index),
        )
    if ceiling is not None:
        axes.axhline(ceiling[1], color="#777777", linestyle="--", linewidth=1, label=ceiling[0])
    if "x" in log:
        at = [point[0] for points in series.values() for point in points]
        if all(float(value).is_integer() for value in at) and len(set(at)) <= MOST_TICKS:
            plain_ticks(axes, at)
        else:
            plain_log_axis(axes.xaxis, at)
    if "y" in log:
        heights = [point[1] for points in series.values() for point in points]
        plain_log_axis(axes.yaxis, heights + ([ceiling[1]] if ceiling else []))
    if len(series) > 1 or ceiling is not None:
        add_legend(figure)
    return to_svg(figure)


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
    figure, axes = new_axes(x, y, log)
    draw_front(axes, front)
    for index, (label, at_x, at_y) in enumerate(points):
        axes.plot(at_x, at_y, label=label, **series_style(index) | {"linestyle": ""})
    add_legend(figure)
    return to_svg(figure)


def draw_front(axes: Any, front: Points) -> None:
    """The line through a Pareto front: what could be had up to there."""
    if front:
        ordered = sorted(front)
        axes.step(*zip(*ordered, strict=True), where="post", color="#999999", linewidth=1)


def new_axes(
    x: str, y: str, log: str = "", *, size: tuple[float, float] = (4.6, 3.6)
) -> tuple[Any, Any]:
    """An empty plot with a light grid.

    Args:
        x, y: axis labels with units.
        log: as for `line_plot`.
        size: in inches.

    Returns:
        Figure and axes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    if "x" in log:
        axes.set_xscale("log", base=2)
    if "y" in log:
        axes.set_yscale("log")
    axes.grid(True, color="#888888", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def series_style(index: int) -> dict[str, Any]:
    """Colour, marker and line of the n-th series."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index // len(COLOURS) % len(LINES)],
        "markersize": 5,
    }


def add_legend(figure: Any) -> None:
    """The legend below the plot, where it hides nothing; the plot grows by its height."""
    import matplotlib as mpl

    handles = [item for axes in figure.axes for item in axes.get_legend_handles_labels()[0]]
    labels = [item for axes in figure.axes for item in axes.get_legend_handles_labels()[1]]
    if not handles:
        return
    columns = 2 if max(map(len, labels)) <= 26 and len(labels) > 3 else 1
    width, height = figure.get_size_inches()
    labels = [wrapped(label, round(LETTERS_PER_INCH * width)) for label in labels]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure.set_size_inches(width, height + 0.18 * -(-lines // columns) + 0.05)
    with mpl.rc_context(STYLE):
        legend = figure.legend(
            handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=9
        )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar in a name is a dollar


def wrapped(text: str, width: int) -> str:
    """Text in lines of at most `width` letters, broken at blanks, else after underscores, else
    inside a word."""
    return _Wrapper(width, break_on_hyphens=False).fill(text)


class _Wrapper(textwrap.TextWrapper):
    """Names of models are long and have underscores where others have blanks."""

    wordsep_simple_re = re.compile(r"([\t\n\x0b\x0c\r ]+|(?<=_)(?=[^_\s]))")


def plain_ticks(axes: Any, values: Sequence[float]) -> None:
    """Ticks at the values themselves, written without exponents."""
    ticks = sorted(set(values))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def plain_log_axis(axis: Any, values: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 of each power of ten, fewer or more by the range; no exponents."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ratio = max(values) / min(values)
    subs = (1.0,) if ratio > WIDE_RANGE else (1.0, 2.0, 5.0) if ratio > 10 else NARROW_TICKS
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def to_svg(figure: Any) -> str:
    """SVG text with a clear background; the same plot gives the same text."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context(STYLE), letters_of(figure, by_reader=True):
        figure.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return text.getvalue()


def save_figure(figure: Any, target: Path) -> None:
    """Write a plot for a paper; the suffix says the format: .svg, .pdf or .png (300 dpi)."""
    import matplotlib as mpl

    kind = target.suffix[1:]
    nothing = {"svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator")}.get(kind, ())
    with mpl.rc_context(STYLE), letters_of(figure), atomic_path(target) as part:
        figure.savefig(part, format=kind, dpi=300, metadata=dict.fromkeys(nothing))
