"""Segmentation sets without a table: image and mask folders, nnU-Net and MSD, names in pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.errors import EmptyDataError, MaskError, TableError
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of

DESCRIPTION = "dataset.json"
MIN_PATIENTS = 5
"""Sub-folders from which they count as patients; fewer may be hospitals or sequences."""
_IMAGE_FOLDERS = frozenset("images image imgs img imagestr imagesva scans volumes".split())
_MASK_FOLDERS = frozenset(
    "labels label masks mask labelstr labelsva segmentations segmentation segs seg annotations "
    "groundtruth gt".split()
)
_MASK_WORDS = re.compile(
    r"[._ -](mask|masks|seg|segmentation|label|labels|gt|groundtruth|manual)$", re.IGNORECASE
)
_NUMBERED_MASK = re.compile(_MASK_WORDS.pattern.removesuffix("$") + r"[._ -]?\d+$", re.IGNORECASE)
_NNUNET_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class Pairs:
    """Images with their masks.

    Attributes:
        class_names: from `dataset.json`, or None.
        values: stored value of each class; None where they are 0, 1, 2, ...
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...] | None
    values: tuple[int, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Placed:
    """A record and the folders between those of the images and its file."""

    record: Record
    below: tuple[str, ...]


def has_pairs(root: Path) -> bool:
    """True for a folder that can only be a segmentation set: images beside labels or masks."""
    return root.is_dir() and any(_folders(place) for _, place in _places(root))


def records_of_pairs(root: Path) -> Pairs:
    """Pair the images of a folder with their masks by name.

    Args:
        root: `images` and `labels` (or `masks`, `imagesTr` and `labelsTr`, ...) in it or in
            train, val and test folders of it; or files called X and X_mask or X_seg side by side;
            or folders of one image and a file called mask.
            Folders below are splits, if all are called so, and else patients.

    Raises:
        MaskError: no pairs, or names that fit two files.
        TableError: a `dataset.json` that cannot be understood.
    """
    notes: list[str] = []
    placed: list[_Placed] = []
    names, values = _described_classes(root)
    for split, place in _places(root):
        folders = _folders(place)
        for images, masks in folders:
            found, more = _of_folders(root, images, masks, split)
            placed += [_Placed(record, _below(record, images)) for record in found]
            notes += more
        if not folders:
            beside, more = _side_by_side(root, place, split)
            placed += [_Placed(record, _below(record, place)) for record in beside]
            notes += more
        notes += _left_test_folders(place)
    records, more = _by_sub_folders(placed)
    notes += more
    if not records:
        if not any(could_be_image(path) for path in visible_files(root)):
            raise EmptyDataError(f"{root} holds no images.", "Check the path.")
        raise MaskError(
            f"{root} holds no pairs of images and masks.",
            "Give images/ and labels/ with equal names, X and X_mask side by side, or a CSV with "
            "the columns image and mask.",
        )
    return Pairs(tuple(records), names, values, tuple(notes))


def _below(record: Record, base: Path) -> tuple[str, ...]:
    return record.path.relative_to(base).parts[:-1]


def _by_sub_folders(placed: Sequence[_Placed]) -> tuple[list[Record], list[str]]:
    """Splits and patients that folders tell: images/train/..., images/PATIENT/..."""
    splits = [parse_split(one.below[0]) if one.below else None for one in placed]
    if None not in splits and all(one.record.split is None for one in placed):
        placed = [
            _Placed(replace(one.record, split=split), one.below[1:])
            for one, split in zip(placed, splits, strict=True)
        ]
    folders = {one.below[0] for one in placed if one.below}
    if len(folders) < MIN_PATIENTS or not all(one.below for one in placed):
        return [one.record for one in placed], []
    note = f"sub-folders are taken for patients: {count_of(len(folders), 'patient')}"
    return [replace(one.record, patient=one.below[0]) for one in placed], [note]


def _places(root: Path) -> list[tuple[Split | None, Path]]:
    """train, val and test folders; the root itself if there are none."""
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()]
    by_split = [(parse_split(entry.name), entry) for entry in folders]
    named = [(split, entry) for split, entry in by_split if split is not None]
    return list(named) if named and not _folders(root) else [(None, root)]


