"""Segmentation sets without a table: image and mask folders, nnU-Net and MSD, names in pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dinorad_rt.datasets.beside import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_WORDS,
    plain_name,
    record_of,
    side_by_side,
    unpaired,
)
from dinorad_rt.datasets.description import (
    DESCRIPTION,
    classes_of_description,
    listed_tests,
    read_description,
)
from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.errors import EmptyDataError, LeakageError, MaskError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of

MIN_PATIENTS = 5
"""Sub-folders from which they count as patients; fewer may be hospitals or sequences."""
_PARTS: dict[str, Split] = {"": "train", "tr": "train", "va": "val", "ts": "test"}
"""Endings of nnU-Net's folders, imagesTr and labelsTr, and what their images are for."""
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
    """A record, the folders between those of the images and its file, and what names tell.

    Attributes:
        part: of nnU-Net's folders, which counts if one of them is for testing.
        case: name that image and mask share; empty where they lie side by side.
    """

    record: Record
    below: tuple[str, ...]
    part: Split = "train"
    case: str = ""


def has_pairs(root: Path) -> bool:
    """True for a folder that can only be a segmentation set: images beside labels or masks."""
    return root.is_dir() and any(_folders(place) for _, place in _places(root))


def records_of_pairs(root: Path) -> Pairs:
    """Pair the images of a folder with their masks by name.

    Args:
        root: `images` and `labels` (or `masks`, `imagesTr` and `labelsTr`, ...) in it or in
            train, val and test folders of it; or files called X and X_mask or X_seg side by side;
            or folders of one image and a file called mask.
            Folders below are splits, if all are called so, and else patients. The test split is
            that of `imagesTs` and `labelsTs`, or the images that a `dataset.json` lists for it, as
            far as they have masks.

    Raises:
        MaskError: no pairs, names that fit two files, or several channels of one case.
        LeakageError: a case for training and for testing.
        TableError: a `dataset.json` that cannot be understood.
    """
    source = root / DESCRIPTION
    description = read_description(source) if source.is_file() else {}
    names, values = classes_of_description(description)
    notes: list[str] = []
    placed: list[_Placed] = []
    for split, place in _places(root):
        found, more = _of_place(root, place, split)
        placed += found
        notes += more
    placed, more = _with_test_split(placed, listed_tests(description))
    notes += more
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


def _of_place(root: Path, place: Path, split: Split | None) -> tuple[list[_Placed], list[str]]:
    """The pairs of a folder, and what of it is not used."""
    placed: list[_Placed] = []
    notes: list[str] = []
    folders = _folders(place)
    for images, masks in folders:
        found, more = _of_folders(root, images, masks, split)
        placed += found
        notes += more
    if not folders:
        records, notes = side_by_side(root, place, split)
        placed = [_Placed(one, _below(one, place)) for one in records]
        if split is not None and not records:
            notes += _without_masks(place)
    return placed, notes + _unused_tests(place, placed)


def _with_test_split(
    placed: Sequence[_Placed], tests: frozenset[str]
) -> tuple[list[_Placed], list[str]]:
    """Splits by nnU-Net's folders and the listed tests, if any image is set apart so.

    Raises:
        LeakageError: a case in two of the folders.
    """
    wanted = {PurePosixPath(name).parent / stem_of(Path(name)) for name in tests}
    chosen = [
        replace(one, part="test") if one.record.split is None and _names_of(one) & wanted else one
        for one in placed
    ]
    notes = []
    more = sum(one.part != other.part for one, other in zip(chosen, placed, strict=True))
    if more:
        verb = verb_of(more, "is", "are")
        notes.append(f"{count_of(more, 'image')} {verb} for testing, by {DESCRIPTION}")
    if all(one.part != "test" and one.record.split is None for one in chosen):
        return list(placed), []
    splits: dict[str, set[Split]] = {}
    for one in chosen:
        splits.setdefault(one.case, set()).add(one.part)
    shared = [case for case, parts in splits.items() if case and len(parts) > 1]
    if shared:
        stand = verb_of(len(shared), "stands", "stand")
        raise LeakageError(
            f"{count_of(len(shared), 'case')} {stand} under one name in the folders for training "
            f"and in those for testing (imagesTr, imagesTs){listed(shared)}.",
            "Take each out of one of them; if these are different patients, rename the files.",
        )
    return [
        replace(one, record=replace(one.record, split=one.record.split or one.part))
        for one in chosen
    ], notes


def _names_of(one: _Placed) -> set[PurePosixPath]:
    """What a description may call an image: nnU-Net's lists leave the channel out."""
    path = PurePosixPath(one.record.name)
    stem = stem_of(Path(path.name))
    return {path.parent / stem, path.parent / _NNUNET_CHANNEL.sub("", stem)}


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
    """train, val and test folders, and the root itself if it has images and masks of its own."""
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()]
    by_split = [(parse_split(entry.name), entry) for entry in folders]
    named = [(split, entry) for split, entry in by_split if split is not None]
    if _folders(root):
        return [(None, root), *(one for one in named if _folders(one[1]))]
    return list(named) or [(None, root)]


