"""Chest radiographs with findings: NIH ChestX-ray14, CheXpert, RSNA Pneumonia, VinDr-CXR."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from dinorad_rt.datasets.entry import Listing, Wishes
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.layouts.common import base_of, files_in, other_count, relative, sub_folders
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.table import Table, read_table
from dinorad_rt.errors import EmptyDataError, TableError
from dinorad_rt.types import Split

NIH_FINDINGS = (
    "Atelectasis Cardiomegaly Consolidation Edema Effusion Emphysema Fibrosis Hernia Infiltration "
    "Mass"
).split() + ["No Finding", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"]
NIH_TRAIN_VAL, NIH_VAL = 86_524, 10_002
NIH_ARCHIVES = tuple(f"images_{number:03d}" for number in range(1, 13))
NIH_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")

CHEXPERT_FINDINGS = (
    "Cardiomegaly",
    "Edema",
    "Consolidation",
    "Atelectasis",
    "Pleural Effusion",
)
CHEXPERT_TABLES: dict[Split, tuple[str, ...]] = {
    "train": ("train.csv",),
    "val": ("valid.csv", "val.csv", "val_labels.csv"),
    "test": ("test.csv", "test_labels.csv", "groundtruth.csv"),
}
_TRAIN_BATCH = re.compile(r"batch \d+ \(train", re.IGNORECASE)
Policy = Literal["study", "u-zeros", "u-ones"]


def nih(root: Path, wishes: Wishes) -> Listing:
    """Data_Entry_2017.csv, train_val_list.txt, test_list.txt, images_001/images/*.png, ...

    The last 10,002 rows of train_val_list.txt are val, as in the study.
    """
    base = base_of(root, *NIH_TABLES)
    table = read_table(next(base / name for name in NIH_TABLES if (base / name).is_file()))
    split_of, notes = _nih_splits(base)
    paths, folders = _nih_paths(base)
    classes = {name: at for at, name in enumerate(NIH_FINDINGS)}
    records, unsplit = [], 0
    columns = (_column(table, one) for one in ("Image Index", "Finding Labels", "Patient ID"))
    for name, cell, patient in zip(*columns, strict=True):
        split = split_of.get(name)
        if split is None:
            unsplit += 1
            continue
        path = paths.get(name, base / "images" / name)
        row = _multi_hot(cell.split("|"), classes, table)
        records.append(Record(relative(path, base), path, row, patient=patient, split=split))
    if unsplit:
        notes.append(f"{unsplit:,} rows of the table stand in no official list: left out")
    missing = [f"{name}.tar.gz" for name in NIH_ARCHIVES if name not in folders]
    parts = () if "images" in folders else tuple(missing)
    labels = Labels("multilabel", tuple(NIH_FINDINGS), (), tuple(notes), ("Finding Labels",))
    return Listing(base, tuple(records), labels, parts)


def _nih_splits(base: Path) -> tuple[dict[str, Split], list[str]]:
    lists = [base / "train_val_list.txt", base / "test_list.txt"]
    absent = [source.name for source in lists if not source.is_file()]
    if absent:
        raise EmptyDataError(
            f"The official split is missing: {' and '.join(absent)} beside {NIH_TABLES[1]}.",
            "Fetch it from the download page of the dataset, or give --splits.",
        )
    train_val, test = (source.read_text(encoding="utf-8-sig").split() for source in lists)
    count = len(train_val)
    val = NIH_VAL if count == NIH_TRAIN_VAL else round(NIH_VAL * count / NIH_TRAIN_VAL)
    splits: dict[str, Split] = dict.fromkeys(train_val[: count - val], "train")
    splits |= dict.fromkeys(train_val[count - val :], "val")
    splits |= dict.fromkeys(test, "test")
    return splits, other_count(count, NIH_TRAIN_VAL, "rows of train_val_list.txt")


def _nih_paths(base: Path) -> tuple[dict[str, Path], set[str]]:
    """File name → path, from images_001/images and images; and the folders that are here."""
    paths: dict[str, Path] = {}
    folders = set()
    for folder in sub_folders(base):
        if folder.name == "images" or folder.name in NIH_ARCHIVES:
            inner = folder / "images" if (folder / "images").is_dir() else folder
            found = files_in(inner, ".png")
            if found:
                folders.add(folder.name)
            paths |= {path.name: path for path in found}
    return paths, folders


def chexpert(root: Path, wishes: Wishes, *, policy: Policy = "study") -> Listing:
    """CheXpert-v1.0 or -small: train.csv, valid.csv, train/patient*/study*/view*_frontal.jpg.

    Also as the full set comes: `CheXpert-v1.0 batch 1 (validate & csv)` with the tables, and the
    patients of train in `... batch 2 (train 1)` to `... batch 4 (train 3)` beside it.
    Frontal views only. Blank is 0. Uncertain (-1) is 0 and sets the extra class Uncertain
    (policy `study`), or is 0 or 1 without it.
    """
    base = base_of(root, *CHEXPERT_TABLES["train"], *CHEXPERT_TABLES["val"])
    batches = _train_batches(base)
    records: list[Record] = []
    lateral, parts = 0, []
    for split, names in CHEXPERT_TABLES.items():
        source = next((base / name for name in names if (base / name).is_file()), None)
        if source is None:
            parts.append(f"{names[0]} and {'valid' if split == 'val' else split}/")
            continue
        found, more = _chexpert_rows(read_table(source), base, split, policy)
        found = [_in_batch(one, batches) if split == "train" else one for one in found]
        records += found
        lateral += more
    notes = [f"{lateral:,} lateral views left out"]
    notes.append(f"uncertain labels (-1): {_POLICIES[policy]}; blank labels count as 0")
    classes = CHEXPERT_FINDINGS + (("Uncertain",) if policy == "study" else ())
    labels = Labels("multilabel", classes, (), tuple(notes), CHEXPERT_FINDINGS)
    return Listing(base, tuple(records), labels, tuple(parts))


_POLICIES = {
    "study": "0, and the class Uncertain is 1 (U-Zeros with a flag)",
    "u-zeros": "0",
    "u-ones": "1",
}


def _chexpert_rows(
    table: Table, base: Path, split: Split, policy: Policy
) -> tuple[list[Record], int]:
    columns = [_column(table, name) for name in CHEXPERT_FINDINGS]
    records, lateral = [], 0
    for listed, *cells in zip(_column(table, "Path"), *columns, strict=True):
        if "lateral" in listed:
            lateral += 1
            continue
        values = [float(cell or 0) for cell in cells]
        row = [int(value == 1 or (value == -1 and policy == "u-ones")) for value in values]
        if policy == "study":
            row.append(int(-1 in values))
        name = _below_split(listed)
        patient = next((p for p in PurePosixPath(name).parts if p.startswith("patient")), None)
        records.append(Record(name, base / name, tuple(row), patient=patient, split=split))
    return records, lateral


def _train_batches(base: Path) -> dict[str, Path]:
    """Patient → folder, of the batches of train beside that of the tables; none if there is one."""
    if "batch" not in base.name.lower():
        return {}
    batches = [one for one in sub_folders(base.parent) if _TRAIN_BATCH.search(one.name)]
    return {patient.name: patient for batch in batches for patient in sub_folders(batch)}


def _in_batch(record: Record, batches: dict[str, Path]) -> Record:
    folder = batches.get(record.patient or "")
    if folder is None or record.path.exists():
        return record
    inside = PurePosixPath(record.name).parts
    return replace(record, path=folder.joinpath(*inside[inside.index(folder.name) + 1 :]))


def _below_split(listed: str) -> str:
    """`CheXpert-v1.0-small/train/patient1/...` → `train/patient1/...`."""
    parts = PurePosixPath(listed).parts
    start = next((i for i, part in enumerate(parts) if part in ("train", "valid", "test")), 0)
    return "/".join(parts[start:])


def rsna(root: Path, wishes: Wishes) -> Listing:
    """stage_2_train_labels.csv, stage_2_train_images/*.dcm: pneumonia or not.

    The set has no test labels: splits are made. With the published mapping to NIH images beside
    it, patients are those of NIH; without it each image counts as one.
    """
    base = base_of(root, "stage_2_train_labels.csv")
    table = read_table(base / "stage_2_train_labels.csv")
    truth: dict[str, int] = defaultdict(int)
    rows = zip(_column(table, "patientId"), _column(table, "Target"), strict=True)
    for image, target in rows:
        truth[image] |= int(target == "1")
    patients = _rsna_patients(base)
    folder = base / "stage_2_train_images"
    records = tuple(
        Record(f"{folder.name}/{image}.dcm", folder / f"{image}.dcm", (label,), patients.get(image))
        for image, label in truth.items()
    )
    notes = ["positive class: pneumonia; the other is no pneumonia"]
    if not patients:
        notes.append(
            "RSNA numbers images, not patients: a patient of NIH may stand in two splits; put "
            "pneumonia-challenge-dataset-mappings_2018.json beside the table to keep them together"
        )
    labels = Labels("binary", ("no pneumonia", "pneumonia"), (), tuple(notes), ("stage_2 Target",))
    return Listing(base, records, labels)


def _rsna_patients(base: Path) -> dict[str, str]:
    """RSNA image → NIH patient, from the mapping that RSNA published."""
    found = files_in(base, ".json")
    source = next((path for path in found if "mapping" in path.name), None)
    if source is None:
        return {}
    try:
        entries = json.loads(source.read_text(encoding="utf-8-sig"))
        return {
            str(one["subset_img_id"]): str(one["img_id"]).split("_")[0]
            for one in entries
            if one.get("subset_img_id")
        }
    except (ValueError, TypeError, KeyError) as error:
        raise TableError(
            f"{source.name} is not the mapping that RSNA published.",
            "Fetch it again, or remove it.",
        ) from error


def vindr(root: Path, wishes: Wishes) -> Listing:
    """annotations/image_labels_{train,test}.csv and {train,test}/*.dicom of PhysioNet.

    Train images were read by three radiologists each: a finding counts where most of them agree.
    """
    base = base_of(root, "annotations/image_labels_train.csv")
    records: list[Record] = []
    classes: tuple[str, ...] = ()
    for split in ("train", "test"):
        source = base / "annotations" / f"image_labels_{split}.csv"
        if not source.is_file():
            continue
        table = read_table(source)
        names = tuple(n for n in table.header if n not in ("image_id", "rad_id", "rad_ID"))
        if classes and set(names) != set(classes):
            raise TableError(
                f"{source.name} has other findings than the train table.", "Fetch both again."
            )
        classes = classes or names
        records += _vindr_rows(table, classes, base, split)
    notes = (
        "a finding counts where most of an image's readers see it (two of three)",
        "VinDr-CXR names no patients: each image counts as one",
    )
    parts = tuple(split for split in ("train", "test") if not (base / split).is_dir())
    labels = Labels("multilabel", classes, (), notes, ("image_labels",))
    return Listing(base, tuple(records), labels, parts)


def _vindr_rows(table: Table, classes: Sequence[str], base: Path, split: Split) -> list[Record]:
    votes: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    columns = [_column(table, name) for name in classes]
    for image, *cells in zip(_column(table, "image_id"), *columns, strict=True):
        votes[image].append(tuple(int(float(cell or 0)) for cell in cells))
    records = []
    for image, readers in votes.items():
        row = tuple(int(2 * sum(column) > len(readers)) for column in zip(*readers, strict=True))
        name = f"{split}/{image}.dicom"
        records.append(Record(name, base / name, row, split=split))
    return records


def _multi_hot(findings: list[str], classes: dict[str, int], table: Table) -> tuple[int, ...]:
    row = [0] * len(classes)
    for finding in findings:
        if finding not in classes:
            raise TableError(
                f"{table.source.name} holds the finding {finding!r}.",
                f"Known: {', '.join(classes)}. Is it the official table?",
            )
        row[classes[finding]] = 1
    return tuple(row)


def _column(table: Table, name: str) -> list[str]:
    if name not in table.header:
        raise TableError(
            f"{table.source.name} has no column {name!r}. Columns found: {table.listed()}.",
            "Is it the official table of this dataset?",
        )
    return table.column(name)
