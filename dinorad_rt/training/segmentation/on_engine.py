"""A segmenter on its engine: the test split judged, the validation split as task gate.

The gate compares the Dice that engine and PyTorch reach on the same volumes: the paired difference
of the mean over volumes with its interval by patient, and the share of equal voxels. Needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinorad_rt.errors import EmptyDataError, RunError
from dinorad_rt.files import read_json
from dinorad_rt.metrics.segmentation import TOLERANCE, case_scores
from dinorad_rt.pipeline import Say, silent
from dinorad_rt.training.segmentation.evaluate import judge_cases, segment_cases, write_results
from dinorad_rt.training.segmentation.load import segmenter_of
from dinorad_rt.training.segmentation.predict import AnySegmenter, runner_segmenter, segment_study

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.reports.results import Results
    from dinorad_rt.training.checkpoint import TunedModel
    from dinorad_rt.training.evaluate import RunRequest

DICE_LIMIT = 0.002
LEAST_AGREEMENT = 0.995
LEAST_PATIENTS = 30


@dataclass(frozen=True)
class SegmentationGate:
    """What the gate found.

    Attributes:
        verdict: `undecided` where the data cannot tell.
        reason: in words.
        volumes, patients: of the validation split.
        dice_reference, dice_engine: mean over volumes.
        difference, low, high: engine minus PyTorch, with its 95 % interval by patient.
        agreement: share of equal voxels.
    """

    verdict: Literal["passed", "failed", "undecided"]
    reason: str
    volumes: int
    patients: int
    dice_reference: float
    dice_engine: float
    difference: float
    low: float
    high: float
    agreement: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate_segmenter(
    tuned: TunedModel,
    request: RunRequest,
    dataset: Dataset,
    folder: Path,
    *,
    seed: int = 0,
    say: Say = silent,
) -> Results:
    """Judge a run's graph on an engine, and put the engine through the gate.

    Args:
        tuned: of kind segmenter.
        request: how it is deployed.
        dataset: with the classes of the run.
        folder: of the results.
        seed: of the intervals.
        say: told of each step.

    Raises:
        RunError: the dataset has other classes.
        ExportError, EngineError, ParityError: the engine cannot be had.
    """
    from dinorad_rt.embeddings.provenance import dataset_facts, engine_facts
    from dinorad_rt.engines.build import open_runner
    from dinorad_rt.training.evaluate import engine_of_run

    check_classes(tuned, dataset)
    engine = engine_of_run(tuned, request, say)
    tolerance = _tolerance_of(request.run)
    with open_runner(engine) as runner:
        segmenter = runner_segmenter(runner, tuned.preprocessing, len(tuned.class_names))
        say(f"segmenting the test images on {engine.backend}")
        start = time.perf_counter()
        test = dataset.of_split("test")
        cases, failed = segment_cases(segmenter, dataset, test, tolerance=tolerance)
        segmented = time.perf_counter() - start
        say("task gate: PyTorch and engine on the validation images")
        gate = gate_on_validation(segmenter, segmenter_of(tuned), dataset, seed=seed)
    say(f"task gate {gate.verdict}: {gate.reason}")
    provenance = {
        "run": tuned.sha256,
        "engine": engine_facts(engine),
        "preprocessing": tuned.preprocessing.as_dict(),
        "dataset": dataset_facts(dataset),
        "task_gate": gate.as_dict(),
    }
    settings = {"protocol": tuned.facts["method"], "tolerance": tolerance}
    results = judge_cases(
        cases, dataset, settings=settings, provenance=provenance, tolerance=tolerance, seed=seed
    )
    results.timings["segment_s"] = segmented
    results.notes.append(
        f"Task gate on {gate.volumes} validation volumes: Dice of the engine minus PyTorch "
        f"{gate.difference:+.5f} [{gate.low:+.5f}, {gate.high:+.5f}], {gate.agreement:.3%} of the "
        f"voxels equal: {gate.verdict} ({gate.reason})."
    )
    if failed:
        results.notes.append(f"{len(failed)} test images could not be read and are missing here.")
    write_results(results, cases, folder)
    return results


def check_classes(tuned: TunedModel, dataset: Dataset) -> None:
    """Refuse data that the run cannot answer for.

    Raises:
        RunError: other classes, or no masks.
    """
    if dataset.task != "segmentation" or dataset.class_names != tuned.class_names:
        raise RunError(
            f"The run segments {', '.join(tuned.class_names)}; {dataset.name} has the "
            f"{dataset.task} classes {', '.join(dataset.class_names)}.",
            "Give data with the same classes in the same order (--class-names), or train on this "
            "data: dinorad-rt train --protocol segmentation",
        )


def gate_on_validation(
    engine: AnySegmenter, reference: AnySegmenter, dataset: Dataset, *, seed: int = 0
) -> SegmentationGate:
    """Compare two segmenters on the validation split.

    Raises:
        EmptyDataError: no validation image.
    """
    from dinorad_rt.metrics.comparisons import paired_bootstrap
    from dinorad_rt.metrics.intervals import CountMetric

    samples = dataset.of_split("val")
    if not samples:
        raise EmptyDataError(f"{dataset.name} has no val images for the task gate.", "Add some.")
    classes = len(dataset.class_names)
    pairs = [_pair(sample, (reference, engine), classes) for sample in samples]
    dice = np.asarray([pair[0] for pair in pairs])
    agreement = float(np.average([p[1] for p in pairs], weights=[p[2] for p in pairs]))
    names, patient = np.unique([sample.patient for sample in samples], return_inverse=True)

    def mean_of(column: int) -> CountMetric:
        valid = ~np.isnan(dice[:, column])
        values = np.where(valid, dice[:, column], 0.0)

        def metric(counts: np.ndarray) -> np.ndarray:
            weights = counts[:, patient].astype(np.float64)
            below = weights @ valid
            found = np.full(len(counts), np.nan)
            np.divide(weights @ values, below, out=found, where=below > 0)
            return found[None]

        return metric

    (delta,) = paired_bootstrap(mean_of(0), mean_of(1), len(names), seed=seed)
    verdict, reason = _verdict(delta.low, delta.high, agreement, len(names))
    reference_dice, engine_dice = (float(np.nanmean(dice[:, column])) for column in (0, 1))
    return SegmentationGate(
        verdict=verdict,
        reason=reason,
        volumes=len(samples),
        patients=len(names),
        dice_reference=reference_dice,
        dice_engine=engine_dice,
        difference=delta.value,
        low=delta.low,
        high=delta.high,
        agreement=agreement,
    )


def _tolerance_of(run: Path) -> float:
    """Of the surface Dice, as the run was judged."""
    from dinorad_rt.reports.results import RESULTS_FILE

    path = run / RESULTS_FILE
    found = read_json(path)["settings"].get("tolerance") if path.is_file() else None
    return TOLERANCE if found is None else float(found)


def _pair(
    sample: Sample, segmenters: Sequence[AnySegmenter], classes: int
) -> tuple[tuple[float, float], float, int]:
    """Mean Dice of both, share of equal voxels, voxels."""
    from dinorad_rt.datasets.masks import read_mask
    from dinorad_rt.studies.read import read_study

    study, truth = read_study(sample.path, frame=sample.frame), read_mask(sample)
    masks = [segment_study(segmenter, study) for segmenter in segmenters]
    dice = []
    for mask in masks:
        found = case_scores(truth, mask, classes, surfaces=False).dice
        dice.append(float(np.nanmean(found)) if np.isfinite(found).any() else float("nan"))
    return (dice[0], dice[1]), float((masks[0] == masks[1]).mean()), truth.size


def _verdict(
    low: float, high: float, agreement: float, patients: int
) -> tuple[Literal["passed", "failed", "undecided"], str]:
    if low > DICE_LIMIT or high < -DICE_LIMIT:
        return "failed", f"the Dice differs by more than {DICE_LIMIT}"
    if agreement < LEAST_AGREEMENT:
        return "failed", f"{agreement:.2%} of the voxels agree, {LEAST_AGREEMENT:.1%} are wanted"
    if not (low >= -DICE_LIMIT and high <= DICE_LIMIT):
        return "undecided", f"the interval of the Dice's difference reaches beyond ±{DICE_LIMIT}"
    if patients < LEAST_PATIENTS:
        return "undecided", f"too few patients: {patients}; {LEAST_PATIENTS} are needed"
    return "passed", "the difference lies inside the limits"
