"""`judge`: scores of test images become metrics with intervals, and a protocol's results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.intervals import few_patients_notes
from dinorad_rt.progress import Stages, unseen
from dinorad_rt.reports.results import MetricValue, Predictions, Results

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.settings import AbstractSettings


def judge(
    protocol: str,
    test: EmbeddingTable,
    dataset: DatasetInfo,
    predictions: Sequence[Predictions],
    settings: AbstractSettings,
    *,
    seed: int,
    resolved: Mapping[str, Any] | None = None,
    chosen: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    provenance: Mapping[str, Any] | None = None,
    stages: Stages = unseen,
) -> Results:
    """Metrics with intervals by patient for every setting, joined with what they came from.

    Args:
        protocol: its name.
        test: truth of the images, in the order of the scores.
        dataset: task and classes.
        predictions: scores by setting.
        settings: of the protocol; saved.
        seed: of the intervals.
        resolved: settings that were decided on the way; saved over the others.
        chosen: the setting that validation chose.
        seeds: one per repeat; None for `seed` alone.
        provenance: saved as it is.
        stages: told of the resamples.

    Raises:
        ProtocolError: the test images show one class only.
    """
    from dinorad_rt.metrics.report import evaluate_scores, present_classes

    usable, excluded = present_classes(test.labels, dataset.class_names)
    if not usable:
        raise ProtocolError(
            f"No class has both positive and negative images in the test split of {dataset.name}: "
            + "; ".join(f"{name}: {why}" for name, why in excluded.items()),
            "Give the test split images of at least two classes.",
        )
    start = time.perf_counter()
    metrics = evaluate_scores(
        predictions, test, dataset, usable, settings=settings, seed=seed, stages=stages
    )
    return Results(
        protocol=protocol,
        task=dataset.task,
        dataset=dataset.name,
        class_names=dataset.class_names,
        metrics=metrics,
        excluded_classes=excluded,
        settings=settings.as_dict() | dict(resolved or {}),
        seeds=tuple(seeds or (seed,)),
        preset=settings.preset_name,
        chosen=dict(chosen or {}),
        timings={"metrics_s": time.perf_counter() - start},
        notes=_notes(metrics),
        provenance=dict(provenance or {}),
        sample_ids=test.sample_ids,
        patients=test.patients,
        labels=test.labels,
        predictions=list(predictions),
    )


def _notes(metrics: Sequence[MetricValue]) -> list[str]:
    notes = []
    notes += few_patients_notes(min((value.n_patients for value in metrics), default=0))
    if any(value.ci_low is not None and value.ci_low == value.ci_high for value in metrics):
        notes.append(
            "An interval of zero width means that every resample gave the same value, such as a "
            "perfect one; it is no proof of certainty. More test patients would tell."
        )
    shaky = {
        value.class_name or "macro"
        for value in metrics
        if value.undefined > 0.05 * max(value.resamples, 1)
    }
    if shaky:
        notes.append(
            "More than 5 % of the resamples leave a metric undefined (a class vanished) for "
            f"{', '.join(sorted(shaky))}; its interval rests on the others."
        )
    return notes
