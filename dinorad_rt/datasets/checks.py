"""From records to a `Dataset`: splits, leakage, labels that no metric can use, fingerprints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.splits import FRACTIONS, stratified_splits
from dinorad_rt.datasets.traces import trace_of
from dinorad_rt.errors import EmptyDataError, LeakageError, TableError
from dinorad_rt.files import sha256_json
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.types import SPLITS, Split

MISSING_SHARE = 0.5
"""Part of listed files that may be missing before the table is taken for that of other data."""


def build_dataset(
    name: str, root: Path, records: Sequence[Record], labels: Labels, *, seed: int = 0
) -> Dataset:
    """Check records and make the dataset of them.

    Args:
        name: short name, never a path.
        root: folder that the records' names are relative to.
        records: rows with their labels already in place.
        labels: task and classes, and the notes so far.
        seed: of the splits, if none are given.

    Raises:
        EmptyDataError, LabelError, LeakageError, TableError: what is wrong with the data.
    """
    records, notes = _without_repeats(records)
    traces = [trace_of(record.path) for record in records]
    notes += _missing(records, traces, root)
    if all(record.patient is None for record in records):
        notes.append("no patient column: each image counts as a patient of its own")
    records, how, split_notes = _with_splits(records, labels, seed)
    check_leakage(records)
    notes += split_notes + _absent_classes(records, labels)
    return Dataset(
        name=name,
        task=labels.task,
        class_names=labels.class_names,
        samples=tuple(map(_sample, records)),
        fingerprint=_fingerprint(records, labels, traces),
        split_hash=sha256_json(sorted((record.key, str(record.split)) for record in records)),
        notes=(*labels.notes, *notes),
        facts={"splits": how, "label_columns": list(labels.columns), **labels.facts},
        root=root,
    )


def check_leakage(records: Sequence[Record]) -> None:
    """Refuse a patient in two splits.

    Raises:
        LeakageError: with the number of such patients and two images of one of them.
    """
    seen: dict[str, dict[Split, str]] = defaultdict(dict)
    for record in records:
        if record.split is not None:
            seen[patient_of(record)].setdefault(record.split, record.name)
    leaking = [places for places in seen.values() if len(places) > 1]
    if leaking:
        example = " and ".join(f"{name} ({split})" for split, name in leaking[0].items())
        raise LeakageError(
            f"{len(leaking)} of {len(seen)} patients stand in more than one split, such as the one "
            f"of {example}: test results would be too good.",
            "Give each patient one split, or leave the split column out (rename it): a split by "
            "patient is then made.",
        )


def patient_of(record: Record) -> str:
    """The patient, or the image's own name where none is known."""
    return f"file:{record.name}" if record.patient is None else record.patient


def _sample(record: Record) -> Sample:
    return Sample(
        sample_id=pseudonym("sample", record.key),
        path=record.path,
        patient=pseudonym("patient", patient_of(record)),
        split=record.split or "test",
        labels=record.labels,
        mask=record.mask,
        frame=record.frame,
        study=None if record.study is None else pseudonym("study", record.study),
        series=None if record.series is None else pseudonym("series", record.series),
    )


def _without_repeats(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Drop rows that are listed twice alike; refuse the same image with two truths."""
    unique: dict[str, Record] = {}
    repeats = 0
    for record in records:
        first = unique.setdefault(record.key, record)
        if first is record:
            continue
        repeats += 1
        if (first.labels, first.split, first.patient) != (
            record.labels,
            record.split,
            record.patient,
        ):
            raise TableError(
                f"{record.name} is listed twice, with different label, split or patient.",
                "Give each image one row; several findings of one image go into one cell: a|b.",
            )
    return list(unique.values()), [f"{repeats} rows repeat others: left out"] if repeats else []


def _missing(records: Sequence[Record], traces: Sequence[str], root: Path) -> list[str]:
    if not records:
        raise EmptyDataError(f"{root} holds no images.", "Check the path.")
    missing = [record for record, trace in zip(records, traces, strict=True) if not trace]
    if not missing:
        return []
    listed = "\n".join(f"  {record.name}" for record in missing[:10])
    more = f"\n  ... and {len(missing) - 10} more" if len(missing) > 10 else ""
    if len(missing) > MISSING_SHARE * len(records):
        raise EmptyDataError(
            f"{len(missing)} of {len(records)} listed files do not exist below {root}:\n"
            f"{listed}{more}",
            "Check the folder of the images: paths are relative to the table's folder.",
        )
    return [
        f"{len(missing)} of {len(records)} listed files do not exist: they will stand in the "
        "failures"
    ]


def _with_splits(
    records: Sequence[Record], labels: Labels, seed: int
) -> tuple[list[Record], str, list[str]]:
    """Keep the given splits, or make them by patient; how it was done; and what to say."""
    given = Counter(record.split for record in records)
    if None in given and len(given) > 1:
        raise TableError(
            f"{given[None]} of {len(records)} images have no split.", "Fill in train, val or test."
        )
    if len(given) == 1:
        alone = next(iter(given))
        splits = stratified_splits(
            [patient_of(record) for record in records], _targets(records, labels), seed=seed
        )
        made = [replace(r, split=s) for r, s in zip(records, splits, strict=True)]
        parts = ", ".join(f"{split} {share:.0%}" for split, share in FRACTIONS.items())
        why = "no splits are given" if alone is None else f"every image is in {alone}"
        how = f"made by patient, stratified, seed {seed}"
        return made, how, [f"{why}: split by patient, stratified ({parts}), seed {seed}"]
    if "test" not in given:
        moved = [replace(r, split="test") if r.split == "val" else r for r in records]
        return moved, "given; val used as test", ["no test split: val is used as test"]
    return list(records), "given", []


def _targets(records: Sequence[Record], labels: Labels) -> np.ndarray:
    """(samples, classes) 0/1 of any task."""
    rows = np.asarray([record.labels for record in records], np.int64)
    if labels.task == "multilabel":
        return rows
    return np.eye(len(labels.class_names), dtype=np.int64)[rows[:, 0]]


def _absent_classes(records: Sequence[Record], labels: Labels) -> list[str]:
    targets = _targets(records, labels)
    splits = np.asarray([record.split for record in records])
    notes = []
    for split in SPLITS:
        inside = targets[splits == split]
        if len(inside):
            absent = [
                name
                for name, count in zip(labels.class_names, inside.sum(axis=0), strict=True)
                if count == 0
            ]
            if absent:
                notes.append(f"{split} has no sample of: {', '.join(absent)}")
    return notes


def _fingerprint(records: Sequence[Record], labels: Labels, traces: Sequence[str]) -> str:
    rows: list[Any] = sorted(
        (r.key, trace, list(r.labels), patient_of(r), str(r.split))
        for r, trace in zip(records, traces, strict=True)
    )
    return sha256_json({"classes": list(labels.class_names), "task": labels.task, "rows": rows})