def _folders(place: Path) -> list[tuple[Path, Path]]:
    """(images, masks) folders that belong together: imagesTr and labelsTr, img and label, ..."""
    if not place.is_dir():
        return []
    folders = {_simple(entry.name): entry for entry in sorted(place.iterdir()) if entry.is_dir()}
    pairs = []
    for suffix in ("", "tr", "va"):
        images = [folders[n] for n in folders if n in _IMAGE_FOLDERS and _suffix(n) == suffix]
        masks = [folders[n] for n in folders if n in _MASK_FOLDERS and _suffix(n) == suffix]
        if len(images) == 1 and len(masks) == 1:
            pairs.append((images[0], masks[0]))
    return pairs


def _suffix(name: str) -> str:
    return name[-2:] if name[-2:] in ("tr", "va") else ""


def _of_folders(
    root: Path, images: Path, masks: Path, split: Split | None
) -> tuple[list[Record], list[str]]:
    by_name: dict[str, Path] = {}
    for path in visible_files(masks):
        if could_be_image(path):
            key = _key(path, masks)
            if key in by_name:
                raise MaskError(
                    f"Two masks in {masks.name} have one name but for the suffix.",
                    "Keep one mask per image.",
                )
            by_name[key] = path
    records, without, channels = [], 0, 0
    used: set[str] = set()
    for path in sorted(filter(could_be_image, visible_files(images)), key=natural_key):
        key = _key(path, images)
        channel = _NNUNET_CHANNEL.search(key)
        if channel and key not in by_name and key[: channel.start()] in by_name:
            if channel[1] != "0000":
                channels += 1
                continue
            key = key[: channel.start()]
        if key in used:
            raise MaskError(
                f"Two images in {images.name} have one name but for the suffix, and one mask.",
                "Keep one image per mask.",
            )
        if key in by_name:
            used.add(key)
            records.append(_record(root, path, by_name[key], split))
        else:
            without += 1
    notes = _unpaired(without, len(by_name.keys() - used))
    if channels:
        notes.append(
            f"{count_of(channels, 'file')} of further channels (_0001, ...) left out: one is read"
        )
    return records, notes


def _unpaired(images: int, masks: int) -> list[str]:
    notes = []
    if images:
        notes.append(f"{count_of(images, 'image')} without a mask: left out")
    if masks:
        notes.append(f"{count_of(masks, 'mask')} without an image: left out")
    return notes


def _left_test_folders(place: Path) -> list[str]:
    """nnU-Net's labelled test images, which no split is made of."""
    if not place.is_dir():
        return []
    folders = {_simple(entry.name): entry for entry in place.iterdir() if entry.is_dir()}
    if "imagests" not in folders or "labelsts" not in folders:
        return []
    masks = sum(map(could_be_image, visible_files(folders["labelsts"])))
    left = f"imagesTs and labelsTs ({count_of(masks, 'mask')}) are left out: to judge on them, name"
    return [f"{left} them as test in a CSV of image, mask and split"] if masks else []


