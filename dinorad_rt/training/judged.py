"""Scores of the test split → the results that every protocol writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import DataError, RunError
from dinorad_rt.protocols.settings import AbstractSettings
from dinorad_rt.training.scores import probabilities

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.reports.results import Results


@dataclass(frozen=True, kw_only=True)
class TunedSettings(AbstractSettings):
    """How the scores of a trained model are judged; how it was trained is in the provenance."""

    @classmethod
    def preset(cls, name: str) -> Self:
        """The same for every preset."""
        return cls(preset_name=name)


def judge_scores(
    logits: np.ndarray,
    samples: Sequence[Sample],
    dataset: Dataset,
    facts: Mapping[str, Any],
    *,
    seed: int,
    engine: Mapping[str, Any] | None = None,
) -> Results:
    """Metrics of a trained classifier with intervals by patient.

    Args:
        logits: (samples, classes) of the test images.
        samples: in their order.
        dataset: they are from.
        facts: train.json.
        seed: of the intervals.
        engine: what computed the logits; None for PyTorch.
    """
    from dinorad_rt.protocols.judge import judge
    from dinorad_rt.reports.results import Predictions

    truth = np.asarray([sample.labels for sample in samples], np.int64)
    table = EmbeddingTable(
        sample_ids=np.asarray([s.sample_id for s in samples], dtype=object),
        patients=np.asarray([s.patient for s in samples], dtype=object),
        splits=np.asarray([s.split for s in samples], dtype=object),
        labels=truth if dataset.task == "multilabel" else truth[:, 0],
        cls=np.empty((len(samples), 0, 0), np.float32),
    )
    info = DatasetInfo(
        name=dataset.name,
        task=dataset.task,
        class_names=dataset.class_names,
        fingerprint=dataset.fingerprint,
        split_hash=dataset.split_hash,
        notes=dataset.notes,
    )
    method = facts["method"]["protocol"]
    return judge(
        str(method),
        table,
        info,
        [Predictions({"method": str(method)}, probabilities(logits, dataset.task))],
        TunedSettings.preset(str(facts["recipe"]["preset"])),
        seed=seed,
        provenance=provenance_of_run(facts, engine),
    )


def provenance_of_run(
    facts: Mapping[str, Any], engine: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Where the numbers of a run come from, in the words of every results.json."""
    from dinorad_rt.machine import machine_facts

    backbone = facts["backbone"]
    weights = backbone["weights"]
    in_pytorch = {
        "model": backbone["model"],
        "weights": weights,
        "weights_kind": weights["kind"],
        "precision": "fp32",
        "backend": "pytorch",
    }
    return {
        "engine": dict(engine or in_pytorch),
        "training": {name: facts[name] for name in ("method", "head", "recipe")},
        "preprocessing": facts["preprocessing"],
        "dataset": facts["data"],
        "machine": machine_facts(),
    }


def stored_results(folder: Path) -> Results | None:
    """The results of a run that was evaluated already.

    Raises:
        RunError: they were damaged from outside.
    """
    from dinorad_rt.reports.results import RESULTS_FILE, Results

    if not (folder / RESULTS_FILE).is_file():
        return None
    try:
        return Results.open(folder)
    except DataError as error:
        raise RunError(
            error.problem,
            f"Remove {RESULTS_FILE} from {folder} and run the same command again: its checkpoint "
            "is evaluated again.",
        ) from error
