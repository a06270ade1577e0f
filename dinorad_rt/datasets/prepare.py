"""What `prepare` tells of a dataset: counts, checksums, masks, and what is wrong or missing."""

from __future__ import annotations

import contextlib
import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt import identifiers
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.entry import DatasetEntry
from dinorad_rt.datasets.facts import FileFacts, Progress
from dinorad_rt.datasets.headers import burned_in_images
from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.registered import check_mask_values
from dinorad_rt.datasets.split_lists import SPLITS_TABLE
from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.files import atomic_path
from dinorad_rt.types import SPLITS

TRIED_MASKS = 8


@dataclass(frozen=True)
class Prepared:
    """What was found.

    Attributes:
        dataset: opened and checked.
        splits: split → number of samples and of patients.
        classes: class → split → samples that have it; of segmentation sets the masks that hold it.
        checksums: official file → "official", or the MD5 that it has instead.
        burned_in: DICOM images that say that they show text of the patient.
    """

    dataset: Dataset
    splits: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    checksums: dict[str, str]
    burned_in: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values without identifiers."""
        data = self.dataset
        return {
            "name": data.name,
            "task": data.task,
            "classes": list(data.class_names),
            "images": len(data.samples),
            "patients": len({sample.patient for sample in data.samples}),
            "splits": self.splits,
            "samples_per_class": self.classes,
            "checksums": self.checksums,
            "burned_in_annotation": self.burned_in,
            "fingerprint": data.fingerprint,
            "split_hash": data.split_hash,
            "notes": list(data.notes),
            "facts": data.facts,
        }


def prepare_dataset(
    dataset: Dataset,
    entry: DatasetEntry | None = None,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Look into everything that opening a dataset leaves for later.

    Args:
        dataset: opened.
        entry: of a registered dataset, whose official files are then checked.
        root: where its files lie.
        progress: called with what is read, the number done and the total.

    Raises:
        LabelError: a mask holds a value that stands for no class.
        MaskError: a class lies whole under later ones, where each has files of its own.
    """
    assert dataset.root is not None
    facts = FileFacts(dataset.root, progress)
    checksums = {}
    if entry is not None and root is not None:
        checksums = _checksums(entry, root, FileFacts(root, progress))
    if dataset.task == "segmentation":
        classes = {name: {"all": n} for name, n in check_mask_values(dataset, facts).items()}
        _try_parts(dataset)
    else:
        classes = _per_class(dataset)
    paths = list(dict.fromkeys(sample.path for sample in dataset.samples))
    splits: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        samples = dataset.of_split(split)
        if samples:
            patients = len({sample.patient for sample in samples})
            splits[split] = {"samples": len(samples), "patients": patients}
    return Prepared(dataset, splits, classes, checksums, burned_in_images(paths, facts))


def _try_parts(dataset: Dataset) -> None:
    """Put a few masks of several files together, evenly chosen: what cannot be is told now."""
    masks = {one.mask_parts: one for one in dataset.samples if len(one.mask_parts) > 1}
    chosen = list(masks.values())
    for sample in chosen[:: max(1, len(chosen) // TRIED_MASKS)][:TRIED_MASKS]:
        with contextlib.suppress(UnreadableFileError):  # it will stand in the failures
            read_mask(sample)


def write_splits(dataset: Dataset, folder: Path) -> Path:
    """Write the splits as a table that `--splits` takes; names only where they are kept.

    Returns:
        The file.
    """
    target = folder / SPLITS_TABLE
    named = identifiers.are_kept()
    with atomic_path(target) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "patient", "split", *(["name"] if named else [])])
        for sample in dataset.samples:
            name = [dataset.name_of(sample)] if named else []
            writer.writerow([sample.sample_id, sample.patient, sample.split, *name])
    return target


def _per_class(dataset: Dataset) -> dict[str, dict[str, int]]:
    labels = dataset.labels_array()
    if dataset.task != "multilabel":
        labels = np.eye(len(dataset.class_names), dtype=np.int64)[labels]
    splits = np.asarray([sample.split for sample in dataset.samples])
    return {
        name: {split: int(labels[splits == split, at].sum()) for split in SPLITS if split in splits}
        for at, name in enumerate(dataset.class_names)
    }


def _checksums(entry: DatasetEntry, root: Path, facts: FileFacts) -> dict[str, str]:
    """MD5 of those official files that lie in the root, beside what was unpacked or as the set."""
    found = {}
    for name, md5 in entry.files.items():
        places = (root, root / name, root.parent / name)
        path = next((place for place in places if place.is_file()), None)
        if path is not None:
            digest = facts.of("md5", [path], _md5)[0]
            found[name] = "official" if digest == md5 else f"other: {digest}"
    return found


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def class_rows(prepared: Prepared) -> list[dict[str, str]]:
    """The classes as rows of a table."""
    return [
        {"class": name, **{split: f"{count:,}" for split, count in counts.items()}}
        for name, counts in prepared.classes.items()
    ]
