"""Lung masks on radiographs: Montgomery County and Shenzhen; both also have a class, TB or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dinorad_rt.datasets.entry import Listing, Wishes
from dinorad_rt.datasets.labels import Labels, positive_note
from dinorad_rt.datasets.layouts.common import base_of, files_in, other_count, relative
from dinorad_rt.datasets.record import Record
from dinorad_rt.types import Split

MONTGOMERY_IMAGES, SHENZHEN_IMAGES, SHENZHEN_MASKS = 138, 662, 566
LUNG, LUNGS = ("background", "lung"), ("background", "left lung", "right lung")
TB = ("normal", "tuberculosis")
_SHENZHEN_MASK_FOLDERS = ("mask", "masks", "mask/mask", "ManualMask")


def montgomery(root: Path, wishes: Wishes) -> Listing:
    """MontgomerySet: CXR_png, ManualMask/leftMask and rightMask, ClinicalReadings.

    Every third image is test; of the others every fourth is val.
    """
    base = base_of(root, "CXR_png")
    images = files_in(base / "CXR_png", ".png")
    splits = _every(len(images), 3, 4)
    folders = [base / "ManualMask" / side for side in ("leftMask", "rightMask")]
    records = []
    for path, split in zip(images, splits, strict=True):
        masks = tuple(folder / path.name for folder in folders)
        record = _record(base, path, split)
        records.append(replace(record, mask=masks[0], mask_parts=masks))
    parts = tuple(relative(folder, base) for folder in folders if not folder.is_dir())
    notes = other_count(len(images), MONTGOMERY_IMAGES, "images")
    return _listing(base, records, wishes, (LUNGS, notes, parts), MONTGOMERY_IMAGES)


def shenzhen(root: Path, wishes: Wishes) -> Listing:
    """ChinaSet_AllFiles: CXR_png, ClinicalReadings; masks (CHNCXR_0001_0_mask.png) in mask/.

    Of the images with a mask every fifth is test; of the others every fifth is val.
    """
    base = base_of(root, "CXR_png")
    images = files_in(base / "CXR_png", ".png")
    places = [base / name for name in _SHENZHEN_MASK_FOLDERS] + [
        base.parent / name for name in _SHENZHEN_MASK_FOLDERS
    ]
    folder = next((place for place in places if files_in(place, "_mask.png")), None)
    masks = {} if folder is None else {p.name: p for p in files_in(folder, "_mask.png")}
    with_mask = [path for path in images if f"{path.stem}_mask.png" in masks]
    chosen = images if wishes.task == "classification" and not with_mask else with_mask
    splits = _every(len(chosen), 5, 5)
    records = [
        replace(
            _record(base, path, split),
            mask=masks.get(f"{path.stem}_mask.png"),
            mask_values=(0, 255),
        )
        for path, split in zip(chosen, splits, strict=True)
    ]
    notes = other_count(len(with_mask), SHENZHEN_MASKS, "images with a mask")
    parts = () if masks else ("mask/ (CHNCXR_*_mask.png)",)
    return _listing(base, records, wishes, (LUNG, notes, parts), SHENZHEN_MASKS)


def _every(count: int, test: int, val: int) -> list[Split]:
    """Every `test`-th from the first is test; of those left every `val`-th is val."""
    splits: list[Split] = []
    left = 0
    for at in range(count):
        if at % test == 0:
            splits.append("test")
            continue
        splits.append("val" if left % val == 0 else "train")
        left += 1
    return splits


def _record(base: Path, path: Path, split: Split) -> Record:
    """Each image is a patient of its own; the last digit of its name is 1 for tuberculosis."""
    label = int(path.stem.endswith("_1"))
    return Record(relative(path, base), path, (label,), patient=path.stem, split=split)


def _listing(
    base: Path,
    records: Sequence[Record],
    wishes: Wishes,
    truth: tuple[tuple[str, ...], list[str], tuple[str, ...]],
    total: int,
) -> Listing:
    classes, notes, parts = truth
    if wishes.task == "classification":
        labels = Labels("binary", TB, (), (positive_note(TB), *notes), ("file name",))
        plain = (replace(one, mask=None, mask_parts=(), mask_values=None) for one in records)
        return Listing(base, tuple(plain), labels, (), total)
    emptied = tuple(replace(one, labels=()) for one in records)
    labels = Labels("segmentation", classes, (), tuple(notes), ("mask",))
    return Listing(base, emptied, labels, parts, total)
