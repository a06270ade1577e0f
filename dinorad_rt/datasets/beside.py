"""Images with their masks side by side, X and X_mask; what all ways of pairing share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.several import joined
from dinorad_rt.errors import MaskError
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of

IMAGE_FOLDERS = frozenset("images image imgs img imagestr imagesva imagests scans volumes".split())
MASK_FOLDERS = frozenset(
    "labels label masks mask labelstr labelsva labelsts segmentations segmentation segs seg "
    "annotations groundtruth gt".split()
)
MASK_WORDS = re.compile(
    r"[._ -](mask|masks|seg|segmentation|label|labels|gt|groundtruth|manual)$", re.IGNORECASE
)
NUMBERED_MASK = re.compile(MASK_WORDS.pattern.removesuffix("$") + r"[._ -]?\d+$", re.IGNORECASE)
_MASK_IN_FRONT = re.compile(r"(masks?|seg(mentation)?s?|labels?|gt)[._ -]*(?=\d)", re.IGNORECASE)
_IMAGE_IN_FRONT = re.compile(r"(ima?ge?s?|vol(ume)?s?|scans?)[._ -]*(?=\d)", re.IGNORECASE)
MAX_ENDINGS = 6
"""Endings of images of one mask that a message names."""

Place = tuple[Path, str]
"""A folder, and the name of a file in it without suffix (of a mask: without its word)."""


def masks_among(root: Path, paths: Sequence[Path]) -> set[Path]:
    """Which images below a folder are masks of others there, by their names alone.

    X_mask and X_mask_1 are, beside X; so is all in a folder called masks beside one called images.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[path.parent].append(path)
    in_masks = _folders_of_masks(root, by_folder)
    found: set[Path] = set()
    for folder, members in by_folder.items():
        named = {path: stem_of(path) for path in members}
        stems = set(named.values())
        for path, stem in named.items():
            word = MASK_WORDS.search(stem) or NUMBERED_MASK.search(stem)
            if folder in in_masks or (word is not None and stem[: word.start()] in stems):
                found.add(path)
    return found


def _folders_of_masks(root: Path, folders: Iterable[Path]) -> set[Path]:
    """Those of the folders that lie in one called masks, beside one called images, below a root."""
    above = {one: one.relative_to(root).parts for one in folders}
    plain = {part: plain_name(part) for parts in above.values() for part in parts}
    images, masks = set(), defaultdict(set)
    for folder, parts in above.items():
        for depth, part in enumerate(parts):
            if plain[part] in IMAGE_FOLDERS:
                images.add(parts[:depth])
            elif plain[part] in MASK_FOLDERS:
                masks[parts[:depth]].add(folder)
    return {folder for parent in images for folder in masks[parent]}


def side_by_side(root: Path, place: Path, split: Split | None) -> tuple[list[Record], list[str]]:
    """X with X_mask; in folders of one image each, any name beside `mask`."""
    files = sorted(filter(could_be_image, visible_files(place)), key=natural_key)
    masks: dict[Place, Path] = {}
    images: dict[Place, Path] = {}
    for path in files:
        stem = stem_of(path)
        is_mask = MASK_WORDS.search(f"_{stem}")
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
    further = _further_masks(masks, images)
    notes: list[str] = []
    if not any(at in masks for at in images):
        if not masks:
            masks = {at: images.pop(at) for at in list(images) if _MASK_IN_FRONT.match(at[1])}
        images, notes = named_alike(images, masks)
    paired = [at for at in images if at in masks]
    records = [record_of(root, images[at], masks[at], split) for at in paired]
    if not records:
        return [], []
    records, more = joined(records, {images[at]: further[at] for at in further if at in images})
    return records, notes + more + unpaired(len(images) - len(paired), len(masks) - len(paired))


def _further_masks(masks: dict[Place, Path], images: dict[Place, Path]) -> dict[Place, list[Path]]:
    """Take X_mask_1, X_mask_2, ... beside X_mask out of the images; where X has none of the plain
    name, the first of them becomes its mask."""
    further: dict[Place, list[Path]] = defaultdict(list)
    for folder, stem in list(images):
        number = NUMBERED_MASK.search(stem)
        at = folder, stem[: number.start()] if number else stem
        if number and at in images:
            path = images.pop((folder, stem))
            if at in masks:
                further[at].append(path)
            else:
                masks[at] = path
    return further


def named_alike(
    images: dict[Place, Path], masks: Iterable[Place]
) -> tuple[dict[Place, Path], list[str]]:
    """Images under the names of masks that are called otherwise, and what to say of it.

    The image of a mask X is the only one called X_something in its folder; that of `label0001` or
    `segmentation-1` is `img0001` or `volume-1`.

    Raises:
        MaskError: several images are called X_something, as several sequences of a patient are.
    """
    begun: dict[Place, list[Place]] = defaultdict(list)
    numbered: dict[Place, list[Place]] = defaultdict(list)
    for folder, stem in images:
        for mark in re.finditer(r"[._ -]", stem):
            begun[folder, stem[: mark.start()]].append((folder, stem))
        numbered[folder, _IMAGE_IN_FRONT.sub("", stem, count=1)].append((folder, stem))
    named, several = dict(images), []
    for folder, stem in masks:
        found = begun.get((folder, stem), [])
        if len(found) > 1:
            several.append([name.removeprefix(stem) for _, name in found])
        word = _MASK_IN_FRONT.match(stem)
        found = found or (numbered.get((folder, stem[word.end() :]), []) if word else [])
        if len(found) == 1 and found[0] in named:
            named[folder, stem] = named.pop(found[0])
    if several:
        endings = sorted({ending for each in several for ending in each})
        such = ", ".join(endings[:MAX_ENDINGS])
        raise MaskError(
            f"{count_of(len(several), 'mask')} {verb_of(len(several), 'has', 'have')} up to "
            f"{max(map(len, several))} images each, by their names ({such}); one is read.",
            "Give a CSV with the columns image and mask that names one image of each mask.",
        )
    if named.keys() == images.keys():
        return images, []
    return named, ["images and masks are called differently: paired by what their names share"]


def _name_lone_images(masks: dict[Place, Path], images: dict[Place, Path]) -> None:
    """A file called `mask` or `seg` alone belongs to the one image of its folder."""
    for folder in [folder for folder, stem in masks if not stem]:
        alone = [at for at in images if at[0] == folder]
        if len(alone) == 1 and alone[0] not in masks:
            masks[alone[0]] = masks.pop((folder, ""))


def record_of(root: Path, path: Path, mask: Path, split: Split | None) -> Record:
    """An image with its mask."""
    name = path.relative_to(root).as_posix()
    return Record(name=name, path=path, labels=(), split=split, mask=mask)


def unpaired(images: int, masks: int) -> list[str]:
    """What to say of images and masks that stand alone."""
    notes = []
    if images:
        notes.append(f"{count_of(images, 'image')} without a mask: left out")
    if masks:
        notes.append(f"{count_of(masks, 'mask')} without an image: left out")
    return notes


def endings_of(paths: Iterable[Path]) -> str:
    """The words behind the last `_` of names, in brackets: they tell kinds of images, no people."""
    parts = (stem_of(path).rpartition("_") for path in paths)
    endings = sorted({ending for name, _, ending in parts if name})
    return f" ({', '.join(endings[:MAX_ENDINGS])})" if endings else ""


def plain_name(name: str) -> str:
    """Lower case, letters and digits alone: `Images_Tr` → `imagestr`."""
    return "".join(character for character in name.lower() if character.isalnum())
