"""The task gate of segmenters: does an engine give the same Dice as PyTorch?

Both segment the validation volumes. Compared are the mean foreground Dice per volume (paired
difference, interval by patient) and the masks (share of equal voxels). Limits, verdicts and words
are those of `engines.task_gate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.task_gate import LEAST_AGREEMENT, LEAST_PATIENTS, Verdict
from dinorad_rt.errors import EmptyDataError
from dinorad_rt.metrics.comparisons import paired_bootstrap
from dinorad_rt.metrics.intervals import CountMetric, bootstrap_patients
from dinorad_rt.metrics.segmentation import case_scores
from dinorad_rt.training.segmentation.evaluate import segment_group, volumes_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.training.segmentation.predict import AnySegmenter

DICE_LIMIT = 0.002
"""The interval of the Dice's difference must lie inside ± this."""


@dataclass(frozen=True)
class SegmentationGate:
    """What the gate found.

    Attributes:
        verdict: `undecided` where the data cannot tell.
        reason: in words.
        volumes, patients: of the validation split.
        unreadable: files or slices of it that could not be read.
        dice_reference, dice_engine: mean over volumes of the mean over foreground classes.
        difference, low, high: engine minus PyTorch, with its 95 % interval by patient.
        agreement: share of equal voxels.
        agreement_low, agreement_high: its 95 % interval by patient.
    """

    verdict: Verdict
    reason: str
    volumes: int
    patients: int
    unreadable: int
    dice_reference: float
    dice_engine: float
    difference: float
    low: float
    high: float
    agreement: float
    agreement_low: float
    agreement_high: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is undefined is None."""
        return {
            key: None if isinstance(value, float) and np.isnan(value) else value
            for key, value in asdict(self).items()
        }


def gate_on_validation(
    engine: AnySegmenter, reference: AnySegmenter, dataset: Dataset, *, seed: int = 0
) -> SegmentationGate:
    """Compare two segmenters on the validation split; slices of one series are one volume.

    Raises:
        EmptyDataError: no validation image, or none that can be read.
        LabelError, MaskError: a mask that fits neither the classes nor its image.
    """
    samples, classes = dataset.of_split("val"), len(dataset.class_names)
    failed: dict[str, str] = {}
    dice, voxels, owners = [], [], []
    for group in volumes_of(samples):
        found = segment_group((reference, engine), group, failed)
        if found is not None:
            truth, (wanted, given), _ = found
            dice.append([_dice(truth, mask, classes) for mask in (wanted, given)])
            voxels.append([int((wanted == given).sum()), truth.size])
            owners.append(group[0].patient)
    if not dice:
        raise EmptyDataError(
            f"{dataset.name} has no validation image that can be read for the task gate"
            + (f": {next(iter(failed.values()))}" if failed else "."),
            "Give the data that the run was trained on, with val in its split column.",
        )
    return judge_masks(
        np.asarray(dice, float), np.asarray(voxels), owners, unreadable=len(failed), seed=seed
    )


def judge_masks(
    dice: np.ndarray,
    voxels: np.ndarray,
    owners: Sequence[str],
    *,
    unreadable: int = 0,
    seed: int = 0,
) -> SegmentationGate:
    """Judge the Dice that reference and engine reach on the same volumes.

    Args:
        dice: (volumes, 2) of reference and engine; NaN where it is not defined.
        voxels: (volumes, 2), how many are equal in both masks, and how many there are.
        owners: (volumes,) keys of the patients.
        unreadable: files or slices that are missing.
        seed: of the intervals' resampling.
    """
    names, patient = np.unique(np.asarray(owners, str), return_inverse=True)
    count = len(names)
    first, second = (_mean_of(dice[:, column], patient, count) for column in (0, 1))
    (delta,) = paired_bootstrap(first, second, count, seed=seed)
    once = np.ones((1, count), np.int64)
    (same,) = bootstrap_patients(_agreement_of(voxels, patient, count), count, seed=seed)
    numbers: dict[str, Any] = dict(
        volumes=len(dice),
        patients=count,
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
    verdict, reason = _verdict(numbers)
    return SegmentationGate(verdict=verdict, reason=reason, **numbers)


def _dice(truth: np.ndarray, mask: np.ndarray, classes: int) -> float:
    """Mean over the foreground classes that are there; NaN if none is."""
    found = case_scores(truth, mask, classes, surfaces=False).dice
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def _mean_of(values: np.ndarray, patient: np.ndarray, patients: int) -> CountMetric:
    """Mean over volumes as a function of how often each patient was drawn."""
    defined = ~np.isnan(values)
    totals = np.bincount(patient, np.where(defined, values, 0.0), patients)
    numbers = np.bincount(patient, defined.astype(float), patients)
    return _ratio(totals, numbers)


def _agreement_of(voxels: np.ndarray, patient: np.ndarray, patients: int) -> CountMetric:
    equal, all_ = (np.bincount(patient, voxels[:, column], patients) for column in (0, 1))
    return _ratio(equal, all_)


def _ratio(above: np.ndarray, below: np.ndarray) -> CountMetric:
    def metric(counts: np.ndarray) -> np.ndarray:
        under = counts @ below
        found = np.full(len(counts), np.nan)
        np.divide(counts @ above, under, out=found, where=under > 0)
        return found[None]

    return metric


def _verdict(numbers: dict[str, Any]) -> tuple[Verdict, str]:
    """Both limits in words; what fails outweighs what cannot be decided."""
    failed, open_ = [], []
    low, high = numbers["low"], numbers["high"]
    if np.isnan(low):
        open_.append("the Dice is not defined on these validation images")
    elif low > DICE_LIMIT or high < -DICE_LIMIT:
        failed.append(f"the Dice differs by more than {DICE_LIMIT}")
    elif low < -DICE_LIMIT or high > DICE_LIMIT:
        open_.append(f"the interval of the Dice's difference reaches beyond ±{DICE_LIMIT}")
    if numbers["agreement"] < LEAST_AGREEMENT:
        surely = numbers["agreement_high"] < LEAST_AGREEMENT
        (failed if surely else open_).append(
            f"the same class for {numbers['agreement']:.2%} of the voxels, {LEAST_AGREEMENT:.1%} "
            "wanted"
        )
    if numbers["patients"] < LEAST_PATIENTS:
        open_.append(
            f"too few patients: {numbers['patients']} in the validation split; {LEAST_PATIENTS} "
            "are needed"
        )
    if failed:
        return "failed", "; ".join(failed)
    if open_:
        return "undecided", "; ".join(open_)
    return "passed", "the difference lies inside the limits"
