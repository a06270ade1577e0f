"""From images with masks to a checked segmentation set: classes, grids, what each mask holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dinorad_rt import identifiers
from dinorad_rt.datasets.axes import has_no_place
from dinorad_rt.datasets.dicom_seg import SEGMENT_FACT, is_seg, mixed_kinds, segment_facts
from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.grid import kind_of
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.masks import (
    MAX_CLASSES,
    MAX_GREY,
    THRESHOLD,
    check_grids,
    grey_share,
    values_of,
)
from dinorad_rt.datasets.record import Record
from dinorad_rt.errors import LabelError, MaskError, UnreadableFileError
from dinorad_rt.words import count_of

MAX_PARTS_READ = 8
"""Files of a mask up to which all are read when a set is opened, to stratify its splits."""
MAX_GUESSED = 40
"""More different values than these are no classes but an image, unless the classes are named."""


def with_classes(
    records: Sequence[Record],
    names: Sequence[str] | None,
    values: Sequence[int] | None,
    facts: FileFacts,
) -> tuple[list[Record], Labels]:
    """Read the values of all masks (once; they are remembered) and give each record its classes.

    Args:
        records: images with masks.
        names: classes with the background first; None to name them by their values.
        values: stored value of each class; None to find out: 0, 1, 2, ... or, where no value is
            one of these, as many others as there are names, in their order.
        facts: remembers what was read.

    Raises:
        MaskError: no record has a mask, or masks do not lie on their images.
        LabelError: values that stand for no class.
    """
    _check_values(names, values)
    usable = [one for one in records if one.mask is not None]
    notes = []
    if len(usable) < len(records):
        notes.append(f"{count_of(len(records) - len(usable), 'image')} without a mask: left out")
    if not usable:
        raise MaskError("No image has a mask.", "Check the mask column, or the labels folder.")
    parts = max(max(one.mask_classes, default=len(one.mask_parts)) for one in usable)
    segments = None if parts else _segments(usable, facts)
    masks = [one.mask for one in usable if one.mask is not None]
    found = [()] * len(usable) if parts or segments else _values(masks, facts)
    if segments is not None:
        names, values = _named_by_segments(segments, names), None
        usable = [replace(one, mask_labels=names) for one in usable]
        found = [
            (0, *sorted(names.index(label) for _, label in held)) if held else ()
            for held in segments
        ]
    elif parts:
        names, values = _named_by_parts(parts, names), None
        found = _held_by_parts(usable, facts)
        if parts > 1:
            order = ", ".join(names[1:5]) + (", ..." if len(names) > 5 else "")
            notes.append(f"where files of classes overlap, the later lies over: {order}")
    elif _are_grey(found, names, usable, facts):
        notes.append(f"masks with grey edges: values from {THRESHOLD} on are the foreground")
        usable = [replace(one, mask_threshold=THRESHOLD) for one in usable]
        found = [(0, 1)[: 1 + (held[-1:] >= (THRESHOLD,))] for held in found]
        names, values = names or ("background", "foreground"), None
    else:
        ordered = names is not None and values is None
        names, values = _classes(found, names, values)
        if ordered and values is not None and len(values) > 2:
            told = ", ".join(_with_value(names, values))
            notes.append(f"values of the masks are taken for the classes in their order: {told}")
    index = {v: i for i, v in enumerate(values)} if values else None
    chosen = tuple(values) if values else None
    checked = [
        replace(one, mask_values=chosen, present=_present(held, index, len(names)))
        for one, held in zip(usable, found, strict=True)
    ]
    check_record_grids(checked)
    notes += _place_notes(checked)
    notes.append(f"classes of the masks: {', '.join(names)}")
    return checked, Labels("segmentation", tuple(names), tuple(() for _ in checked), tuple(notes))


def check_record_grids(records: Sequence[Record]) -> None:
    """As `masks.check_grids`, for records.

    Raises:
        MaskError: masks of another shape or place than their image.
    """
    pairs = [
        (one.path, mask, one.name)
        for one in records
        if one.mask is not None
        for mask in one.mask_parts or (one.mask,)
    ]
    names = [name for *_, name in pairs] if identifiers.are_kept() else None
    check_grids([(image, mask) for image, mask, _ in pairs], names)


def _place_notes(records: Sequence[Record]) -> list[str]:
    """Says how NIfTI lies on files that do not tell their place."""
    image, mask = records[0].path, records[0].mask
    if mask is None or has_no_place(image) == has_no_place(mask):
        return []
    nifti = mask if has_no_place(image) else image
    if kind_of(nifti) != "nifti":
        return []
    return [
        f"only {'masks' if nifti is mask else 'images'} are NIfTI and tell their place: their x is "
        "taken for the column of the other file, y for the row, z for the slice"
    ]


def _segments(records: Sequence[Record], facts: FileFacts) -> list[list[tuple[int, str]]] | None:
    """Number and label of each segment that a mask has, mask by mask; None if they are no SEG.

    Raises:
        LabelError: some are and some are not.
    """
    masks = [one.mask for one in records if one.mask]
    if not is_seg(masks[0]):
        return None
    found = facts.of(SEGMENT_FACT, masks, segment_facts)
    if None in found:
        raise mixed_kinds()
    return [[(int(number), str(label)) for number, label in held] for held in found]


def _named_by_segments(
    segments: Sequence[Sequence[tuple[int, str]]], names: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes: the labels, in the order of the lowest number that each has anywhere.

    Raises:
        LabelError: no segment at all, or one that none of the given names is.
    """
    order: dict[str, int] = {}
    for number, label in (one for held in segments for one in held):
        order[label] = min(number, order.get(label, number))
    if not order:
        raise LabelError("The masks hold nothing but background.", "Check the mask column.")
    labels = sorted(order, key=lambda label: (order[label], label))
    if names is None:
        return ("background", *labels)
    unknown = [label for label in labels if label not in names[1:]]
    if unknown:
        raise LabelError(
            f"The masks have segments that are no class: {', '.join(unknown[:10])}.",
            f"Name all: --class-names background,{','.join(labels)}",
        )
    return tuple(names)


