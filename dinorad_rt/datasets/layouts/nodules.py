"""Lung nodules on CT: LIDC-IDRI from TCIA with the annotation tables of LUNA16."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dinorad_rt.datasets.entry import Listing, Wishes
from dinorad_rt.datasets.labels import Labels, positive_note
from dinorad_rt.datasets.layouts.common import base_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.table import read_table
from dinorad_rt.errors import EmptyDataError, TableError
from dinorad_rt.studies.series import read_slice_header, visible_files

CLASSES = ("no nodule", "nodule")
SCANS = 888
_SCANS_TABLES = ("candidates_V2.csv", "candidates.csv", "seriesuids.csv")


def lidc(root: Path, wishes: Wishes) -> Listing:
    """LIDC-IDRI/LIDC-IDRI-0001/STUDY/SERIES/*.dcm with LUNA16's annotations.csv beside it.

    A scan is positive if LUNA16 lists a nodule of 3 mm or more in it, seen by three of four
    readers. Only scans that LUNA16 uses count: those of candidates_V2.csv (or seriesuids.csv).
    """
    base = base_of(root, "annotations.csv")
    nodules = set(_series(base / "annotations.csv"))
    scans = next((base / name for name in _SCANS_TABLES if (base / name).is_file()), None)
    if scans is None:
        raise EmptyDataError(
            "annotations.csv lists scans with nodules only; which others are without is not told.",
            f"Put one of {', '.join(_SCANS_TABLES)} of LUNA16 beside it.",
        )
    used = set(_series(scans)) | nodules
    records, others = [], 0
    for folder, patient, series in _folders(base, wishes):
        if series not in used:
            others += 1
            continue
        name = folder.relative_to(base).as_posix()
        label = (int(series in nodules),)
        records.append(Record(name, folder, label, patient=patient, series=series))
    notes = [positive_note(CLASSES)]
    if others:
        notes.append(f"{others} series that LUNA16 does not use left out")
    labels = Labels("binary", CLASSES, (), tuple(notes), ("seriesuid",))
    return Listing(base, tuple(records), labels, (), len(used))


def _series(source: Path) -> list[str]:
    table = read_table(source)
    if "seriesuid" not in table.header:
        raise TableError(
            f"{source.name} has no column 'seriesuid'. Columns found: {table.listed()}.",
            "Is it the table of LUNA16?",
        )
    return table.column("seriesuid")


def _folders(base: Path, wishes: Wishes) -> list[tuple[Path, str, str]]:
    """(folder, patient, series UID) of each series: TCIA gives one folder to each."""
    leaves: dict[Path, Path] = {}
    for path in visible_files(base):
        if path.suffix.lower() == ".dcm":
            leaves.setdefault(path.parent, path)
    found = []
    seen: Counter[str] = Counter()
    for done, (folder, first) in enumerate(leaves.items(), start=1):
        header = read_slice_header(first)
        if header is not None and header.modality in ("CT", None):
            seen[header.series] += 1
            found.append((folder, header.patient, header.series))
        if wishes.progress is not None:
            wishes.progress("headers of series", done, len(leaves))
    doubled = sum(count > 1 for count in seen.values())
    if doubled:
        raise TableError(f"{doubled} series lie in several folders.", "Keep one folder per series.")
    return found
