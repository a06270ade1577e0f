"""What must hold of the splits before anything is decoded or trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.errors import DataError, EmptyDataError
from dinorad_rt.protocols.truth import Truth, check_patients, truth_of_dataset
from dinorad_rt.types import SPLITS, Split

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset

_SPLITS = (
    "Give the CSV a split column with train, val and test, or none at all: then patient-level "
    "splits are made."
)


def check_training_splits(dataset: Dataset) -> None:
    """Refuse splits that a classifier cannot be trained, selected or judged on.

    Raises:
        LeakageError: a patient in two splits.
        EmptyDataError: no training or no validation images.
        DataError: masks instead of classes, or a split that shows one class only.
    """
    if dataset.task == "segmentation":
        raise DataError(
            f"{dataset.name} has masks and no classes: it cannot train a classifier.",
            "Give a table with a column of classes (--label-column), or use dinorad-rt train "
            "--protocol segmentation",
        )
    truth = truth_of_dataset(dataset)
    check_patients(truth.patients)
    needed: dict[Split, str] = {"train": "to train on", "val": "to choose the best epoch by"}
    for split, use in needed.items():
        if not truth.count(split):
            raise EmptyDataError(f"{dataset.name} has no {split} images {use}.", _SPLITS)
    for split in SPLITS:
        if truth.count(split) and not _classes_with_both(truth, split):
            raise DataError(
                f"All {truth.count(split)} {split} images of {dataset.name} have the same labels: "
                "no class can be told from another.",
                f"Give the {split} split images of at least two classes. {_SPLITS}",
            )


def _classes_with_both(truth: Truth, split: Split) -> int:
    hot = truth.hot(split)
    return int(np.sum(hot.any(axis=0) & ~hot.all(axis=0)))
