"""Organs in CT and MR volumes: AMOS22, three sets of the Decathlon, BTCV whole and by slice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinorad_rt.datasets.description import (
    DESCRIPTION,
    classes_of_description,
    read_description,
)
from dinorad_rt.datasets.entry import Listing, Wishes
from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.grid import grid_of
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.layouts.common import base_of, drawn, files_in, other_count, relative
from dinorad_rt.datasets.record import Record
from dinorad_rt.errors import LabelError, UnreadableFileError
from dinorad_rt.types import Split
from dinorad_rt.words import count_of

AMOS_ORGANS = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
)
BTCV_ORGANS = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
AMOS_CT_NUMBERS = 500
"""AMOS numbers its CT up to 500 and its MR above."""
AMOS_VOLUMES, BTCV_VOLUMES, BTCV_TEST = 300, 30, 20
_VOLUMES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Decathlon:
    """One set of the Medical Segmentation Decathlon and the study's draw from it.

    Attributes:
        task: name of the official folder.
        volumes: labelled ones.
        draws: split → volumes, in the order of drawing; the rest is train.
    """

    task: str
    classes: tuple[str, ...]
    volumes: int
    draws: Mapping[Split, int]


HEART = Decathlon("Task02_Heart", ("background", "left atrium"), 20, {"test": 4, "val": 4})
HIPPOCAMPUS = Decathlon(
    "Task04_Hippocampus", ("background", "anterior", "posterior"), 260, {"test": 80, "val": 60}
)
SPLEEN = Decathlon("Task09_Spleen", ("background", "spleen"), 41, {"test": 15, "val": 10})


@dataclass(frozen=True)
class _Volume:
    image: Path
    mask: Path
    split: Split | None


def decathlon(root: Path, wishes: Wishes, *, of: Decathlon) -> Listing:
    """Task0X_*/imagesTr and labelsTr; the test volumes of the challenge have no labels."""
    base = root if (root / "imagesTr").is_dir() else base_of(root, of.task) / of.task
    images = files_in(base / "imagesTr", *_VOLUMES)
    splits = drawn(len(images), of.volumes, of.draws, "train")
    volumes = [
        _Volume(path, base / "labelsTr" / path.name, split)
        for path, split in zip(images, splits, strict=True)
    ]
    _check_classes(base, of.classes)
    notes = other_count(len(images), of.volumes, "volumes")
    parts = () if (base / "labelsTr").is_dir() else ("labelsTr",)
    records = _slices(base, volumes, wishes)
    return _listing(base, records, (of.classes, notes, parts), of.volumes)


def amos(root: Path, wishes: Wishes) -> Listing:
    """amos22: imagesTr, labelsTr, imagesVa, labelsVa. Labelled CT only, half of it as in the study.

    Of 300 volumes 80 are drawn for train, then 20 for val, then 50 for test.
    """
    base = base_of(root, "imagesTr")
    pairs = [
        (path, base / f"labels{part}" / path.name)
        for part in ("Tr", "Va")
        for path in files_in(base / f"images{part}", *_VOLUMES)
    ]
    ct = sorted((one for one in pairs if _number(one[0]) <= AMOS_CT_NUMBERS), key=_by_number)
    splits = drawn(len(ct), AMOS_VOLUMES, {"train": 80, "val": 20, "test": 50}, None)
    volumes = [_Volume(*pair, split) for pair, split in zip(ct, splits, strict=True)]
    used = [one for one in volumes if one.split is not None]
    notes = other_count(len(ct), AMOS_VOLUMES, "labelled CT volumes")
    if len(pairs) > len(ct):
        notes.append(f"{len(pairs) - len(ct)} MR volumes left out: the study takes CT")
    notes.append(f"{len(ct) - len(used)} of {len(ct)} volumes are not used by the study's rule")
    names = ("imagesTr", "labelsTr", "imagesVa", "labelsVa")
    parts = tuple(name for name in names if not (base / name).is_dir())
    records = _slices(base, used, wishes)
    return _listing(base, records, (AMOS_ORGANS, notes, parts), len(used))


def btcv(root: Path, wishes: Wishes, *, by_slice: bool = False) -> Listing:
    """RawData/Training/img and label. Every other volume from the first is val, the rest train.

    The 20 volumes of RawData/Testing have no labels and are left out.
    """
    base = base_of(root, "Training/img")
    images = files_in(base / "Training" / "img", *_VOLUMES)
    volumes = [
        _Volume(
            path,
            base / "Training" / "label" / path.name.replace("img", "label"),
            "train" if at % 2 else "val",
        )
        for at, path in enumerate(images)
    ]
    notes = other_count(len(images), BTCV_VOLUMES, "volumes")
    unlabelled = len(files_in(base / "Testing" / "img", *_VOLUMES))
    if unlabelled:
        notes.append(f"{count_of(unlabelled, 'volume')} of Testing without labels: left out")
    parts = () if (base / "Training" / "label").is_dir() else ("Training/label",)
    records = _slices(base, volumes, wishes) if by_slice else _whole(base, volumes)
    return _listing(base, records, (BTCV_ORGANS, notes, parts), BTCV_VOLUMES)


def _whole(base: Path, volumes: Sequence[_Volume]) -> list[Record]:
    return [
        Record(
            relative(one.image, base),
            one.image,
            (),
            patient=one.image.name.split(".")[0],
            split=one.split,
            mask=one.mask,
        )
        for one in volumes
    ]


def _slices(base: Path, volumes: Sequence[_Volume], wishes: Wishes) -> list[Record]:
    """One record per axial slice, empty ones too, as in the study."""
    facts = FileFacts(base, wishes.progress)
    counts = facts.of("slices of volumes", [one.image for one in volumes], _slices_of)
    return [
        replace(record, frame=frame)
        for record, count in zip(_whole(base, volumes), counts, strict=True)
        for frame in range(count)
    ]


def _slices_of(path: Path) -> int:
    try:
        return grid_of(path).shape[0]
    except UnreadableFileError:
        return 1  # the file will stand in the failures, once


def _listing(
    base: Path,
    records: Sequence[Record],
    truth: tuple[tuple[str, ...], list[str], tuple[str, ...]],
    total: int,
) -> Listing:
    classes, notes, parts = truth
    values = tuple(range(len(classes)))
    valued = tuple(replace(one, mask_values=values) for one in records)
    labels = Labels("segmentation", classes, (), tuple(notes), ("mask",))
    return Listing(base, valued, labels, parts, total)


def _check_classes(base: Path, classes: tuple[str, ...]) -> None:
    """Refuse a `dataset.json` that numbers other classes."""
    source = base / DESCRIPTION
    if not source.is_file():
        return
    names, values = classes_of_description(read_description(source))
    if names is not None and (len(names) != len(classes) or values is not None):
        raise LabelError(
            f"{DESCRIPTION} has {len(names)} classes ({', '.join(names)}), the official set "
            f"{len(classes)}.",
            "Open other sets of this layout with --data.",
        )


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.name.split(".")[0])
    return int(digits[-1]) if digits else 0


def _by_number(pair: tuple[Path, Path]) -> tuple[int, str]:
    return _number(pair[0]), pair[0].name
