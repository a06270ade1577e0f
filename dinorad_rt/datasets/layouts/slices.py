"""Classification of CT and MR: SARS-CoV-2 CT (a folder per patient) and Brain Tumor (.mat)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.datasets.entry import Listing, Wishes
from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.labels import Labels, positive_note
from dinorad_rt.datasets.layouts.common import (
    DEPTH,
    base_of,
    drawn,
    files_in,
    need_folder,
    other_count,
    relative,
    sub_folders,
)
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.stacks import volumes_of_folders
from dinorad_rt.errors import EmptyDataError, TableError
from dinorad_rt.optional import require
from dinorad_rt.words import count_of

SARS_FOLDERS = ("Covid", "Healthy", "Others")
SARS_PATIENTS = 210
TUMOURS = ("meningioma", "glioma", "pituitary")
TUMOUR_PATIENTS, TUMOUR_SLICES = 233, 3_064
_READERS = 4


def sars_cov_2(root: Path, wishes: Wishes) -> Listing:
    """Covid, Healthy and Others, a folder of PNG slices per patient in each."""
    base = base_of(root, "Covid")
    absent = tuple(name for name in SARS_FOLDERS if not (base / name).is_dir())
    patients = [
        (folder, name == "Covid")
        for name in SARS_FOLDERS
        if name not in absent
        for folder in sub_folders(base / name)
    ]
    splits = drawn(len(patients), SARS_PATIENTS, {"test": 70, "val": 50}, "train")
    places = volumes_of_folders([path for path, _ in patients], FileFacts(base, wishes.progress))
    records = tuple(
        Record(relative(path, base), place, (int(sick),), patient=relative(path, base), split=split)
        for (path, sick), place, split in zip(patients, places, splits, strict=True)
    )
    padded = sum(place.suffix == ".npy" for place in places)
    whose = count_of(padded, "patient")
    more = [f"slices of {whose} differ in size: smaller ones are framed in black"]
    notes = (
        positive_note(("no COVID-19", "COVID-19")),
        *other_count(len(patients), SARS_PATIENTS, "patients"),
        *(more if padded else ()),
    )
    labels = Labels("binary", ("no COVID-19", "COVID-19"), (), notes, ("folder",))
    return Listing(base, records, labels, absent, SARS_PATIENTS)


def brain_tumor(root: Path, wishes: Wishes) -> Listing:
    """1.mat to 3064.mat of figshare, in one folder or in those of the four archives."""
    need_folder(root)
    files = _numbered_mats(root)
    if not files:
        raise EmptyDataError(
            f"{root} holds none of 1.mat to 3064.mat.",
            "Unpack the four archives brainTumorDataPublic_*.zip of figshare there.",
        )
    h5py = require("h5py", "reading MATLAB 7.3 files")
    heads = []
    with ThreadPoolExecutor(_READERS) as pool:
        for head in pool.map(lambda path: _head(h5py, path), files):
            heads.append(head)
            if wishes.progress is not None:
                wishes.progress("labels of .mat files", len(heads), len(files))
    patients = sorted({patient for patient, _ in heads})
    splits = drawn(len(patients), TUMOUR_PATIENTS, {"test": 70, "val": 50}, "train")
    split_of = dict(zip(patients, splits, strict=True))
    records = tuple(
        Record(relative(path, root), path, (label,), patient=patient, split=split_of[patient])
        for path, (patient, label) in zip(files, heads, strict=True)
    )
    notes = other_count(len(patients), TUMOUR_PATIENTS, "patients")
    labels = Labels("multiclass", TUMOURS, (), tuple(notes), ("cjdata/label",))
    here = {int(path.stem) for path in files}
    ends = ((1, 766), (767, 1532), (1533, 2298), (2299, 3064))
    parts = tuple(
        f"brainTumorDataPublic_{first}-{last}.zip"
        for first, last in ends
        if not here & set(range(first, last + 1))
    )
    return Listing(root, records, labels, parts, TUMOUR_SLICES)


def _numbered_mats(root: Path) -> list[Path]:
    level, found = [root], []
    for _ in range(DEPTH):
        for folder in level:
            found += [path for path in files_in(folder, ".mat") if path.stem.isdigit()]
        level = [sub for folder in level for sub in sub_folders(folder)]
    return sorted(found, key=lambda path: int(path.stem))


def _head(h5py: Any, path: Path) -> tuple[str, int]:
    """Patient and class index of one file."""
    try:
        with h5py.File(path, "r") as file:
            label = int(np.asarray(file["cjdata/label"]).reshape(-1)[0])
            codes = np.asarray(file["cjdata/PID"]).reshape(-1)
        patient = "".join(chr(int(code)) for code in codes)
    except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise TableError(
            "A .mat file of the brain tumour set is damaged or holds no cjdata/label and "
            "cjdata/PID.",
            "Fetch the archives again from figshare.",
        ) from error
    if label not in (1, 2, 3):
        raise TableError(f"A .mat file has the label {label}.", "Known: 1, 2, 3.")
    return patient, label - 1
