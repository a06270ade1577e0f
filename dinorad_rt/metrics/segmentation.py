"""Overlap and distance of masks: per volume, and pooled over all pixels as the study did.

Per volume and foreground class, with the conventions for empty masks:

    truth   prediction   Dice, Jaccard, NSD   HD95
    empty   empty        no value             no value (the class is left out of the means)
    empty   something    0                    diagonal of the volume, the worst that could be
    some    empty        0                    diagonal of the volume

The mean over classes is taken within a volume, over the classes that have a value there; the mean
over volumes follows. Intervals draw patients, not volumes.

Pooled (PROTOCOLS.md 1.4): counts over every pixel of the split, then the mean over foreground
classes. Its Jaccard drops pixels whose truth is background before counting, so that false positives
there cost nothing: with one foreground class it is the pixel recall. Its Dice counts them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.appearance import by_appearance
from dinorad_rt.errors import DataError
from dinorad_rt.metrics.intervals import RESAMPLES, Estimate, bootstrap_patients

if TYPE_CHECKING:
    from dinorad_rt.reports.results import MetricValue

VOLUME_METRICS = ("dice", "jaccard", "hd95", "nsd")
TOLERANCE = 1.0


@dataclass(frozen=True, eq=False)
class CaseScores:
    """How well one volume or image was segmented.

    Attributes:
        confusion: (classes, classes) int64 pixels, truth by prediction; class 0 is background.
        dice, jaccard: (classes - 1,) float64 of the foreground classes; NaN where undefined.
        hd95: 95th percentile of the surface distance, in `unit`.
        nsd: share of the surfaces within the tolerance (normalised surface Dice).
        unit: `mm`, or `px` where the spacing is not known.
        penalised: foreground classes whose HD95 is the diagonal, because one mask is empty.
    """

    confusion: np.ndarray
    dice: np.ndarray
    jaccard: np.ndarray
    hd95: np.ndarray
    nsd: np.ndarray
    unit: str
    penalised: int


def case_scores(
    truth: np.ndarray,
    predicted: np.ndarray,
    classes: int,
    *,
    spacing: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
    surfaces: bool = True,
) -> CaseScores:
    """Compare two masks.

    Args:
        truth, predicted: (slices, height, width) class indices, 0 = background.
        classes: number of classes with the background.
        spacing: (slice, row, column) in millimetres; None, or NaN for the slices of a single
            image, where it is not known: distances within an image then count pixels.
        tolerance: of the NSD, in the unit of the distances.
        surfaces: measure HD95 and NSD; they are NaN otherwise.

    Raises:
        DataError: shapes differ, or a label beyond the classes.
    """
    _check(truth, predicted, classes)
    confusion = confusion_matrix(truth, predicted, classes)
    dice, jaccard = _overlap(confusion)
    unit, steps = _steps(spacing, len(truth))
    distances = np.full((2, classes - 1), np.nan)
    penalised = 0
    for index in range(1, classes) if surfaces else ():
        pair = truth == index, predicted == index
        if pair[0].any() and pair[1].any():
            distances[:, index - 1] = surface_scores(*pair, steps, tolerance)
        elif pair[0].any() or pair[1].any():
            distances[:, index - 1] = diagonal(truth.shape, steps), 0.0
            penalised += 1
    hd95, nsd = distances
    return CaseScores(confusion, dice, jaccard, hd95, nsd, unit, penalised)


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) int64 pixels, truth by prediction."""
    flat = truth.ravel().astype(np.int64) * classes + predicted.ravel()
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def surface_scores(
    truth: np.ndarray, predicted: np.ndarray, spacing: Sequence[float], tolerance: float
) -> tuple[float, float]:
    """HD95 and NSD of two masks that are not empty, by MONAI.

    HD95 is the larger of the two directed 95th percentiles. The surfaces are the voxels of a mask
    that touch its outside (or the border of the image); a single slice is treated as 2-D.

    Args:
        truth, predicted: (slices, height, width) bool.
        spacing: (slice, row, column).
        tolerance: in the unit of the spacing.
    """
    from dinorad_rt.optional import require

    monai = require("monai.metrics", "measuring surface distances")
    torch = require("torch", "measuring surface distances")
    box = _bounding_box(truth | predicted)
    steps = list(spacing)
    first, second = (np.pad(mask[box], 1) for mask in (truth, predicted))
    if len(truth) == 1:
        first, second, steps = first[1], second[1], steps[1:]
    pair = [torch.from_numpy(mask[None, None]) for mask in (second, first)]
    options = {"include_background": True, "spacing": steps}
    with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that it passes to itself
        warnings.simplefilter("ignore", FutureWarning)
        hd95 = monai.compute_hausdorff_distance(*pair, percentile=95, **options)
        nsd = monai.compute_surface_dice(*pair, class_thresholds=[tolerance], **options)
    return float(hd95), float(nsd)


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Length of a volume's diagonal between voxel centres; of the slice if there is one only."""
    sides = [(n - 1) * step for n, step in zip(shape, spacing, strict=True) if n > 1]
    return float(np.linalg.norm(sides))


