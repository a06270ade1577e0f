"""How metrics are written: the same everywhere, distances with their unit and two decimals."""

from __future__ import annotations

import pytest

from dinorad_rt.metrics import report
from dinorad_rt.metrics.segmentation import VOLUME_METRICS
from dinorad_rt.metrics.specs import (
    SPECS,
    difference_interval,
    measured,
    measured_interval,
    spec_of,
    titled,
)


def test_every_metric_that_is_computed_has_a_spec() -> None:
    named = {word for line in (report.__doc__ or "").splitlines() for word in _names(line)}
    assert named >= {"auroc", "brier", "f1", "balanced_accuracy"}
    assert named | set(VOLUME_METRICS) <= set(SPECS)
    assert {name for name, spec in SPECS.items() if spec.is_distance} == {"hd95"}
    lower = {name for name, spec in SPECS.items() if spec.lower_is_better}
    assert lower == {"brier", "calibration_error", "hd95"}


def _names(line: str) -> list[str]:
    """The metrics of a line of the module's table: `    a, b     what they are`."""
    return line.strip().split("  ")[0].split(", ") if line.startswith("    ") else []


@pytest.mark.parametrize(
    ("metric", "shown", "difference", "title"),
    [
        ("auroc", "0.912 [0.874, 0.941]", "-0.012 [-0.050, +0.026]", "AUROC"),
        ("dice", "0.912 [0.874, 0.941]", "-0.012 [-0.050, +0.026]", "Dice"),
        ("hd95", "0.91 [0.87, 0.94]", "-0.01 [-0.05, +0.03]", "HD95, mm"),
        ("new_metric", "0.912 [0.874, 0.941]", "-0.012 [-0.050, +0.026]", "new metric"),
    ],
)
def test_decimals_and_units(metric: str, shown: str, difference: str, title: str) -> None:
    assert measured_interval(metric, 0.9123, 0.8741, 0.9412) == shown
    assert difference_interval(metric, -0.0121, -0.0496, 0.0263) == difference
    assert titled(metric, "mm") == title


def test_one_value() -> None:
    assert (measured("hd95", 3.456, "px"), measured("hd95", 3.456)) == ("3.46 px", "3.46")
    assert measured("dice", 0.5, "mm") == "0.500"
    assert measured_interval("hd95", None, None, None) == "undefined"
    assert measured_interval("hd95", 3.456, None, None) == "3.46"


def test_nothing_is_minus_zero() -> None:
    assert measured("hd95", -0.001) == "0.00"
    assert difference_interval("hd95", -0.001, -0.2, 0.2).startswith("+0.00 ")
    assert spec_of("hd95").decimals == 2
