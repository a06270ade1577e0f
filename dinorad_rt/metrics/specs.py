"""How each metric is written: title, decimals, unit, and whether less of it is better."""

from __future__ import annotations

from dataclasses import dataclass

from dinorad_rt.words import interval_words


@dataclass(frozen=True)
class MetricSpec:
    """One metric as people write it.

    Attributes:
        title: such as AUROC.
        decimals: with which values, intervals and differences are shown.
        lower_is_better: errors and distances.
        is_distance: it has the unit of the images: mm, or px where no spacing is known.
    """

    title: str
    decimals: int = 3
    lower_is_better: bool = False
    is_distance: bool = False


SPECS = {
    "auroc": MetricSpec("AUROC"),
    "auroc_micro": MetricSpec("AUROC, micro"),
    "auroc_study": MetricSpec("AUROC as the study counts (absent classes 0)"),
    "average_precision": MetricSpec("AP"),
    "balanced_accuracy": MetricSpec("balanced accuracy"),
    "accuracy": MetricSpec("accuracy"),
    "f1": MetricSpec("F1"),
    "sensitivity": MetricSpec("sensitivity"),
    "brier": MetricSpec("Brier score", lower_is_better=True),
    "calibration_error": MetricSpec("calibration error", lower_is_better=True),
    "dice": MetricSpec("Dice"),
    "jaccard": MetricSpec("Jaccard"),
    "hd95": MetricSpec("HD95", decimals=2, lower_is_better=True, is_distance=True),
    "nsd": MetricSpec("NSD"),
}
"""Distances take hundredths: means over many cases differ by less than a tenth of a millimetre."""
COUNTED = {"volumes": "per case", "pixels": "pooled pixels"}
"""Over what the metrics of masks are taken, in words."""


def spec_of(metric: str) -> MetricSpec:
    """The spec of a metric; a name that is not known is its own title, shown like a share."""
    return SPECS.get(metric) or MetricSpec(metric.replace("_", " "))


def titled(metric: str, unit: str = "") -> str:
    """`AUROC`, `HD95, mm`: the unit stands with distances alone."""
    spec = spec_of(metric)
    return f"{spec.title}, {unit}" if unit and spec.is_distance else spec.title


def measured(metric: str, value: float, unit: str = "") -> str:
    """One value: `0.912`, `3.46 mm`."""
    spec = spec_of(metric)
    text = f"{value:z.{spec.decimals}f}"
    return f"{text} {unit}" if unit and spec.is_distance else text


def measured_interval(
    metric: str, value: float | None, low: float | None, high: float | None
) -> str:
    """A value with its interval, without unit: `0.912 [0.874, 0.941]`, `3.46 [2.90, 4.11]`."""
    return interval_words(value, low, high, decimals=spec_of(metric).decimals)


def difference_interval(metric: str, value: float, low: float, high: float) -> str:
    """A difference of two values with its interval, all signed: `-0.41 [-0.90, +0.11]`."""
    shown = f"+z.{spec_of(metric).decimals}f"
    return f"{value:{shown}} [{low:{shown}}, {high:{shown}}]"
