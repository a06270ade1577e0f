"""Class folders: DIR/class/... or DIR/split/class/..., the folders' names being the labels."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinorad_rt.datasets.beside import IMAGE_FOLDERS, masks_among, plain_name
from dinorad_rt.datasets.labels import Labels, labels_of_names, order_of_classes, positive_note
from dinorad_rt.datasets.locate import IMAGE_SUFFIXES, could_be_image, suffix_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.spellings import one_spelling
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.errors import EmptyDataError, LabelError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of

MIN_CASES = 5
"""Numbered folders from which they are taken for cases, and per pattern of their names."""

_CASE_NUMBER = re.compile(r"\d{3}")
_BIDS_FOLDER = re.compile(r"sub-\w+|derivatives|rawdata|sourcedata|code", re.IGNORECASE)


@dataclass(frozen=True)
class _Found:
    path: Path
    label: str
    split: Split | None
    below: tuple[str, ...]
    """Folders between the class and the file, but for one called images."""

    @property
    def sub_folder(self) -> str | None:
        return self.below[0] if self.below else None


def records_of_folders(root: Path) -> tuple[list[Record], Labels, list[str]]:
    """Read class folders, with or without train/val/test folders above or inside them.

    Returns:
        Records in natural order of names, their labels, and notes.

    Raises:
        EmptyDataError: no image.
        LabelError: images, but no two class folders.
    """
    splits, left_out = _split_folders(root)
    folders = [(split, label) for split, folder in splits for label in _sub_folders(folder)]
    found = [one for split, label in folders for one in _images(label, split)]
    if not found:
        raise _nothing(root)
    found, masks = _without_masks(root, found)
    found = _with_splits_inside(found)
    spelled, notes = one_spelling([one.label for one in found])
    found = [replace(one, label=label) for one, label in zip(found, spelled, strict=True)]
    names = order_of_classes(sorted(set(spelled)))
    if len(names) < 2:
        raise _one_class(names[0], len(found), notes)
    _refuse_cases(names)
    labels = labels_of_names(spelled, names)
    notes = [f"classes are the folders {', '.join(names)}", *notes]
    if labels.task == "binary":
        notes.append(positive_note(names))
    patients, more = _patients(found)
    records = [
        Record(
            name=one.path.relative_to(root).as_posix(),
            path=one.path,
            labels=row,
            patient=patient,
            split=one.split,
        )
        for one, row, patient in zip(found, labels.rows, patients, strict=True)
    ]
    outside = _outside(root, splits, left_out, [label for _, label in folders], found)
    return records, replace(labels, notes=()), notes + masks + more + outside


def _refuse_cases(names: Sequence[str]) -> None:
    """Refuse folders that are cases: numbered with three digits or more, all after few patterns.

    Raises:
        LabelError: these, or folders of BIDS.
    """
    ways = (
        "Give a CSV with a class per image (image, label, patient); where masks lie beside the "
        "images, add --task segmentation."
    )
    if all(map(_BIDS_FOLDER.fullmatch, names)):
        raise LabelError("The folders are those of a BIDS tree, no classes.", ways)
    patterns = {re.sub(r"\d+", "#", name) for name in names}
    if len(names) < MIN_CASES or len(patterns) > len(names) // MIN_CASES:
        return
    if all(_CASE_NUMBER.search(name) for name in names):
        raise LabelError(
            f"The {len(names)} folders are numbered: cases or patients, no classes.",
            ways,
        )


def _split_folders(root: Path) -> tuple[list[tuple[Split | None, Path]], list[Path]]:
    """Folders called train, val, test (or words for them), else the root; and folders beside them.

    Short words such as `tr` may be classes as well, where other folders stand beside them.
    """
    named = [(parse_split(folder.name), folder) for folder in _sub_folders(root)]
    splits = [(split, folder) for split, folder in named if split is not None]
    others = [folder for split, folder in named if split is None and _has_images(folder)]
    train = [one for split, one in splits if split == "train" and len(one.name) > 3]
    if splits and (not others or any(map(_has_images, _sub_folders_of(train)))):
        return list(splits), others
    return [(None, root)], []


def _sub_folders_of(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from _sub_folders(folder)


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(
        (
            entry
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        ),
        key=natural_key,
    )


def _images(folder: Path, split: Split | None) -> list[_Found]:
    found = []
    for path in sorted(visible_files(folder), key=natural_key):
        if could_be_image(path):
            parts = path.relative_to(folder).parts[:-1]
            below = tuple(part for part in parts if plain_name(part) not in IMAGE_FOLDERS)
            found.append(_Found(path, folder.name, split, below))
    return found


def _without_masks(root: Path, found: Sequence[_Found]) -> tuple[list[_Found], list[str]]:
    """The images without the masks that some sets keep among them, and what to say."""
    masks = masks_among(root, [one.path for one in found])
    if not masks:
        return list(found), []
    lie = verb_of(len(masks), "lies", "lie")
    note = f"{count_of(len(masks), 'mask')} {lie} among the images of the classes: left out"
    return [one for one in found if one.path not in masks], [note]


def _has_images(folder: Path) -> bool:
    return any(could_be_image(path) for path in visible_files(folder))


def _with_splits_inside(found: Sequence[_Found]) -> list[_Found]:
    """DIR/class/train/...: every image lies in a folder called train, val or test."""
    splits = [None if one.sub_folder is None else parse_split(one.sub_folder) for one in found]
    if any(one.split is not None for one in found) or None in splits:
        return list(found)
    return [
        replace(one, split=split, below=one.below[1:])
        for one, split in zip(found, splits, strict=True)
    ]


def _patients(found: Sequence[_Found]) -> tuple[list[str | None], list[str]]:
    """The patient of each image by its sub-folder, and what to say; None where there are none.

    A name that two classes share is one patient with images of both, unless the names are numbers
    that begin anew in each class.
    """
    if not _sub_folders_are_patients(found):
        return [None] * len(found), []
    notes = ["sub-folders of the classes are taken for patients"]
    classes: dict[str, set[str]] = defaultdict(set)
    for one in found:
        classes[str(one.sub_folder)].add(one.label)
    shared = {name for name, labels in classes.items() if len(labels) > 1}
    if shared and _numbered_anew(found):
        shared = set()
        notes.append(
            "sub-folders are numbered anew in each class: the same number in two classes counts "
            "as two patients; if it is one, give a CSV with a patient column"
        )
    elif shared:
        stand = verb_of(len(shared), "stands", "stand")
        count = count_of(len(shared), "patient")
        notes.append(f"{count} {stand} in several classes, by the names of the sub-folders")
    return [
        f"/{one.sub_folder}" if one.sub_folder in shared else f"{one.label}/{one.sub_folder}"
        for one in found
    ], notes


def _sub_folders_are_patients(found: Sequence[_Found]) -> bool:
    """True if every image lies in a sub-folder, and each class of each split has several."""
    groups: dict[tuple[Split | None, str], set[str]] = defaultdict(set)
    for one in found:
        if one.sub_folder is None:
            return False
        groups[(one.split, one.label)].add(one.sub_folder)
    return all(len(names) >= 2 for names in groups.values())


def _numbered_anew(found: Sequence[_Found]) -> bool:
    """True if each class counts its sub-folders from 0 or 1: `Patient (1)`, `Patient (2)`, ..."""
    groups: dict[str, set[str]] = defaultdict(set)
    for one in found:
        groups[one.label].add(str(one.sub_folder))
    return all(_is_count(names) for names in groups.values())


def _is_count(names: Iterable[str]) -> bool:
    parts = [re.fullmatch(r"(\D*)(\d+)(\D*)", name) for name in names]
    numbers = sorted(int(part[2]) for part in parts if part)
    words = {(part[1], part[3]) for part in parts if part}
    from_first = list(range(numbers[0], numbers[0] + len(parts))) if numbers else []
    return len(words) == 1 and numbers == from_first and numbers[0] in (0, 1)


def _outside(
    root: Path,
    splits: Sequence[tuple[Split | None, Path]],
    left_out: Sequence[Path],
    labels: Sequence[Path],
    found: Sequence[_Found],
) -> list[str]:
    """What lies there and is not used."""
    notes = []
    if left_out:
        verb = verb_of(len(left_out), "lies", "lie")
        names = ", ".join(folder.name for folder in left_out)
        count = count_of(len(left_out), "folder")
        notes.append(f"{count} of images {verb} beside train, val and test: left out ({names})")
    tops = {root, *(folder for _, folder in splits)}
    loose = [path for top in sorted(tops) for path in top.iterdir() if _is_loose(path)]
    if loose:
        verb = verb_of(len(loose), "lies", "lie")
        count = count_of(len(loose), "image")
        notes.append(f"{count} {verb} outside of the class folders: left out{listed(_all(loose))}")
    filled = {folder for one in found for folder in one.path.parents}
    empty = [folder for folder in labels if folder not in filled]
    if empty:
        holds = verb_of(len(empty), "holds", "hold")
        names = ", ".join(dict.fromkeys(folder.name for folder in empty))
        notes.append(f"{count_of(len(empty), 'folder')} {holds} no image: {names}")
    dead = [path for folder in labels for path in _dead_links(folder)]
    if dead:
        leads = verb_of(len(dead), "link leads", "links lead")
        notes.append(f"{len(dead)} {leads} to no file: left out{listed(_all(dead))}")
    return notes


def _all(paths: Iterable[Path]) -> list[str]:
    return sorted(map(str, paths))


def _is_loose(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file() and could_be_image(path)


def _dead_links(folder: Path) -> list[Path]:
    """Links of images whose file is not there, as in a dataset that was fetched in part."""
    found = []
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            if suffix_of(path) in IMAGE_SUFFIXES and path.is_symlink() and not path.exists():
                found.append(path)
    return found


def _one_class(name: str, count: int, joined: Sequence[str]) -> LabelError:
    said = f" ({'; '.join(joined)})" if joined else ""
    return LabelError(
        f"{count_of(count, 'image')}, all in one class folder, {name!r}{said}. A classification "
        "needs two classes.",
        "If the classes are the folders inside of it, give that folder with --data; otherwise add "
        "a folder of another class.",
    )


def _nothing(root: Path) -> EmptyDataError | LabelError:
    layout = (
        "Give class folders (DIR/class/image.png, also DIR/train/class/...), a CSV with the "
        "columns image, label, patient, split, or a folder with labels.csv."
    )
    loose = [path for path in visible_files(root) if could_be_image(path)]
    if loose:
        return LabelError(
            f"{root} holds {count_of(len(loose), 'image')}, but nothing says their class.", layout
        )
    dead = len(_dead_links(root))
    if dead:
        leads = verb_of(dead, "leads", "lead")
        return EmptyDataError(
            f"{root} holds no images, but {count_of(dead, 'link')} that {leads} to no file.",
            "Fetch the files that the links stand for, such as with datalad get or git lfs pull.",
        )
    return EmptyDataError(f"{root} holds no images.", layout)
