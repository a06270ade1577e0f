"""Pairs of a folder of images and one of masks: images and labels, imagesTr and labelsTr."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorad_rt.datasets.beside import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_WORDS,
    NUMBERED_MASK,
    named_alike,
    plain_name,
    record_of,
    unpaired,
)
from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.series_pairs import pairs_of_series
from dinorad_rt.datasets.several import (
    MaskFiles,
    said_of_classes,
    several_masks,
    with_classes_of,
)
from dinorad_rt.errors import MaskError
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of

_PARTS: dict[str, Split] = {"": "train", "tr": "train", "va": "val", "ts": "test"}
"""Endings of nnU-Net's folders, imagesTr and labelsTr, and what their images are for."""
NNUNET_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class Placed:
    """A record, the folders between those of the images and its file, and what names tell.

    Attributes:
        part: of nnU-Net's folders, which counts if one of them is for testing.
        case: name that image and mask share; empty where they lie side by side.
        classes: of masks of several files, by their names; empty where nothing names them.
    """

    record: Record
    below: tuple[str, ...]
    part: Split = "train"
    case: str = ""
    classes: tuple[str, ...] = ()


def mask_folders(place: Path) -> list[tuple[Path, Path]]:
    """(images, masks) folders that belong together: imagesTr and labelsTr, img and label, ..."""
    folders = sub_folders(place)
    pairs = []
    for suffix in _PARTS:
        images = [folders[n] for n in folders if n in IMAGE_FOLDERS and _suffix(n) == suffix]
        masks = [folders[n] for n in folders if n in MASK_FOLDERS and _suffix(n) == suffix]
        if len(images) == 1 and len(masks) == 1:
            pairs.append((images[0], masks[0]))
    return pairs


def sub_folders(place: Path) -> dict[str, Path]:
    """Plain name → folder, sorted; empty where `place` is none."""
    if not place.is_dir():
        return {}
    return {plain_name(entry.name): entry for entry in sorted(place.iterdir()) if entry.is_dir()}


def _suffix(name: str) -> str:
    return name[-2:] if name[-2:] in _PARTS else ""


def pairs_of_folders(
    root: Path, images: Path, masks: Path, split: Split | None
) -> tuple[list[Placed], list[str]]:
    """The images of one folder with their masks in another, and what to say.

    Raises:
        MaskError: names that fit two files, several channels of one case, or a test folder of
            which no mask fits an image.
    """
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
    part = _PARTS[_suffix(plain_name(images.name))]
    keys, notes = _keys_of(images, by_name)
    if by_name and not by_name.keys() & set(keys.values()):
        series = pairs_of_series(images, masks)
        if series is not None:
            return _placed_series(root, images, series, (split, part))
    found = _several_of(keys, by_name)
    if found is not None:
        return _placed_several(root, images, keys, found, (split, part))
    placed, without = [], 0
    used: Counter[str] = Counter()
    for path, key in keys.items():
        if key not in by_name:
            without += 1
            continue
        used[key] += 1
        paired = record_of(root, path, by_name[key], split)
        placed.append(Placed(paired, below(paired, images), part, key))
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
    return placed, notes + unpaired(without, len(by_name.keys() - used.keys()))


def _keys_of(images: Path, masks: dict[str, Path]) -> tuple[dict[Path, str], list[str]]:
    """The key of the mask of each image in a folder, whether there is one or not; what to say."""
    paths = sorted(filter(could_be_image, visible_files(images)), key=natural_key)
    keys = {path: _case_of(_key(path, images), masks) for path in paths}
    if not masks or masks.keys() & set(keys.values()):
        return keys, []
    places = {_place_of(key): path for path, key in keys.items()}
    named, notes = named_alike(places, map(_place_of, masks))
    found = {path: (folder / stem).as_posix() for (folder, stem), path in named.items()}
    return keys | found, notes


def _several_of(keys: dict[Path, str], masks: dict[str, Path]) -> MaskFiles | None:
    """Masks of several files per image: where none has an image's own name, or where those left
    over are numbered masks of one that has."""
    own = set(keys.values())
    if not own & masks.keys():
        return several_masks([*own], masks)
    left = {key: path for key, path in masks.items() if key not in own}
    if not any(NUMBERED_MASK.search(key) for key in left):
        return None
    found = several_masks([*own], masks)
    return found if found is not None and not found.classes else None


def _placed_several(
    root: Path,
    images: Path,
    keys: dict[Path, str],
    found: MaskFiles,
    splits: tuple[Split | None, Split],
) -> tuple[list[Placed], list[str]]:
    placed = []
    for path, key in keys.items():
        if key in found.files:
            files = found.files[key]
            record = with_classes_of(record_of(root, path, files[0][0], splits[0]), files, found)
            classes = () if found.is_plain else found.classes
            placed.append(Placed(record, below(record, images), splits[1], key, classes))
    _refuse_several(images, placed, Counter(one.case for one in placed))
    return placed, said_of_classes(found) + unpaired(len(keys) - len(placed), 0)


def _placed_series(
    root: Path,
    images: Path,
    found: tuple[Sequence[tuple[Path, Path]], list[str]],
    splits: tuple[Split | None, Split],
) -> tuple[list[Placed], list[str]]:
    placed = []
    for path, mask in found[0]:
        case = path.relative_to(images).as_posix().lower()
        record = record_of(root, path, mask, splits[0])
        placed.append(Placed(record, below(record, images), splits[1], case))
    return placed, found[1]


def _place_of(key: str) -> tuple[Path, str]:
    path = Path(key)
    return path.parent, path.name


def _case_of(key: str, masks: dict[str, Path]) -> str:
    """The key of an image's mask: nnU-Net's images have the channel behind the case, _0000."""
    channel = NNUNET_CHANNEL.search(key)
    short = key[: channel.start()] if channel else key
    return short if key not in masks and short in masks else key


def _refuse_several(images: Path, placed: Sequence[Placed], used: Counter[str]) -> None:
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


def _key(path: Path, folder: Path) -> str:
    """Name that image and mask share: the place below their folder, without suffix and word."""
    stem = MASK_WORDS.sub("", stem_of(path))
    return (path.relative_to(folder).parent / stem).as_posix().lower()


def below(record: Record, base: Path) -> tuple[str, ...]:
    """Folders between a base and the file of a record."""
    return record.path.relative_to(base).parts[:-1]