def _side_by_side(root: Path, place: Path, split: Split | None) -> tuple[list[Record], list[str]]:
    """X with X_mask; in folders of one image each, any name beside `mask`."""
    files = sorted(filter(could_be_image, visible_files(place)), key=natural_key)
    masks: dict[tuple[Path, str], Path] = {}
    images: dict[tuple[Path, str], Path] = {}
    for path in files:
        stem = stem_of(path)
        is_mask = _MASK_WORDS.search(f"_{stem}")
        key = path.parent, f"_{stem}"[: is_mask.start()].removeprefix("_") if is_mask else stem
        found = masks if is_mask else images
        if key in found:
            raise MaskError(
                f"Two {'masks' if is_mask else 'images'} side by side have one name but for "
                "suffix and word (X_mask and X_seg, X.png and X.jpg).",
                "Keep one mask per image; for one file per class give a CSV: --mask-column a,b",
            )
        found[key] = path
    _name_lone_images(masks, images)
    numbered = [(at[0], number) for at in images if (number := _NUMBERED_MASK.search(at[1]))]
    further = sum((folder, number.string[: number.start()]) in masks for folder, number in numbered)
    if further:
        raise MaskError(
            f"{count_of(further, 'mask')} of several (X_mask_1 beside X_mask) would be taken "
            "for images.",
            "Join the masks of an image into one file, or take the further ones out.",
        )
    paired = [at for at in images if at in masks]
    records = [_record(root, images[at], masks[at], split) for at in paired]
    if not records:
        return [], []
    return records, _unpaired(len(images) - len(records), len(masks) - len(records))


def _name_lone_images(
    masks: dict[tuple[Path, str], Path], images: dict[tuple[Path, str], Path]
) -> None:
    """A file called `mask` or `seg` alone belongs to the one image of its folder."""
    for folder in [folder for folder, stem in masks if not stem]:
        alone = [at for at in images if at[0] == folder]
        if len(alone) == 1 and alone[0] not in masks:
            masks[alone[0]] = masks.pop((folder, ""))


def _record(root: Path, path: Path, mask: Path, split: Split | None) -> Record:
    name = path.relative_to(root).as_posix()
    return Record(name=name, path=path, labels=(), split=split, mask=mask)


def _key(path: Path, folder: Path) -> str:
    """Name that image and mask share: the place below their folder, without suffix and word."""
    stem = _MASK_WORDS.sub("", stem_of(path))
    return (path.relative_to(folder).parent / stem).as_posix().lower()


def _described_classes(root: Path) -> tuple[tuple[str, ...] | None, tuple[int, ...] | None]:
    source = root / DESCRIPTION
    if not source.is_file():
        return None, None
    return classes_of_description(read_description(source))


def read_description(source: Path) -> dict[str, Any]:
    """Read a `dataset.json`.

    Raises:
        TableError: no JSON object.
    """
    try:
        document = json.loads(source.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TableError(
            f"{source.name} cannot be read: {error}.", "Fetch it again, or remove it."
        ) from error
    if not isinstance(document, dict):
        raise TableError(f"{source.name} holds no JSON object.", "Fetch it again, or remove it.")
    return document


def classes_of_description(
    document: dict[str, Any],
) -> tuple[tuple[str, ...] | None, tuple[int, ...] | None]:
    """Classes and their values of MSD ({"1": "liver"}) and nnU-Net ({"liver": 1}).

    Raises:
        TableError: values that are no whole numbers, such as regions.
    """
    labels = document.get("labels")
    if not isinstance(labels, dict) or not labels:
        return None, None
    if any(str(name).lower() == "ignore" for pair in labels.items() for name in pair):
        raise TableError(
            f"{DESCRIPTION} has the label 'ignore': voxels that are neither trained nor judged on "
            "are not supported, and as a class they would be both.",
            "Give these voxels a class (or the background), and take 'ignore' out.",
        )
    try:
        if all(str(key).lstrip("-").isdigit() for key in labels):
            pairs = sorted((int(key), str(name)) for key, name in labels.items())
        else:
            pairs = sorted((int(value), str(name)) for name, value in labels.items())
    except (TypeError, ValueError) as error:
        raise TableError(
            f"{DESCRIPTION} numbers its labels by {list(labels.items())[:3]}.",
            "Give each class one number: regions of several labels are not supported.",
        ) from error
    return ordered_classes(pairs)


def ordered_classes(
    pairs: Sequence[tuple[int, str]],
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """(value, name) pairs → names in order and values; background is added where it lacks."""
    if pairs[0][0] != 0:
        pairs = [(0, "background"), *pairs]
    values = tuple(value for value, _ in pairs)
    names = tuple(name for _, name in pairs)
    return names, None if values == tuple(range(len(values))) else values


def _simple(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
