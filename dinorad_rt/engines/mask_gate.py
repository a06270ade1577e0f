"""The task gate of segmenters: does an engine give the same masks as the FP32 reference?

Compared are the mean Dice over volumes (paired difference, interval by patient) and equal voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.engines.task_verdict import (
    DICE_LIMIT,
    LEAST_PATIENTS,
    Judgement,
    verdict_of,
)
from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.by_patient import SharesByPatient, defined_mean_by_patient
from dinorad_rt.metrics.comparisons import paired_bootstrap
from dinorad_rt.metrics.intervals import bootstrap_patients


@dataclass(frozen=True)
class SegmentationGate(Judgement):
    """What the task gate of a segmenter found.

    Attributes:
        volumes, patients: of the validation split.
        unreadable: files or slices of it that could not be read.
        dice_reference, dice_engine: mean foreground Dice over the volumes that have one.
        agreement: share of equal voxels.
        agreement_low, agreement_high: its 95 % interval by patient.
    """

    volumes: int
    patients: int
    unreadable: int
    dice_reference: float
    dice_engine: float


def judge_masks(
    dice: np.ndarray,
    voxels: np.ndarray,
    patients_of: np.ndarray | Sequence[str],
    *,
    unreadable: int = 0,
    margin: float = DICE_LIMIT,
    seed: int = 0,
) -> SegmentationGate:
    """Judge the Dice that reference and engine reach on the same volumes.

    Args:
        dice: (volumes, 2) mean foreground Dice of reference and engine; NaN where no class has a
            value.
        voxels: (volumes, 2), how many are equal in both masks, and how many there are.
        patients_of: (volumes,) key of each volume's patient.
        unreadable: files or slices that are missing.
        margin: the interval of the difference must lie inside ± this.
        seed: of the intervals' resampling.

    Raises:
        ProtocolError: no volume, or not one row for each.
    """
    sizes = (len(dice), len(voxels), len(patients_of))
    if not sizes[0] or len(set(sizes)) > 1:
        raise ProtocolError(
            f"Dice, voxels and patients of {sizes[0]}, {sizes[1]} and {sizes[2]} cases.",
            "Segment the same cases, one or more, with both.",
        )
    patient = by_appearance(np.asarray(patients_of, dtype=str)).index
    patients = int(patient.max()) + 1
    first, second = (
        defined_mean_by_patient(dice[:, column, None], patient, patients) for column in (0, 1)
    )
    (delta,) = paired_bootstrap(first, second, patients, seed=seed)
    equal = SharesByPatient(voxels[:, :1], voxels[:, 1:], patient, patients)
    (same,) = bootstrap_patients(equal, patients, seed=seed)
    once = np.ones((1, patients), np.int64)
    numbers: dict[str, Any] = dict(
        volumes=len(dice),
        patients=patients,
        unreadable=unreadable,
        dice_reference=float(first(once)[0, 0]),
        dice_engine=float(second(once)[0, 0]),
        difference=delta.value,
        low=delta.low,
        high=delta.high,
        agreement=same.value,
        agreement_low=same.low,
        agreement_high=same.high,
    )
    shortage = ""
    if patients < LEAST_PATIENTS:
        shortage = f"{patients} in the validation split; {LEAST_PATIENTS} are needed"
    verdict, reason = verdict_of(numbers, ("Dice", margin), "voxels", shortage)
    return SegmentationGate(verdict=verdict, reason=reason, **numbers)
