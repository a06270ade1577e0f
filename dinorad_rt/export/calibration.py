"""Images to calibrate INT8 on: preprocessed samples of the train split, never of val or test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import ExportError
from dinorad_rt.export.recipe import load_recipe

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.preprocessing.spec import PreprocessSpec

SLICES = 4
"""Slices taken of one volume at most."""


@dataclass(frozen=True)
class CalibrationImages:
    """Training images of two groups of patients.

    Attributes:
        calibration, held_out: (images, 3, H, W) float32, normalised; no patient is in both.
        facts: what they are, for manifest and key; no path, no identifier.
    """

    calibration: np.ndarray
    held_out: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)


def calibration_images(
    graph: Graph, dataset: Dataset, preprocessing: str | PreprocessSpec = "dinorad"
) -> CalibrationImages:
    """Choose, read and preprocess the images that a recipe wants.

    Patients are taken evenly from the whole train split, every third one for the held-out group;
    the same dataset gives the same images.

    Args:
        graph: decides size, normalisation and numbers.
        dataset: only its train split is read.
        preprocessing: a preset's name, or a full spec.

    Raises:
        ExportError: the dataset has no training images that can be read.
    """
    from dinorad_rt.export.quantise import digest_of

    recipe = load_recipe(str(graph.manifest["recipe"]["family"])).int8
    spec = _spec(graph, preprocessing)
    groups = _by_patient(dataset)
    held = [samples for index, samples in enumerate(groups) if index % 3 == 2]
    mine = [samples for index, samples in enumerate(groups) if index % 3 != 2]
    calibration = _read(mine, recipe.images, spec)
    held_out = _read(held, recipe.held_out, spec)
    if calibration is None or held_out is None:
        raise ExportError(
            f"INT8 is calibrated on training images; {dataset.name} has none of two groups of "
            "patients that can be read.",
            "Give a set with a train split: --calibration DIR",
        )
    facts = {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "split": "train",
        "preprocessing": spec.digest(),
        "images": len(calibration),
        "held_out": len(held_out),
        "sha256": digest_of(calibration),
        "held_out_sha256": digest_of(held_out),
    }
    return CalibrationImages(calibration, held_out, facts)


def _spec(graph: Graph, preprocessing: str | PreprocessSpec) -> PreprocessSpec:
    from dinorad_rt.preprocessing.presets import preset_of

    if isinstance(preprocessing, str):
        return preset_of(preprocessing, graph.manifest)
    return preprocessing


def _by_patient(dataset: Dataset) -> list[list[Sample]]:
    """Training samples of each patient, by file name: the same order on every machine."""
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(dataset.of_split("train"), key=dataset.name_of):
        groups.setdefault(sample.patient, []).append(sample)
    return list(groups.values())


def _read(groups: list[list[Sample]], count: int, spec: PreprocessSpec) -> np.ndarray | None:
    """Up to `count` images, one of each patient in turn until there are enough."""
    from dinorad_rt.embeddings.loader import Loader

    step = max(1, len(groups) // count)
    chosen = groups[::step]
    deepest = max((len(group) for group in chosen), default=0)
    ordered = [group[turn] for turn in range(deepest) for group in chosen if turn < len(group)]
    images: list[np.ndarray] = []
    with Loader(spec) as loader:
        for sample in ordered[: 2 * count]:  # twice: some may not be readable
            slices = [row.pixels for row in loader.rows([sample]) if row.pixels is not None]
            images += [item.copy() for item in slices[:: max(1, len(slices) // SLICES)][:SLICES]]
            if len(images) >= count:
                break
    return np.stack(images[:count]).astype(np.float32) if images else None
