"""`Record`: one row as the user wrote it, before it is checked and made a `Sample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dinorad_rt.types import Split


@dataclass(frozen=True)
class Record:
    """Raw facts of one image. Holds identifiers: lives only while a dataset is opened.

    Attributes:
        name: path relative to the dataset's root, or the absolute one if it lies elsewhere.
        labels: as in `Sample`.
        patient: identifier, or None where the data names none.
        mask, mask_parts, mask_classes, mask_values, mask_threshold, mask_labels: as in `Sample`.
        present: 0/1 per class of what the mask holds, or None where it was not read.
    """

    name: str
    path: Path
    labels: tuple[int, ...]
    patient: str | None = None
    split: Split | None = None
    mask: Path | None = None
    frame: int | None = None
    study: str | None = None
    series: str | None = None
    mask_parts: tuple[Path, ...] = ()
    mask_values: tuple[int, ...] | None = None
    mask_threshold: int | None = None
    mask_labels: tuple[str, ...] | None = None
    present: tuple[int, ...] | None = None
    mask_classes: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Name and frame: unique within a dataset."""
        return self.name if self.frame is None else f"{self.name}#{self.frame}"


def patient_of(record: Record) -> str:
    """The patient, or the image's own name where none is known."""
    return f"file:{record.name}" if record.patient is None else record.patient
