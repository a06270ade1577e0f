"""Test volumes through a segmenter: masks on the files' own grids, metrics, results.json.

every test volume ─► segment_study ─► against read_mask, on its own grid ─► one row of cases
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.embeddings.decode import WITHOUT_NUMBERS, is_without_numbers
from dinorad_rt.errors import DinoradError, EmptyDataError, EngineError, LabelError, MaskError
from dinorad_rt.files import atomic_path, write_json
from dinorad_rt.identifiers import reason_of
from dinorad_rt.metrics.cases import CASES_FILE
from dinorad_rt.metrics.intervals import few_patients_notes
from dinorad_rt.metrics.segmentation import (
    VOLUME_METRICS,
    CaseScores,
    case_scores,
    convention_notes,
    segmentation_metrics,
    unit_of,
)
from dinorad_rt.progress import Progress
from dinorad_rt.studies.read import read_study
from dinorad_rt.training.segmentation.predict import AnySegmenter, segment_study

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.reports.results import Results


@dataclass(frozen=True, eq=False)
class Case:
    """One volume or image of the test split.

    Attributes:
        case_id, patient: pseudonymous keys.
        scores: see `metrics.segmentation`.
        voxels: (classes - 1, 2) of truth and prediction.
        voxel_mm3: volume of a voxel; NaN where the spacing is not known.
    """

    case_id: str
    patient: str
    scores: CaseScores
    voxels: np.ndarray
    voxel_mm3: float


def segment_cases(
    segmenter: AnySegmenter,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    tolerance: float,
    progress: Progress | None = None,
) -> tuple[list[Case], dict[str, str]]:
    """Segment and judge samples; the slices of one series count as one volume.

    Args:
        segmenter: of slices or volumes.
        dataset: names the classes.
        samples: with masks.
        tolerance: of the surface Dice.
        progress: called with (done, total) samples.

    Returns:
        Cases, and sample id → why it could not be read.

    Raises:
        EmptyDataError: none could be read.
        LabelError, MaskError: a mask that fits neither the classes nor its image.
    """
    classes, done = len(dataset.class_names), 0
    cases: list[Case] = []
    failed: dict[str, str] = {}
    for group in volumes_of(samples):
        found = segment_group((segmenter,), group, failed)
        if found is not None:
            truth, (mask,), spacing = found
            cases.append(_case(group[0], (truth, mask), classes, spacing, tolerance))
        done += len(group)
        if progress is not None:
            progress(done, len(samples))
    if not cases:
        raise EmptyDataError(
            f"None of the {len(samples)} test images could be read: "
            f"{next(iter(failed.values()), '')}",
            "Check the data with `dinorad-rt inspect`.",
        )
    return cases, failed


def segment_group(
    segmenters: Sequence[AnySegmenter], group: Sequence[Sample], failed: dict[str, str]
) -> tuple[np.ndarray, list[np.ndarray], tuple[float, float, float] | None] | None:
    """One volume by several segmenters.

    Args:
        segmenters: each gives a mask.
        group: samples of the volume, with masks, in their order.
        failed: gets sample id → why it could not be read.

    Returns:
        Truth and masks, (slices, height, width) each, and the spacing in mm; None if no part of the
        volume could be read.

    Raises:
        LabelError, MaskError: a mask that fits neither the classes nor its image.
        EngineError: the engine cannot run.
    """
    truths: list[np.ndarray] = []
    masks: list[list[np.ndarray]] = []
    spacing = None
    for sample in group:
        try:
            study = read_study(sample.path, frame=sample.frame)
            if is_without_numbers(study.pixels):
                failed[sample.sample_id] = WITHOUT_NUMBERS
                continue
            truth = read_mask(sample)
            found = [segment_study(segmenter, study) for segmenter in segmenters]
        except (LabelError, MaskError, EngineError):
            raise
        except DinoradError as error:
            failed[sample.sample_id] = reason_of(error, sample.path)
            continue
        for mask in found:
            check_shapes(truth, mask)
        truths.append(truth)
        masks.append(found)
        spacing = study.spacing
    if not masks:
        return None
    joined = [np.concatenate(parts) for parts in zip(*masks, strict=True)]
    return np.concatenate(truths), joined, spacing


def check_shapes(truth: np.ndarray, mask: np.ndarray) -> None:
    """Raises: MaskError: an image and its mask differ in shape."""
    if truth.shape != mask.shape:
        raise MaskError(
            f"An image has {mask.shape} pixels (slices, rows, columns), its mask {truth.shape}.",
            "Resample the mask onto its image.",
        )


def judge_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    *,
    settings: dict[str, Any],
    provenance: dict[str, Any],
    tolerance: float,
    seed: int = 0,
) -> Results:
    """Metrics with intervals by patient, in the schema of all results."""
    from dinorad_rt.reports.results import Results

    start = time.perf_counter()
    scores = [case.scores for case in cases]
    patients = np.asarray([case.patient for case in cases])
    metrics = segmentation_metrics(scores, patients, dataset.class_names, seed=seed)
    notes = convention_notes(scores, dataset.class_names, tolerance)
    notes += few_patients_notes(len(set(patients.tolist())))
    return Results(
        protocol="segmentation",
        task="segmentation",
        dataset=dataset.name,
        class_names=dataset.class_names,
        metrics=metrics,
        excluded_classes={},
        settings=settings | {"unit": unit_of(scores), "tolerance": tolerance},
        seeds=(seed,),
        timings={"metrics_s": time.perf_counter() - start},
        notes=notes,
        provenance=provenance,
        sample_ids=np.asarray([case.case_id for case in cases], dtype=object),
        patients=patients.astype(object),
    )


def write_results(results: Results, cases: Sequence[Case], folder: Path) -> None:
    """Write cases.parquet, then results.json: whoever sees the second has both."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dinorad_rt.reports.results import RESULTS_FILE

    rows = [row for case in cases for row in _rows(case, results.class_names)]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / CASES_FILE) as part:
        pq.write_table(pa.Table.from_pylist(rows), part)
    write_json(folder / RESULTS_FILE, results.as_dict())


def volumes_of(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples of one file or series, in their order; others alone.

    A table may number the series of each patient anew, so they are one patient's each.
    """
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        one = sample.series or (str(sample.path) if sample.frame is not None else sample.sample_id)
        groups.setdefault((sample.patient, one), []).append(sample)
    return list(groups.values())


def _case(
    sample: Sample,
    pair: tuple[np.ndarray, np.ndarray],
    classes: int,
    spacing: tuple[float, float, float] | None,
    tolerance: float,
) -> Case:
    scores = case_scores(*pair, classes, spacing=spacing, tolerance=tolerance)
    counts = np.stack([scores.confusion.sum(axis=1)[1:], scores.confusion.sum(axis=0)[1:]], axis=1)
    volume = float("nan") if spacing is None else float(np.prod(spacing))
    return Case(sample.sample_id, sample.patient, scores, counts, volume)


def _rows(case: Case, class_names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for index, name in enumerate(class_names[1:]):
        row: dict[str, Any] = {"case_id": case.case_id, "patient": case.patient, "class": name}
        for metric in VOLUME_METRICS:
            value = float(getattr(case.scores, metric)[index])
            row[metric] = None if np.isnan(value) else value
        row["unit"] = case.scores.unit
        for part, count in zip(("true", "predicted"), case.voxels[index], strict=True):
            row[f"{part}_voxels"] = int(count)
            ml = float(count) * case.voxel_mm3 / 1000
            row[f"{part}_ml"] = None if np.isnan(ml) else ml
        rows.append(row)
    return rows
