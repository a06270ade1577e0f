"""Class folders: DIR/class/... or DIR/split/class/..., the folders' names being the labels."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from dinorad_rt.datasets.labels import Labels, labels_of_names, order_of_classes, positive_note
from dinorad_rt.datasets.locate import could_be_image
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.errors import EmptyDataError, LabelError
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.types import Split
from dinorad_rt.words import count_of


@dataclass(frozen=True)
class _Found:
    path: Path
    label: str
    split: Split | None
    sub_folder: str | None


def records_of_folders(root: Path) -> tuple[list[Record], Labels, list[str]]:
    """Read class folders, with or without train/val/test folders above them.

    Returns:
        Records in natural order of names, their labels, and notes.

    Raises:
        EmptyDataError: no image.
        LabelError: images, but no two class folders.
    """
    splits = _split_folders(root)
    found: list[_Found] = []
    for split, folder in splits:
        for label in _sub_folders(folder):
            found.extend(_images(label, split))
    if not found:
        raise _nothing(root)
    names = order_of_classes(sorted({one.label for one in found}))
    labels = labels_of_names([one.label for one in found], names)
    notes = [f"classes are the folders {', '.join(names)}"]
    if labels.task == "binary":
        notes.append(positive_note(names))
    by_patient = _sub_folders_are_patients(found)
    if by_patient:
        notes.append("sub-folders of the classes are taken for patients")
    records = [
        Record(
            name=one.path.relative_to(root).as_posix(),
            path=one.path,
            labels=row,
            patient=f"{one.label}/{one.sub_folder}" if by_patient else None,
            split=one.split,
        )
        for one, row in zip(found, labels.rows, strict=True)
    ]
    return records, replace(labels, notes=()), notes


def _split_folders(root: Path) -> list[tuple[Split | None, Path]]:
    """Folders called train, val, test (or words for them); the root itself if there are none."""
    named = [(parse_split(folder.name), folder) for folder in _sub_folders(root)]
    splits = [(split, folder) for split, folder in named if split is not None]
    others = [folder for split, folder in named if split is None]
    if splits and not any(_has_images(folder) for folder in others):
        return list(splits)
    return [(None, root)]


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
            parts = path.relative_to(folder).parts
            sub_folder = parts[0] if len(parts) > 1 else None
            found.append(_Found(path, folder.name, split, sub_folder))
    return found


def _has_images(folder: Path) -> bool:
    return any(could_be_image(path) for path in visible_files(folder))


def _sub_folders_are_patients(found: list[_Found]) -> bool:
    """True if every image lies in a sub-folder, and each class of each split has several."""
    groups: dict[tuple[Split | None, str], set[str]] = defaultdict(set)
    for one in found:
        if one.sub_folder is None:
            return False
        groups[(one.split, one.label)].add(one.sub_folder)
    return all(len(names) >= 2 for names in groups.values())


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
    return EmptyDataError(f"{root} holds no images.", layout)
