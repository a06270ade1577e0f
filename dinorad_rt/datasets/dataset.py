"""`Dataset` and `Sample`: images with labels, patients and splits, wherever they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.errors import LabelError
from dinorad_rt.types import Split, Task


@dataclass(frozen=True)
class Sample:
    """One image (or volume) with its truth.

    Attributes:
        sample_id: stable key of this sample, free of identifiers: a keyed hash of the path
            relative to the dataset's root (and frame).
        path: where to read it. Never written to a store, log or report.
        patient: pseudonymous key; where the data names no patient, the sample is its own.
        split: train, val or test.
        labels: (class index,) for binary and multi-class; a 0/1 vector of length
            `len(class_names)` for multi-label; empty for segmentation.
        mask: segmentation mask of the same image, or None; read with `masks.read_mask`.
        mask_parts: where each class has a file of its own: those of class 1, 2, ... in order.
        mask_classes: class of each of these files, where several are parts of one class.
        mask_values: stored value of each class in the order of the class names; None where the
            stored values are the indices.
        mask_threshold: of a two-class mask with grey edges: values from here on are class 1.
        mask_labels: of a DICOM SEG, whose files count their segments anew: what the segments of
            each class are called, background first.
        frame: frame of a multi-frame file or slice of a volume, or None for all.
        study, series: pseudonymous keys where the data names them.
    """

    sample_id: str
    path: Path
    patient: str
    split: Split
    labels: tuple[int, ...]
    mask: Path | None = None
    frame: int | None = None
    study: str | None = None
    series: str | None = None
    mask_parts: tuple[Path, ...] = ()
    mask_values: tuple[int, ...] | None = None
    mask_threshold: int | None = None
    mask_labels: tuple[str, ...] | None = None
    mask_classes: tuple[int, ...] = ()

    @property
    def classes_of_parts(self) -> tuple[int, ...]:
        """Class of each of the mask's parts, from 1 on."""
        return self.mask_classes or tuple(range(1, len(self.mask_parts) + 1))


@dataclass(frozen=True)
class Dataset:
    """Samples of one task. Construction goes through `open_dataset`, which checks everything.

    Attributes:
        name: short name for tables; never a path.
        task: binary, multiclass, multilabel or segmentation.
        class_names: index → name. Binary tasks have two names, the positive one last; for
            segmentation the background comes first.
        samples: all splits together, in a stable order.
        fingerprint: SHA-256 of names, traces of content, labels, patients and splits; the same on
            every machine, whatever the key of the pseudonyms.
        split_hash: SHA-256 of (name, split) pairs: equal hashes, equal splits, on any machine.
        notes: what was decided for the user, in words ("no patient column: ..."). Free of
            identifiers and of file names.
        facts: other facts for the provenance (column names, how splits were made, seed).
        root: folder that `name_of` is relative to. Never written anywhere.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    fingerprint: str
    split_hash: str
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    root: Path | None = None

    def name_of(self, sample: Sample) -> str:
        """The sample's path relative to the dataset's root, the only form that may be stored."""
        if self.root is not None and sample.path.is_relative_to(self.root):
            return sample.path.relative_to(self.root).as_posix()
        return sample.path.name

    @property
    def mask_values(self) -> tuple[int, ...] | None:
        """Stored value of each class in the masks, in the order of the names.

        None where no number stands for a class: each has a file of its own, grey edges are cut at
        a threshold, or segments go by their labels; and for other tasks.
        """
        first = self.samples[0] if self.task == "segmentation" and self.samples else None
        if first is None or first.mask_parts or first.mask_labels:
            return None
        if first.mask_threshold is not None:
            return None
        return first.mask_values or tuple(range(len(self.class_names)))

    def of_split(self, *splits: Split) -> tuple[Sample, ...]:
        """Samples of the named splits, in dataset order."""
        return tuple(sample for sample in self.samples if sample.split in splits)

    def labels_array(self) -> np.ndarray:
        """Labels of all samples: (samples,) int64 class indices, or (samples, classes) 0/1.

        Raises:
            LabelError: a segmentation set has masks instead.
        """
        if self.task == "segmentation":
            raise LabelError(
                f"{self.name} is a segmentation set: its truth are masks, no class per image.",
                "Use a segmentation protocol, or give a label column.",
            )
        labels = np.asarray([sample.labels for sample in self.samples], dtype=np.int64)
        return labels if self.task == "multilabel" else labels[:, 0]
