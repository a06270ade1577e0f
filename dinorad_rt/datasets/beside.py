"""Images with their masks side by side, X and X_mask; what all ways of pairing share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.errors import MaskError
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of

IMAGE_FOLDERS = frozenset("images image imgs img imagestr imagesva imagests scans volumes".split())
MASK_FOLDERS = frozenset(
    "labels label masks mask labelstr labelsva labelsts segmentations segmentation segs seg "
    "annotations groundtruth gt".split()
)
MASK_WORDS = re.compile(
    r"[._ -](mask|masks|seg|segmentation|label|labels|gt|groundtruth|manual)$", re.IGNORECASE
)
_NUMBERED_MASK = re.compile(MASK_WORDS.pattern.removesuffix("$") + r"[._ -]?\d+$", re.IGNORECASE)


def masks_among(root: Path, paths: Sequence[Path]) -> set[Path]:
    """Which images below a folder are masks of others there, by their names alone.

    X_mask and X_mask_1 are, beside X; so is all in a folder called masks beside one called images.
    """
    stems = {(path.parent, stem_of(path)) for path in paths}
    found = set()
    for path in paths:
        word = MASK_WORDS.search(stem_of(path)) or _NUMBERED_MASK.search(stem_of(path))
        if word is not None and (path.parent, word.string[: word.start()]) in stems:
            found.add(path)
    above = {path: path.relative_to(root).parents[:-1] for path in paths}
    folders = {folder for parents in above.values() for folder in parents}
    beside = {one.parent for one in folders if plain_name(one.name) in IMAGE_FOLDERS}
    masks = {
        one for one in folders if plain_name(one.name) in MASK_FOLDERS and one.parent in beside
    }
    return found | {path for path, parents in above.items() if masks.intersection(parents)}


def side_by_side(root: Path, place: Path, split: Split | None) -> tuple[list[Record], list[str]]:
    """X with X_mask; in folders of one image each, any name beside `mask`."""
    files = sorted(filter(could_be_image, visible_files(place)), key=natural_key)
    masks: dict[tuple[Path, str], Path] = {}
    images: dict[tuple[Path, str], Path] = {}
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
    numbered = [(at[0], number) for at in images if (number := _NUMBERED_MASK.search(at[1]))]
    further = sum((folder, number.string[: number.start()]) in masks for folder, number in numbered)
    if further:
        raise MaskError(
            f"{count_of(further, 'mask')} of several (X_mask_1 beside X_mask) would be taken "
            "for images.",
            "Join the masks of an image into one file, or take the further ones out.",
        )
    paired = [at for at in images if at in masks]
    records = [record_of(root, images[at], masks[at], split) for at in paired]
    if not records:
        return [], []
    return records, unpaired(len(images) - len(records), len(masks) - len(records))


def _name_lone_images(
    masks: dict[tuple[Path, str], Path], images: dict[tuple[Path, str], Path]
) -> None:
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


def plain_name(name: str) -> str:
    """Lower case, letters and digits alone: `Images_Tr` → `imagestr`."""
    return "".join(character for character in name.lower() if character.isalnum())
