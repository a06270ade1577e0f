"""Opening a registered dataset from its official download, whole or in part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dinorad_rt.datasets.checks import build_dataset
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.dicom_seg import SEGMENT_FACT, segment_facts
from dinorad_rt.datasets.entry import DatasetEntry, Listing, Wishes
from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.layouts.common import existing
from dinorad_rt.datasets.masks import values_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.segmentation import check_record_grids
from dinorad_rt.errors import EmptyDataError, LabelError, ProtocolError
from dinorad_rt.identifiers import listed
from dinorad_rt.types import SPLITS


def open_registered(
    entry: DatasetEntry,
    root: Path | None,
    wishes: Wishes,
    *,
    splits: Path | None = None,
    seed: int = 0,
) -> Dataset:
    """Open a registered dataset. Nothing is written below the root.

    Args:
        entry: which one.
        root: folder of the download.
        wishes: what the user chooses.
        splits: as in `build_dataset`; None for the entry's rule.
        seed: of splits that are made.

    Raises:
        EmptyDataError: the download, or all its images, are not there.
        DataError: it is not what the publisher says.
    """
    listing = list_entry(entry, root, wishes)
    facts = FileFacts(listing.base, wishes.progress)
    records, notes = _present(entry, listing)
    if listing.labels.task == "segmentation":
        check_record_grids(records)
    labels = replace(
        listing.labels,
        notes=(*notes, *listing.labels.notes),
        facts={**entry.facts(), **listing.labels.facts},
    )
    return build_dataset(
        entry.name, listing.base, records, labels, seed=seed, splits=splits, facts=facts
    )


def list_entry(entry: DatasetEntry, root: Path | None, wishes: Wishes) -> Listing:
    """What the download should hold, by its own tables.

    Raises:
        EmptyDataError: no root, or no such download there.
        ProtocolError: a task that the dataset has no truth for.
    """
    if root is None:
        raise EmptyDataError(
            f"{entry.name} is not made here: its download is needed.",
            f"Get it at {entry.url} and give its folder: --root DIR. It looks like {entry.tree}",
        )
    assert entry.layout is not None
    try:
        listing = entry.layout(root.expanduser(), wishes)
    except EmptyDataError as error:
        raise EmptyDataError(error.problem, f"{error.fix} Expected: {entry.tree}") from error
    segmented = listing.labels.task == "segmentation"
    if wishes.task != "auto" and segmented != (wishes.task == "segmentation"):
        raise ProtocolError(
            f"{entry.name} has no truth for {wishes.task}; its task is {listing.labels.task}.",
            "Leave --task away.",
        )
    if not listing.records:
        raise EmptyDataError(
            f"The download of {entry.name} lists no {entry.unit}s.", f"Expected: {entry.tree}"
        )
    return listing


def check_mask_values(dataset: Dataset, facts: FileFacts) -> dict[str, int]:
    """Read all masks of a segmentation set and count in how many each class is.

    Raises:
        LabelError: a mask holds a value that stands for no class.
    """
    if any(one.mask_parts for one in dataset.samples):
        return _count_parts(dataset, facts)
    masks = sorted({one.mask for one in dataset.samples if one.mask})
    if any(one.mask_labels for one in dataset.samples):
        return _count_segments(dataset, masks, facts)
    found = facts.of("values of masks", masks, lambda path: list(values_of(path)))
    allowed = dataset.mask_values
    if allowed is None:
        return {}
    bad = [
        (path, set(values) - set(allowed))
        for path, values in zip(masks, found, strict=True)
        if not set(values) <= set(allowed)
    ]
    if bad:
        values = sorted({value for _, others in bad for value in others})
        raise LabelError(
            f"{len(bad)} of {len(masks)} masks hold the values {values[:10]}, which stand for no "
            f"class{listed([path.name for path, _ in bad])}.",
            f"Allowed: {', '.join(map(str, allowed[:20]))} ({', '.join(dataset.class_names)}).",
        )
    held = dict(zip(masks, found, strict=True))
    images = {(one.path, one.mask) for one in dataset.samples if one.mask}
    count = Counter(value for _, mask in images for value in held[mask])
    return {
        name: count[value]
        for name, value in zip(dataset.class_names, allowed, strict=True)
        if value
    }


def _count_segments(dataset: Dataset, masks: list[Path], facts: FileFacts) -> dict[str, int]:
    """In how many DICOM SEG files each class is."""
    held = facts.of(SEGMENT_FACT, masks, segment_facts)
    count = Counter(label for segments in held for label in {label for _, label in segments})
    return {name: count[name] for name in dataset.class_names[1:]}


def _count_parts(dataset: Dataset, facts: FileFacts) -> dict[str, int]:
    """In how many masks each class is, where it has files of its own."""
    masks = {(one.path, one.mask_parts): one.classes_of_parts for one in dataset.samples}
    files = sorted({path for _, parts in masks for path in parts})
    found = facts.of("values of masks", files, lambda path: list(values_of(path)))
    filled = {path for path, values in zip(files, found, strict=True) if any(values)}
    held = [
        {at for path, at in zip(parts, classes, strict=True) if path in filled}
        for (_, parts), classes in masks.items()
    ]
    return {
        name: sum(at in one for one in held)
        for at, name in enumerate(dataset.class_names[1:], start=1)
    }


def _present(entry: DatasetEntry, listing: Listing) -> tuple[list[Record], list[str]]:
    """The records whose files are here; and what is missing."""
    records = listing.records
    wanted = {path for one in records for path in _files(one)}
    here = existing(sorted(wanted))
    found = [one for one in records if here.issuperset(_files(one))]
    total = _files_total(listing)
    notes = _incomplete(entry, listing, found, len({one.path for one in found}), total)
    if not found:
        raise EmptyDataError(
            f"None of {total:,} images of {entry.name} is here (with its mask, if it has one)."
            f"{_parts(listing.parts)}",
            f"Unpack the download as it is. Expected: {entry.tree}",
        )
    return found, notes


def _files(record: Record) -> tuple[Path, ...]:
    masks = record.mask_parts or ((record.mask,) if record.mask is not None else ())
    return (record.path, *masks)


def _files_total(listing: Listing) -> int:
    return max(len({one.path for one in listing.records}), listing.total or 0)


def _incomplete(
    entry: DatasetEntry, listing: Listing, found: Sequence[Record], files: int, total: int
) -> list[str]:
    notes = []
    if files < total or listing.parts:
        parts = _parts(listing.parts)
        notes.append(f"PARTIAL DOWNLOAD: {files:,} of {total:,} images are here.{parts}")
    counts = Counter(one.split for one in found)
    here = {split: counts[split] for split in SPLITS if counts[split]}
    if entry.counts and here != dict(entry.counts) and None not in counts:
        now = ", ".join(f"{split} {count:,}" for split, count in here.items())
        official = ", ".join(f"{split} {count:,}" for split, count in entry.counts.items())
        notes.append(f"{entry.unit}s here: {now}; of the full set: {official}")
    return notes


def _parts(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    shown = ", ".join(parts[:12]) + (", ..." if len(parts) > 12 else "")
    return f" Missing: {shown}."