def pooled_dice(confusion: np.ndarray) -> np.ndarray:
    """Dice of the foreground classes (..., classes - 1) from pixel counts (..., classes, classes).

    NaN for a class that occurs neither in the truth nor in the prediction.
    """
    hits, truth, predicted = _counts(confusion)
    return _ratio(2 * hits, truth + predicted)


def pooled_jaccard(confusion: np.ndarray) -> np.ndarray:
    """The study's Jaccard of the foreground classes: pixels of true background are not counted."""
    hits, truth, predicted = _counts(confusion)
    return _ratio(hits, truth + predicted - confusion[..., 0, 1:] - hits)


def segmentation_metrics(
    cases: Sequence[CaseScores],
    patients: np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[MetricValue]:
    """Means over volumes and pooled metrics, per class and over classes, intervals by patient.

    Args:
        cases: one per volume.
        patients: (cases,) patient of each.
        class_names: index → name, background first.
        seed, resamples: of the bootstrap.

    Raises:
        DataError: some distances are in millimetres and others in pixels.
    """
    unit_of(cases)
    groups = by_appearance(patients)
    gather = (groups.index == np.arange(len(groups))[:, None]).astype(np.float64)
    columns = (None, *range(len(class_names) - 1))
    rows = [(name, "pixels", column) for name in ("dice", "jaccard") for column in columns]
    rows += [(name, "volumes", column) for name in VOLUME_METRICS for column in columns]
    each = [np.stack([getattr(case, name) for case in cases]) for name in VOLUME_METRICS]
    values = [column for part in each for column in (_mean(part), *part.T)]
    means = _VolumeMeans(np.stack(values, axis=1), gather)
    pooled = np.stack([case.confusion for case in cases])
    summed = np.einsum("pc,cij->pij", gather, pooled.astype(np.float64))

    def metric(counts: np.ndarray) -> np.ndarray:
        return np.concatenate([_pooled(counts, summed), means(counts)])

    width = len(rows) + len(class_names) ** 2
    found = bootstrap_patients(metric, len(groups), resamples=resamples, seed=seed, width=width)
    truth = pooled.sum(axis=2)[:, 1:] > 0
    return [
        _value(row, estimate, class_names, truth, len(groups))
        for row, estimate in zip(rows, found, strict=True)
    ]


def convention_notes(
    cases: Sequence[CaseScores], class_names: Sequence[str], tolerance: float = TOLERANCE
) -> list[str]:
    """What a reader of the metrics must know about empty masks and units."""
    unit = unit_of(cases)
    notes = [
        f"HD95 is in {unit}, and NSD has a tolerance of {tolerance:g} {unit}."
        + (" The files name no pixel spacing." if unit == "px" else ""),
        "Dice, Jaccard, HD95 and NSD per case: a class that is empty in truth and prediction is "
        "left out; one that is empty in only one of them scores 0, and the case's diagonal as "
        "HD95. Metrics over pixels pool the whole test split as the study did; their Jaccard "
        "ignores false positives on background.",
    ]
    penalised = sum(case.penalised for case in cases)
    if penalised:
        notes.append(
            f"{penalised} of {len(cases) * (len(class_names) - 1)} pairs of case and class have "
            "one empty mask: their HD95 is the diagonal."
        )
    return notes


class _VolumeMeans:
    """Means over the volumes that have a value, under counts of patients."""

    def __init__(self, values: np.ndarray, gather: np.ndarray) -> None:
        valid = ~np.isnan(values)
        self._sums = gather @ np.where(valid, values, 0.0)
        self._sizes = gather @ valid.astype(np.float64)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        return _ratio(counts @ self._sums, counts @ self._sizes).T


def _pooled(counts: np.ndarray, summed: np.ndarray) -> np.ndarray:
    """Rows: macro Dice and each class, macro Jaccard and each class."""
    confusion = np.einsum("rp,pij->rij", counts.astype(np.float64), summed)
    parts = []
    for measure in (pooled_dice, pooled_jaccard):
        each = measure(confusion)
        parts += [_mean(each)[None], each.T]
    return np.concatenate(parts)


def _overlap(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hits, truth, predicted = _counts(confusion)
    return _ratio(2 * hits, truth + predicted), _ratio(hits, truth + predicted - hits)


def _steps(spacing: Sequence[float] | None, slices: int) -> tuple[str, tuple[float, float, float]]:
    """Unit and (slice, row, column) steps; the step across a single slice counts for nothing."""
    if spacing is None or not np.isfinite(spacing[1:]).all():
        return "px", (1.0, 1.0, 1.0)
    across, row, column = map(float, spacing)
    if not np.isfinite(across):
        return ("px", (1.0, 1.0, 1.0)) if slices > 1 else ("mm", (1.0, row, column))
    return "mm", (across, row, column)


def _counts(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, pixels in the truth and pixels predicted, of the foreground classes."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)[..., 1:]
    return hits, confusion.sum(axis=-1)[..., 1:], confusion.sum(axis=-2)[..., 1:]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    result = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined; NaN if nothing is."""
    valid = ~np.isnan(values)
    return _ratio(np.where(valid, values, 0.0).sum(axis=-1), valid.sum(axis=-1))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    spans = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        spans.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(spans)


def _value(
    row: tuple[str, str, int | None],
    estimate: Estimate,
    class_names: Sequence[str],
    truth: np.ndarray,
    patients: int,
) -> MetricValue:
    from dinorad_rt.reports.results import MetricValue

    name, over, column = row
    value, low, high = (
        None if np.isnan(end) else end for end in (estimate.value, estimate.low, estimate.high)
    )
    return MetricValue(
        name=name,
        setting={"over": over},
        class_name=None if column is None else class_names[column + 1],
        value=value,
        ci_low=low,
        ci_high=high,
        n=len(truth),
        n_patients=patients,
        n_positive=None if column is None else int(truth[:, column].sum()),
        resamples=estimate.resamples,
        undefined=estimate.undefined,
        values=(value,),
    )


def unit_of(cases: Sequence[CaseScores]) -> str:
    """Unit of the distances of all cases: mm or px.

    Raises:
        DataError: some are in millimetres and others in pixels.
    """
    units = {case.unit for case in cases}
    if len(units) > 1:
        raise DataError(
            f"The pixel spacing of {sum(case.unit == 'px' for case in cases)} of {len(cases)} "
            "cases is not known: distances in millimetres and in pixels have no common mean.",
            "Give all files a spacing, or none.",
        )
    return units.pop()


def _check(truth: np.ndarray, predicted: np.ndarray, classes: int) -> None:
    if truth.shape != predicted.shape or truth.ndim != 3:
        raise DataError(
            f"The masks have the shapes {truth.shape} and {predicted.shape}; both must be the "
            "same (slices, height, width)."
        )
    for name, mask in (("truth", truth), ("prediction", predicted)):
        if mask.size and (int(mask.min()) < 0 or int(mask.max()) >= classes):
            raise DataError(
                f"The {name} holds labels from {mask.min()} to {mask.max()}; the task has "
                f"{classes} classes, 0 to {classes - 1}.",
                "Name every class, or correct the mask.",
            )
