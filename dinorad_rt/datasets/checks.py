"""From records to a `Dataset`: splits, leakage, labels that no metric can use, fingerprints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.datasets.drawn_splits import targets_of, val_of_train, with_splits
from dinorad_rt.datasets.duplicates import identical_files
from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.record import Record, patient_of
from dinorad_rt.datasets.runs import trace_of_drawn
from dinorad_rt.datasets.split_lists import apply_split_list, read_split_list
from dinorad_rt.datasets.traces import trace_of
from dinorad_rt.errors import EmptyDataError, LeakageError, TableError
from dinorad_rt.files import sha256_json
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.types import SPLITS, Split
from dinorad_rt.words import count_of, verb_of

MISSING_SHARE = 0.5
"""Part of listed files that may be missing before the table is taken for that of other data."""

BY_PATIENT = Path("patient")
"""In place of a split list: splits are made by patient, whatever the data says."""
_UNTESTED = ("; they do not count in means over classes", "; where one is found, it counts as 0")
"""What becomes of classes without a test sample: of labels, and of masks."""


def build_dataset(
    name: str,
    root: Path,
    records: Sequence[Record],
    labels: Labels,
    *,
    seed: int = 0,
    splits: Path | None = None,
    facts: FileFacts | None = None,
    draws_val: bool = False,
) -> Dataset:
    """Check records and make the dataset of them.

    Args:
        name: short name, never a path.
        root: folder that the records' names are relative to.
        records: rows with their labels already in place.
        labels: task and classes, and the notes so far.
        seed: of the splits, if none are given.
        splits: a split list that replaces the records' own splits, or BY_PATIENT to make new ones.
        facts: remembers what was read of the files; None for a memory of the root.
        draws_val: where a test split is given and no validation split, training images are set
            apart for it by patient; otherwise they all stay in train.

    Raises:
        EmptyDataError, LabelError, LeakageError, TableError: what is wrong with the data.
    """
    records, notes = _without_repeats(records)
    if splits == BY_PATIENT:
        records, splits = [replace(record, split=None) for record in records], None
    if splits is not None:
        records, more = apply_split_list(records, read_split_list(splits))
        notes += more
    files = facts or FileFacts(root)
    traces = files.of("looking at files", [record.path for record in records], trace_of)
    notes += _missing(records, traces, root)
    if all(record.patient is None for record in records):
        framed = any(record.frame is not None for record in records)
        unit = "all frames of one file count as one patient"
        alone = "each image counts as a patient of its own"
        notes.append(f"no patient column: {unit if framed else alone}")
    same = identical_files([record.path for record in records], traces)
    records, how, split_notes = with_splits(records, labels, seed, same, root)
    if splits is not None:
        how = f"imported: {how}"
    check_leakage(records)
    if draws_val and not any(record.split == "val" for record in records):
        records, more = val_of_train(records, labels, seed, same, root)
        how = f"{how}; val drawn from train by patient, seed {seed}" if more else how
        split_notes += more
    shared, more = _copies(records, same)
    notes += split_notes + _absent_classes(records, labels) + more
    decided = {"splits": how, "label_columns": list(labels.columns), "copies_across_splits": shared}
    return Dataset(
        name=name,
        task=labels.task,
        class_names=labels.class_names,
        samples=tuple(map(sample_of, records)),
        fingerprint=_fingerprint(records, labels, traces, _masks_traced(records, labels, files)),
        split_hash=sha256_json(sorted((record.key, str(record.split)) for record in records)),
        notes=(*labels.notes, *notes),
        facts={**decided, **labels.facts},
        root=root,
    )


def check_leakage(records: Sequence[Record]) -> None:
    """Refuse a patient in two splits.

    Raises:
        LeakageError: with the number of such patients; names where they are kept.
    """
    seen: dict[str, dict[Split, str]] = defaultdict(dict)
    for record in records:
        if record.split is not None:
            seen[patient_of(record)].setdefault(record.split, record.name)
    leaking = [places for places in seen.values() if len(places) > 1]
    if leaking:
        pairs = sorted({" and ".join(sorted(places)) for places in leaking})
        names = [
            " and ".join(f"{name} ({split})" for split, name in places.items())
            for places in leaking
        ]
        raise LeakageError(
            f"{len(leaking)} of {len(seen)} patients stand in more than one split "
            f"({', '.join(pairs)}): test results would be too good{listed(names)}.",
            "Give each patient one split, or add --splits patient: new splits by patient are then "
            "made, whatever the data says.",
        )


def sample_of(record: Record) -> Sample:
    """The sample of a checked record: identifiers become keyed hashes."""
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
        mask_parts=record.mask_parts,
        mask_values=record.mask_values,
        mask_threshold=record.mask_threshold,
        mask_labels=record.mask_labels,
        mask_classes=record.mask_classes,
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
                "An image is listed twice, with different label, split or patient"
                f"{listed([record.name])}.",
                "Give each image one row; several findings of one image go into one cell: a|b.",
            )
    repeat = verb_of(repeats, "repeats another", "repeat others")
    notes = [f"{count_of(repeats, 'row')} {repeat}: left out"] if repeats else []
    return list(unique.values()), notes


def _missing(records: Sequence[Record], traces: Sequence[str], root: Path) -> list[str]:
    if not records:
        raise EmptyDataError(f"{root} holds no images.", "Check the path.")
    missing = [record for record, trace in zip(records, traces, strict=True) if not trace]
    if not missing:
        return []
    names = listed([record.name for record in missing])
    if len(missing) > MISSING_SHARE * len(records):
        raise EmptyDataError(
            f"{len(missing)} of {len(records)} listed files do not exist below {root}{names}.",
            "Check the folder of the images: paths are relative to the table's folder.",
        )
    return [
        f"{len(missing)} of {len(records)} listed files do not exist: they will stand in the "
        f"failures{names}"
    ]


def _copies(records: Sequence[Record], same: list[list[int]]) -> tuple[int, list[str]]:
    """Number of images that have a byte-identical copy in another split, and what to say."""
    crossing = [group for group in same if len({records[i].split for i in group}) > 1]
    count = sum(len(group) for group in crossing)
    notes = []
    if crossing:
        names = [" = ".join(f"{records[i].name} ({records[i].split})" for i in g) for g in crossing]
        tested = sum(records[i].split == "test" for group in crossing for i in group)
        notes.append(
            f"COPIES ACROSS SPLITS: {count} images are byte-identical to one in another split, "
            f"{tested} of them in test; results on them are too good{listed(names)}"
        )
    if len(same) > len(crossing):
        inside = sum(len(group) - 1 for group in same) - sum(len(g) - 1 for g in crossing)
        copies = verb_of(inside, "is a byte-identical copy", "are byte-identical copies")
        notes.append(f"{count_of(inside, 'image')} {copies} of one in the same split")
    return count, notes


def _absent_classes(records: Sequence[Record], labels: Labels) -> list[str]:
    if labels.task == "segmentation" and any(record.present is None for record in records):
        return []  # not known without reading every mask
    targets = targets_of(records, labels)
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
                out = _UNTESTED[labels.task == "segmentation"] if split == "test" else ""
                notes.append(f"{split} has no sample of: {', '.join(absent)}{out}")
    return notes


def _masks_traced(records: Sequence[Record], labels: Labels, files: FileFacts) -> list[str]:
    """The traces of all masks of a segmentation set, in order of names; else none."""
    if labels.task != "segmentation":
        return []
    masks = {path for one in records for path in (one.mask, *one.mask_parts) if path is not None}
    drawn = {path: name for path in masks if (name := trace_of_drawn(path))}
    return sorted(
        [*files.of("looking at files", sorted(masks - drawn.keys()), trace_of), *drawn.values()]
    )


def _fingerprint(
    records: Sequence[Record], labels: Labels, traces: Sequence[str], masks: Sequence[str]
) -> str:
    rows: list[Any] = sorted(
        (r.key, trace, list(r.labels), patient_of(r), str(r.split))
        for r, trace in zip(records, traces, strict=True)
    )
    facts = {"classes": list(labels.class_names), "task": labels.task, "rows": rows}
    return sha256_json(facts | {"masks": list(masks)} if masks else facts)
