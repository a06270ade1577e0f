"""The task gate of segmenters: the Dice's interval by patient, equal voxels, and the verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dinorad_rt.engines.mask_gate import SegmentationGate, judge_masks
from dinorad_rt.errors import ProtocolError


def _dice(volumes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.6, 0.95, volumes)


def _plain_interval(first: np.ndarray, second: np.ndarray, per_patient: int) -> tuple[float, float]:
    """Patients drawn one by one."""
    random, groups = np.random.default_rng(3), len(first) // per_patient
    means = []
    for _ in range(2000):
        drawn = random.integers(groups, size=groups)
        rows = (per_patient * drawn[:, None] + np.arange(per_patient)).ravel()
        means.append(np.nanmean(second[rows]) - np.nanmean(first[rows]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _judged(first: np.ndarray, second: np.ndarray, **options: Any) -> SegmentationGate:
    """Volumes of 1,000 voxels, patients of one volume each unless told."""
    count, equal = len(first), options.pop("equal", 999)
    per_patient = options.pop("per_patient", 1)
    patients = [f"p{i // per_patient}" for i in range(count)]
    voxels = np.tile([equal, 1000], (count, 1))
    return judge_masks(np.stack([first, second], axis=1), voxels, patients, **options)


def test_the_dice_gate_draws_patients_and_leaves_undefined_volumes_out() -> None:
    first = _dice(120)
    second = first + np.random.default_rng(1).normal(-0.02, 0.01, 60).repeat(2)
    first[3] = second[3] = np.nan
    gate = _judged(first, second, per_patient=2)
    assert (gate.volumes, gate.patients) == (120, 60)
    assert gate.dice_reference == pytest.approx(np.nanmean(first))
    assert gate.difference == pytest.approx(np.nanmean(second) - np.nanmean(first))
    low, high = _plain_interval(first, second, 2)
    assert gate.low == pytest.approx(low, abs=5e-4)
    assert gate.high == pytest.approx(high, abs=5e-4)
    assert gate.verdict == "failed"
    assert "the Dice differs by more than 0.002" in gate.reason
    assert _judged(first, second, per_patient=2, margin=0.05).verdict == "passed"


def test_verdicts_of_the_dice_gate() -> None:
    dice = _dice(40)
    assert _judged(dice, dice).verdict == "passed"
    fewer = _judged(dice[:20], dice[:20])
    assert (fewer.verdict, fewer.reason) == (
        "undecided",
        "too few patients: 20 in the validation split; 30 are needed",
    )
    other = _judged(dice, dice, equal=990)
    assert other.verdict == "failed"
    assert "the same class for 99.00% of the voxels, 99.5% wanted" in other.reason
    wide = _judged(dice, dice + np.random.default_rng(2).normal(0, 0.02, 40))
    assert wide.verdict == "undecided"
    assert "reaches beyond ±0.002" in wide.reason
    nothing = _judged(np.full(40, np.nan), np.full(40, np.nan))
    assert nothing.verdict == "undecided"
    assert nothing.as_dict()["difference"] is None
    with pytest.raises(ProtocolError, match="40, 40 and 39"):
        judge_masks(np.zeros((40, 2)), np.ones((40, 2)), ["p"] * 39)
    with pytest.raises(ProtocolError, match="one or more"):
        judge_masks(np.zeros((0, 2)), np.ones((0, 2)), [])


def test_voxels_that_agree_for_some_patients_only_are_undecided() -> None:
    dice = np.stack([_dice(40)] * 2, axis=1)
    voxels = np.tile([1000, 1000], (40, 1))
    voxels[0, 0] = 700
    gate = judge_masks(dice, voxels, [f"p{i}" for i in range(40)])
    assert gate.agreement == pytest.approx(1 - 300 / 40_000)
    assert gate.agreement_low < 0.995 < gate.agreement_high
    assert gate.verdict == "undecided"
