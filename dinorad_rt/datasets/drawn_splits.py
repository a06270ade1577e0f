"""Splits of records: those that are given, and those that are drawn by patient and saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.record import Record, patient_of
from dinorad_rt.datasets.saved_splits import load_splits, save_splits, splits_file
from dinorad_rt.datasets.splits import FRACTIONS, OF_TRAIN, stratified_splits
from dinorad_rt.errors import TableError
from dinorad_rt.words import count_of, verb_of

MAX_JOINED = 5
"""Patients that one file may join."""


def with_splits(
    records: Sequence[Record], labels: Labels, seed: int, same: list[list[int]], root: Path
) -> tuple[list[Record], str, list[str]]:
    """Keep the given splits, or make them by patient; how it was done; and what to say."""
    given = Counter(record.split for record in records)
    if None in given and len(given) > 1:
        raise TableError(
            f"{given[None]} of {len(records)} images have no split.", "Fill in train, val or test."
        )
    if len(given) == 1:
        alone = next(iter(given))
        made, kept, fresh = _made(records, labels, seed, same, root)
        parts = ", ".join(f"{split} {share:.0%}" for split, share in FRACTIONS.items())
        why = "no splits are given" if alone is None else f"every image is in {alone}"
        how = f"made by patient, stratified, seed {seed}"
        notes = [f"{why}: split by patient, stratified ({parts}), seed {seed}; saved"]
        if kept and fresh:
            keep, are = verb_of(kept, "keeps", "keep"), verb_of(fresh, "is", "are")
            notes.append(
                f"{count_of(kept, 'patient')} {keep} the split of an earlier run, {fresh} {are} new"
            )
        return made, how, notes
    if "test" not in given:
        moved = [replace(r, split="test") if r.split == "val" else r for r in records]
        return moved, "given; val used as test", ["no test split: val is used as test"]
    return list(records), "given", []


def _made(
    records: Sequence[Record], labels: Labels, seed: int, same: list[list[int]], root: Path
) -> tuple[list[Record], int, int]:
    """Splits by patient, those of earlier runs kept; the patients kept, and those that are new.

    Patients who share a byte-identical image count as one, so that no copy crosses splits.
    """
    patients = _joined_by_copies([patient_of(record) for record in records], same)
    source = splits_file(root, labels.columns or (labels.task,), seed)
    fixed = load_splits(source, patients)
    splits = stratified_splits(patients, targets_of(records, labels), seed=seed, fixed=fixed)
    save_splits(source, dict(zip(patients, splits, strict=True)))
    made = [replace(r, split=s) for r, s in zip(records, splits, strict=True)]
    return made, len(fixed), len(set(patients)) - len(fixed)


def val_of_train(
    records: Sequence[Record], labels: Labels, seed: int, same: list[list[int]], root: Path
) -> tuple[list[Record], list[str]]:
    """A validation split of some training patients, those of earlier runs kept; and what to say.

    Nothing is drawn from one patient.
    """
    joined = _joined_by_copies([patient_of(record) for record in records], same)
    rows = [at for at, record in enumerate(records) if record.split == "train"]
    patients = [joined[at] for at in rows]
    if len(set(patients)) < 2:
        return list(records), []
    source = splits_file(root, (*(labels.columns or (labels.task,)), "val of train"), seed)
    fixed = load_splits(source, patients)
    targets = targets_of([records[at] for at in rows], labels)
    splits = stratified_splits(patients, targets, seed=seed, fixed=fixed, shares=OF_TRAIN)
    save_splits(source, dict(zip(patients, splits, strict=True)))
    drawn = list(records)
    for at, split in zip(rows, splits, strict=True):
        drawn[at] = replace(records[at], split=split)
    count = splits.count("val")
    note = (
        f"no val split: {count} of {count_of(len(rows), 'training image')} "
        f"{verb_of(count, 'is', 'are')} val, drawn by patient, stratified, seed {seed}; saved"
    )
    return drawn, [note]


def _joined_by_copies(patients: list[str], same: list[list[int]]) -> list[str]:
    """Give patients that share a file one name, the first of theirs in alphabet.

    A file that many patients share (a blank slice) joins none of them.
    """
    leader = {name: name for name in patients}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for group in same:
        if len({patients[index] for index in group}) > MAX_JOINED:
            continue
        names = sorted({find(patients[index]) for index in group})
        for name in names[1:]:
            leader[name] = names[0]
    return [find(name) for name in patients]


def targets_of(records: Sequence[Record], labels: Labels) -> np.ndarray:
    """(samples, classes) 0/1 of any task."""
    if labels.task == "segmentation":
        none = (0,) * len(labels.class_names)
        return np.asarray([record.present or none for record in records], np.int64)
    rows = np.asarray([record.labels for record in records], np.int64)
    if labels.task == "multilabel":
        return rows
    return np.eye(len(labels.class_names), dtype=np.int64)[rows[:, 0]]
