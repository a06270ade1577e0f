"""The cells of a study: which evaluation, on which dataset, under which key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dinorad_rt.backbones.locate import NAMED_WEIGHTS, find_weights
from dinorad_rt.campaign.study import Data, Model, Protocol, Study
from dinorad_rt.evaluation import Evaluation
from dinorad_rt.files import sha256_json
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.preprocessing.presets import preset_for_dataset

FORMAT = 1
"""Raised whenever a finished cell would no longer give the same results."""


@dataclass(frozen=True)
class Cell:
    """One evaluation of a study.

    Attributes:
        data: the dataset.
        evaluation: what is run on it.
        key: SHA-256 of the evaluation, the weights' content and the dataset's; equal keys, equal
            results.
        images: of the dataset, all splits.
    """

    data: Data
    evaluation: Evaluation
    key: str
    images: int

    @property
    def model(self) -> str:
        """Name of the backbone."""
        return self.evaluation.engine.model

    @property
    def embeds(self) -> tuple[str, ...]:
        """Cells with equal values share their embeddings."""
        engine = self.evaluation.engine
        return self.data.name, *map(str, engine.as_dict().values()), self.evaluation.preprocessing

    @property
    def name(self) -> str:
        """What people call it."""
        seed = f", seed {self.evaluation.seed}" if self.evaluation.seed else ""
        preset = self.evaluation.protocol_preset
        return f"{self.data.name} · {self.model} · {self.evaluation.protocol} ({preset}{seed})"

    @property
    def folder(self) -> Path:
        """Of its results, below the study's."""
        words = f"{self.model}-{self.evaluation.protocol}-{self.evaluation.seed}"
        return Path("runs") / _safe(self.data.name) / f"{_safe(words)}-{self.key[:12]}"


def cells_of(study: Study, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Cell]:
    """Every cell, those that share embeddings beside each other.

    Args:
        study: what to run.
        facts: dataset → task, images, fingerprint and split_hash; datasets that are not in it
            have no cells.
    """
    for data in study.datasets:
        if data.name not in facts:
            continue
        for model in study.models:
            for protocol in study.protocols:
                if _wanted(protocol, data, model, str(facts[data.name]["task"])):
                    for seed in protocol.seeds:
                        yield _cell(data, model, protocol, seed, facts[data.name])


def _wanted(protocol: Protocol, data: Data, model: Model, task: str) -> bool:
    return (
        task in (protocol.tasks or (task,))
        and data.name in (protocol.datasets or (data.name,))
        and model.name in (protocol.models or (model.name,))
    )


def _cell(
    data: Data, model: Model, protocol: Protocol, seed: int, facts: Mapping[str, Any]
) -> Cell:
    evaluation = Evaluation(
        engine=EngineRequest(
            model=model.name,
            weights=model.weights,
            image_size=model.image_size,
            precision=model.precision,  # type: ignore[arg-type]
            backend=model.backend,
            profile=model.profile,
        ),
        protocol=protocol.protocol,
        protocol_preset=protocol.preset,
        preprocessing=preset_for_dataset(protocol.preprocessing, data.dataset),
        options=protocol.settings,
        seed=seed,
    )
    key = sha256_json(
        {
            "format": FORMAT,
            "evaluation": evaluation.as_dict(),
            "weights": content_of(model.weights),
            "dataset": [data.name, facts["fingerprint"], facts["split_hash"]],
        }
    )
    return Cell(data, evaluation, key, int(facts["images"]))


@cache
def content_of(weights: str) -> str:
    """What weights are: their name, or the hash of their files."""
    return weights if weights in NAMED_WEIGHTS else find_weights(Path(weights)).sha256()


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)
