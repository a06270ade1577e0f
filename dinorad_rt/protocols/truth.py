"""Labels and patients of the splits, from a dataset or from stored embeddings, and their checks.

Whatever can be refused without an embedding is refused here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.errors import LeakageError, ProtocolError
from dinorad_rt.types import SPLITS, Split, Task
from dinorad_rt.words import count_of, verb_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable


@dataclass(frozen=True)
class Truth:
    """What is known of the splits without any embedding.

    Attributes:
        name: of the dataset.
        task: binary, multiclass or multilabel.
        class_names: index → name.
        labels: split → (rows,) class indices, or (rows, classes) 0/1 for multi-label.
        patients: split → (rows,) keys.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    labels: Mapping[Split, np.ndarray]
    patients: Mapping[Split, np.ndarray]

    def count(self, *splits: Split) -> int:
        """Rows of some splits."""
        return sum(len(self.patients[split]) for split in splits)

    def hot(self, split: Split) -> np.ndarray:
        """(rows, classes) bool: which classes each row shows."""
        labels = self.labels[split]
        if labels.ndim == 2:
            return labels.astype(bool)
        return np.asarray(labels[:, None] == np.arange(len(self.class_names)))


def truth_of_dataset(dataset: Dataset) -> Truth:
    """The truth of a dataset's samples."""
    labels, patients = {}, {}
    for split in SPLITS:
        samples = dataset.of_split(split)
        width = len(dataset.class_names) if dataset.task == "multilabel" else 1
        rows = np.asarray([s.labels for s in samples], np.int64).reshape(len(samples), width)
        labels[split] = rows if dataset.task == "multilabel" else rows[:, 0]
        patients[split] = np.asarray([sample.patient for sample in samples], dtype=object)
    return Truth(dataset.name, dataset.task, dataset.class_names, labels, patients)


def truth_of_tables(tables: Mapping[Split, EmbeddingTable], dataset: DatasetInfo) -> Truth:
    """The truth of embedding tables."""
    return Truth(
        dataset.name,
        dataset.task,
        dataset.class_names,
        {split: table.labels for split, table in tables.items()},
        {split: table.patients for split, table in tables.items()},
    )


def check_truth(truth: Truth) -> None:
    """Refuse splits that no protocol can use.

    Raises:
        LeakageError: a patient stands in two splits.
        ProtocolError: no training or test rows, or test rows that all have the same labels.
    """
    check_patients(truth.patients)
    for name, splits in (("train or val", ("train", "val")), ("test", ("test",))):
        if not truth.count(*splits):
            raise ProtocolError(
                f"{truth.name} has no {name} images.",
                "Give the CSV a split column with train, val and test, or none at all: then "
                "patient-level splits are made. failures.parquet lists unreadable files.",
            )
    test = truth.labels["test"]
    if (test == test[0]).all():
        raise ProtocolError(
            f"All {len(test)} test images of {truth.name} have the same labels: no class can be "
            "told from another.",
            "Give the test split images of at least two classes.",
        )


def check_patients(patients: Mapping[Split, np.ndarray]) -> None:
    """Refuse a patient in two splits.

    Raises:
        LeakageError: with their number and one of their keys.
    """
    names = list(patients)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = np.intersect1d(patients[first].astype(str), patients[second].astype(str))
            if len(both):
                stand = verb_of(len(both), "stands", "stand")
                raise LeakageError(
                    f"{count_of(len(both), 'patient')} {stand} in {first} and in {second}, such as "
                    f"{both[0]}: test results would be too good.",
                    "Give each patient one split, or leave the split column out: a split by "
                    "patient is then made.",
                )


def unseen_classes(truth: Truth) -> list[str]:
    """What to say of classes that the test split may show and no training image does."""
    counts = np.vstack([truth.hot("train"), truth.hot("val")]).sum(axis=0).tolist()
    unseen = [name for name, count in zip(truth.class_names, counts, strict=True) if not count]
    if not unseen:
        return []
    return [f"No training image shows {', '.join(unseen)}: scores of such a class say nothing."]
