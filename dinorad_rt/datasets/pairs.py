"""Segmentation sets without a table: image and mask folders, nnU-Net and MSD, names in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dinorad_rt.datasets.beside import MASK_FOLDERS, record_of, side_by_side, unpaired
from dinorad_rt.datasets.bids import pairs_of_bids
from dinorad_rt.datasets.description import (
    DESCRIPTION,
    classes_of_description,
    listed_tests,
    read_description,
)
from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.datasets.paired_folders import (
    NNUNET_CHANNEL,
    Placed,
    below,
    mask_folders,
    pairs_of_folders,
    sub_folders,
)
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.series_pairs import pairs_of_series
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.errors import EmptyDataError, LeakageError, MaskError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.series import visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of

MIN_PATIENTS = 5
"""Sub-folders from which they count as patients; fewer may be hospitals or sequences."""


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


def has_pairs(root: Path) -> bool:
    """True for a folder that can only be a segmentation set: images beside labels or masks."""
    return root.is_dir() and any(mask_folders(place) for _, place in _places(root))


def records_of_pairs(root: Path) -> Pairs:
    """Pair the images of a folder with their masks by name.

    Args:
        root: `images` and `labels` (or `masks`, `imagesTr` and `labelsTr`, ...) in it, in train,
            val and test folders of it or in any; or files called X and X_mask or X_seg side by
            side; or folders of one image and a file called mask, or a folder of one mask per class.
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
    placed: list[Placed] = []
    places = _places(root)
    groups = [one for one in sub_folders(root).values() if mask_folders(one)]
    if places != [(None, root)] or mask_folders(root) or not groups:
        groups = []
    for split, place in [(None, one) for one in groups] or places:
        found, more = _of_place(root, place, split)
        above = (place.name,) if groups else ()
        placed += [replace(one, below=(*above, *one.below)) for one in found]
        notes += more
    parts = _classes_by_name(placed)
    if not placed:
        placed, parts = _with_parts(root)
    if not placed:
        placed, more = _by_identifiers(root)
        notes = more if placed else notes + more
    if parts and not names:
        names, values = parts, None
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
            "the columns image and mask (one file per class: --mask-column liver,spleen).",
        )
    return Pairs(tuple(records), names, values, tuple(notes))


def _with_parts(root: Path) -> tuple[list[Placed], tuple[str, ...] | None]:
    """Cases of an image beside a folder of one mask per class, as TotalSegmentator has them.

    Returns:
        The cases, and their classes by the names of the masks, background first; None without any.

    Raises:
        MaskError: cases of different classes.
    """
    placed: list[Placed] = []
    classes: set[tuple[str, ...]] = set()
    for case in sorted(sub_folders(root).values()):
        images = [one for one in sorted(case.iterdir()) if one.is_file() and could_be_image(one)]
        folders = [one for name, one in sub_folders(case).items() if name in MASK_FOLDERS]
        if len(images) != 1 or len(folders) != 1:
            continue
        masks = list(filter(could_be_image, visible_files(folders[0])))
        if len(masks) > 1:
            record = record_of(root, images[0], masks[0], None)
            placed.append(Placed(replace(record, mask_parts=tuple(masks)), (case.name,)))
            classes.add(tuple(map(stem_of, masks)))
    if len(classes) > 1:
        raise MaskError(
            f"The folders of masks hold one file per class, but {len(classes)} different sets of "
            "classes.",
            "Give each case the same files, or a CSV: --mask-column liver,spleen",
        )
    return placed, ("background", *classes.pop()) if classes else None


def _by_identifiers(root: Path) -> tuple[list[Placed], list[str]]:
    """Pairs of a BIDS tree, or of DICOM series and the SEG files among them."""
    scans, images, masks = pairs_of_bids(root)
    if scans:
        note = "masks are paired with images by the subject and session of their BIDS names"
        return [
            Placed(replace(record_of(root, image, mask, None), patient=scan[0]), ())
            for scan, image, mask in scans
        ], [note, *unpaired(images, masks)]
    series, notes = pairs_of_series(root, None) or ([], [])
    records = [record_of(root, path, mask, None) for path, mask in series]
    return [Placed(one, below(one, root)) for one in records], notes


def _classes_by_name(placed: Sequence[Placed]) -> tuple[str, ...] | None:
    """The classes that names of masks tell, background first; None where they tell none.

    Raises:
        MaskError: other classes in another folder.
    """
    told = {one.classes for one in placed}
    if len(told) > 1:
        shown = "; ".join(sorted(", ".join(one) or "one file" for one in told))
        raise MaskError(
            f"The names of masks tell different classes in different folders: {shown}.",
            "Name the files of masks alike in all folders.",
        )
    found = told.pop() if told else ()
    return ("background", *found) if found else None


def _of_place(root: Path, place: Path, split: Split | None) -> tuple[list[Placed], list[str]]:
    """The pairs of a folder, and what of it is not used."""
    placed: list[Placed] = []
    notes: list[str] = []
    folders = mask_folders(place)
    for images, masks in folders:
        found, more = pairs_of_folders(root, images, masks, split)
        placed += found
        notes += more
    if not folders:
        records, notes = side_by_side(root, place, split)
        placed = [Placed(one, below(one, place)) for one in records]
        if split is not None and not records:
            notes += _without_masks(place)
    return placed, notes + _unused_tests(place, placed)


def _with_test_split(
    placed: Sequence[Placed], tests: frozenset[str]
) -> tuple[list[Placed], list[str]]:
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


def _names_of(one: Placed) -> set[PurePosixPath]:
    """What a description may call an image: nnU-Net's lists leave the channel out."""
    path = PurePosixPath(one.record.name)
    stem = stem_of(Path(path.name))
    return {path.parent / stem, path.parent / NNUNET_CHANNEL.sub("", stem)}


def _by_sub_folders(placed: Sequence[Placed]) -> tuple[list[Record], list[str]]:
    """Splits and patients that folders tell: images/train/..., images/PATIENT/..."""
    splits = [parse_split(one.below[0]) if one.below else None for one in placed]
    if None not in splits and all(one.record.split is None for one in placed):
        placed = [
            Placed(replace(one.record, split=split), one.below[1:])
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
    if mask_folders(root):
        return [(None, root), *(one for one in named if mask_folders(one[1]))]
    return list(named) or [(None, root)]


def _unused_tests(place: Path, placed: Sequence[Placed]) -> list[str]:
    """imagesTs without masks, as challenges give them, or labelsTs without images."""
    if any(one.part == "test" for one in placed):
        return []
    folders = sub_folders(place)
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
    return len({path.with_name(NNUNET_CHANNEL.sub("", stem_of(path))) for path in paths})
