"""`DatasetEntry`: what is known of a registered dataset before it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinorad_rt.datasets.facts import Progress
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.record import Record
from dinorad_rt.types import Split


@dataclass(frozen=True)
class Wishes:
    """What the user may choose of a registered dataset.

    Attributes:
        task: auto, classification or segmentation, for sets that have both truths.
        progress: called with what is read, the number done and the total.
    """

    task: str = "auto"
    progress: Progress | None = None


@dataclass(frozen=True)
class Listing:
    """What a layout lists, whether or not all its files are here.

    Attributes:
        base: folder that the records' names are relative to.
        records: everything that the rule uses, with labels and splits.
        labels: task and classes.
        parts: what belongs to the download and is missing, by its official name.
        total: units of the official download, for "3,112 of 112,120"; None for len(records).
    """

    base: Path
    records: tuple[Record, ...]
    labels: Labels
    parts: tuple[str, ...] = ()
    total: int | None = None


Layout = Callable[[Path, Wishes], Listing]


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset.

    Attributes:
        name: kebab-case, as on the command line.
        task: binary, multiclass, multilabel or segmentation.
        classes: in the order of the labels.
        counts: samples per split by the study's rule (or the official split) of a full download.
        unit: what a sample is: image, slice, volume or patient.
        rule: how the splits come about, for the provenance.
        leak: what is known of patients in two splits; empty if the rule keeps them apart.
        files: official archives or files whose MD5 is published.
        tree: what the root must look like.
        layout: reads it; None for phantoms, which are made.
        study: one of the twelve sets of the study.
    """

    name: str
    title: str
    modality: str
    task: str
    licence: str
    url: str = ""
    classes: tuple[str, ...] = ()
    counts: Mapping[Split, int] = field(default_factory=dict)
    unit: str = "image"
    rule: str = ""
    leak: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    tree: str = ""
    layout: Layout | None = None
    study: bool = False

    def facts(self) -> dict[str, Any]:
        """For the provenance of everything made from the dataset."""
        return {
            "registered": self.name,
            "licence": self.licence,
            "url": self.url,
            "unit": self.unit,
            "split_rule": self.rule,
            "patients_in_two_splits": self.leak or "excluded by the rule",
            "official_counts": dict(self.counts),
        }