def _named_by_parts(parts: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """The classes where each has files of its own.

    Raises:
        LabelError: as many names as there are classes are not given.
    """
    if names is None:
        guessed = [f"class {i}" for i in range(1, parts + 1)] if parts > 1 else ["foreground"]
        return ("background", *guessed)
    if len(names) != parts + 1:
        raise LabelError(
            f"The masks are files of {count_of(parts, 'class', 'classes')}, and "
            f"{count_of(len(names), 'name')} {'is' if len(names) == 1 else 'are'} given: "
            f"{', '.join(names)}.",
            "Name the background and each class: --class-names background,...",
        )
    return tuple(names)


def _held_by_parts(records: Sequence[Record], facts: FileFacts) -> list[tuple[int, ...]]:
    """Classes in the masks of several files; nothing where reading all of them takes too long."""
    files = sorted({path for one in records for path in one.mask_parts})
    if len(files) > MAX_PARTS_READ * len(records):
        return [()] * len(records)
    held = dict(zip(files, _values(files, facts), strict=True))
    return [
        (
            0,
            *{
                at
                for path, at in zip(one.mask_parts, _numbers(one), strict=True)
                if any(held[path])
            },
        )
        if all(held[path] for path in one.mask_parts)
        else ()  # a file that cannot be read, which will stand in the failures
        for one in records
    ]


def _numbers(record: Record) -> tuple[int, ...]:
    """Class of each part of a mask."""
    return record.mask_classes or tuple(range(1, len(record.mask_parts) + 1))


def _values(masks: Sequence[Path], facts: FileFacts) -> list[tuple[int, ...]]:
    def read(path: Path) -> list[int]:
        try:
            return list(values_of(path))
        except UnreadableFileError:
            return []  # it will stand in the failures, like every file that cannot be read

    found = facts.of("values of masks", masks, read)
    return [tuple(values) for values in found]


def _are_grey(
    found: Sequence[tuple[int, ...]],
    names: Sequence[str] | None,
    records: Sequence[Record],
    facts: FileFacts,
) -> bool:
    """True for 8-bit masks of two classes that are dark and bright but for a few pixels."""
    seen = {value for held in found for value in held}
    if len(seen) < 3 or min(seen) != 0 or max(seen) != 255 or (names and len(names) != 2):
        return False
    grey = [one.mask for one, held in zip(records, found, strict=True) if one.mask and held[2:]]
    return all(share <= MAX_GREY for share in facts.of("grey edges of masks", grey, grey_share))


def _check_values(names: Sequence[str] | None, values: Sequence[int] | None) -> None:
    if values is not None and (len(set(values)) != len(values) or len(values) != len(names or ())):
        raise LabelError(
            f"{list(values)} are no different values of the classes {', '.join(names or ())}.",
            "Give one value for each class.",
        )


def _classes(
    found: Sequence[tuple[int, ...]], names: Sequence[str] | None, values: Sequence[int] | None
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Names and values of the classes; what is in the masks must be among them."""
    seen = sorted({value for held in found for value in held})
    if names is None:
        return _guessed(seen)
    plain = tuple(range(len(names)))
    allowed = _foreground_alone(names, seen) or tuple(values or _in_order(names, seen) or plain)
    unknown = [value for value in seen if value not in allowed]
    if unknown:
        count = sum(bool(set(held) & set(unknown)) for held in found)
        raise LabelError(
            f"{count} of {len(found)} masks hold the values {unknown[:10]}, which stand for no "
            f"class. Allowed: {', '.join(_with_value(names, allowed)[:20])}.",
            "Mend the masks, or name all classes: --class-names background,..."
            if values is None
            else "Save the masks with these values, or tell what theirs mean in a dataset.json in "
            'their folder: {"labels": {"background": 0, "NAME": VALUE}}, with these names.',
        )
    return tuple(names), None if allowed == plain else allowed


def _with_value(names: Sequence[str], values: Sequence[int]) -> list[str]:
    return [f"{value} ({name})" for name, value in zip(names, values, strict=True)]


def _foreground_alone(names: Sequence[str], seen: Sequence[int]) -> tuple[int, ...] | None:
    """0 and the only other value of masks of one class, which is stored as 1, as 255, ..."""
    others = [value for value in seen if value]
    return (0, others[0]) if len(names) == 2 and len(others) == 1 else None


def _in_order(names: Sequence[str], seen: Sequence[int]) -> tuple[int, ...] | None:
    """0 and the others, smallest first, if there is one for each name and none can be an index."""
    others = [value for value in seen if value]
    fits = len(others) == len(names) - 1 and min(others, default=0) >= len(names)
    return (0, *others) if fits else None


def _guessed(seen: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    if len(seen) > MAX_GUESSED or not any(seen):
        what = f"{len(seen)} different values" if any(seen) else "nothing but background"
        raise LabelError(
            f"The masks hold {what}: these are no classes.",
            "Check the mask column; lossy formats (JPEG) cannot hold masks. If it is right, name "
            "the classes: --class-names background,...",
        )
    values = (0, *(value for value in seen if value))
    if len(values) == 2:
        return ("background", "foreground"), None if values[1] == 1 else values
    if values[-1] <= MAX_CLASSES and len(values) > values[-1] // 2:
        return ("background", *(f"class {i}" for i in range(1, values[-1] + 1))), None
    return ("background", *(f"class {value}" for value in values[1:])), values


def _present(
    held: Sequence[int], index: dict[int, int] | None, count: int
) -> tuple[int, ...] | None:
    """Classes in a mask as 0/1; None where it was not read."""
    if not held:
        return None
    inside = {value if index is None else index[value] for value in held}
    return tuple(int(i in inside) for i in range(count))