def _folders(place: Path) -> list[tuple[Path, Path]]:
    """(images, masks) folders that belong together: imagesTr and labelsTr, img and label, ..."""
    folders = _sub_folders(place)
    pairs = []
    for suffix in _PARTS:
        images = [folders[n] for n in folders if n in IMAGE_FOLDERS and _suffix(n) == suffix]
        masks = [folders[n] for n in folders if n in MASK_FOLDERS and _suffix(n) == suffix]
        if len(images) == 1 and len(masks) == 1:
            pairs.append((images[0], masks[0]))
    return pairs


def _sub_folders(place: Path) -> dict[str, Path]:
    if not place.is_dir():
        return {}
    return {plain_name(entry.name): entry for entry in sorted(place.iterdir()) if entry.is_dir()}


def _suffix(name: str) -> str:
    return name[-2:] if name[-2:] in _PARTS else ""


def _of_folders(
    root: Path, images: Path, masks: Path, split: Split | None
) -> tuple[list[_Placed], list[str]]:
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
    placed, without = [], 0
    part = _PARTS[_suffix(plain_name(images.name))]
    used: Counter[str] = Counter()
    for path in sorted(filter(could_be_image, visible_files(images)), key=natural_key):
        key = _case_of(_key(path, images), by_name)
        if key not in by_name:
            without += 1
            continue
        used[key] += 1
        paired = record_of(root, path, by_name[key], split)
        placed.append(_Placed(paired, _below(paired, images), part, key))
    _refuse_several(images, placed, used)
    if part == "test" and by_name and without and not placed:
        raise MaskError(
            f"None of {count_of(without, 'image')} of {images.name} has a mask in {masks.name}: "
            "their names differ.",
            "Name both alike (case.nii.gz, or case_0000.nii.gz for the image), or move "
            f"{masks.name} away: {images.name} is then left out.",
        )
    if part == "test" and not placed:
        return [], []
    return placed, unpaired(without, len(by_name.keys() - used.keys()))


def _case_of(key: str, masks: dict[str, Path]) -> str:
    """The key of an image's mask: nnU-Net's images have the channel behind the case, _0000."""
    channel = _NNUNET_CHANNEL.search(key)
    short = key[: channel.start()] if channel else key
    return short if key not in masks and short in masks else key


def _refuse_several(images: Path, placed: Sequence[_Placed], used: Counter[str]) -> None:
    """Refuse several images of one mask.

    Raises:
        MaskError: channels of one case, or names that are equal but for the suffix.
    """
    several = {key for key, count in used.items() if count > 1}
    if not several:
        return
    stems = {(one.case, stem_of(one.record.path)) for one in placed if one.case in several}
    if len(stems) == sum(used[key] for key in several):
        channels = max(used[key] for key in several)
        raise MaskError(
            f"{count_of(len(several), 'case')} of {images.name} have several channels (up to "
            f"{channels}: _0000, _0001, ...); one is read.",
            "Keep the files of one channel in the folder, or name them in a CSV with the columns "
            "image and mask.",
        )
    raise MaskError(
        f"Two images in {images.name} have one name but for the suffix, and one mask.",
        "Keep one image per mask.",
    )


def _unused_tests(place: Path, placed: Sequence[_Placed]) -> list[str]:
    """imagesTs without masks, as challenges give them, or labelsTs without images."""
    if any(one.part == "test" for one in placed):
        return []
    folders = _sub_folders(place)
    notes = _without_masks(folders["imagests"]) if "imagests" in folders else []
    masks = _count_of_images(folders["labelsts"]) if "labelsts" in folders else 0
    if masks and not notes:
        notes.append(f"{count_of(masks, 'mask')} of labelsTs without images: left out")
    return notes


def _without_masks(folder: Path) -> list[str]:
    images = _count_of_images(folder)
    have = verb_of(images, "has no mask", "have no masks")
    told = f"{count_of(images, 'image')} of {folder.name} {have}: neither trained nor judged on"
    return [told] if images else []


def _count_of_images(folder: Path) -> int:
    """Images below a folder, the channels of one case counted once."""
    paths = filter(could_be_image, visible_files(folder))
    return len({path.with_name(_NNUNET_CHANNEL.sub("", stem_of(path))) for path in paths})


def _key(path: Path, folder: Path) -> str:
    """Name that image and mask share: the place below their folder, without suffix and word."""
    stem = MASK_WORDS.sub("", stem_of(path))
    return (path.relative_to(folder).parent / stem).as_posix().lower()
