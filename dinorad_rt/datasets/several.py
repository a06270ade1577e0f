"""Several mask files of one image: one per class, by their names or folders, or parts of one class.

`case_liver`, `liver/case` or `case/liver` is the class liver of `case`; `case_mask` and
`case_mask_1` are parts of one class, and are joined.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dinorad_rt.datasets.labels import order_of_classes
from dinorad_rt.datasets.record import Record
from dinorad_rt.errors import MaskError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.series import natural_key
from dinorad_rt.words import count_of, verb_of

MAX_CLASSES_BY_NAME = 200
_SIGNS = "._ -"
_NUMBER = re.compile(r"[._ -]*\d+$")
_MASK_WORD = re.compile(r"(mask|seg|segmentation|label|gt|groundtruth|roi)s?", re.IGNORECASE)
_READERS = re.compile(
    r"(annotators?|readers?|raters?|experts?|observers?|graders?|humans?|manual)([._ -]?\w+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class MaskFiles:
    """The masks of the images of a folder.

    Attributes:
        classes: names of the foreground classes in order; empty where they are one without a name.
        files: key of an image → its files of each class, in order.
    """

    classes: tuple[str, ...]
    files: Mapping[str, tuple[tuple[Path, ...], ...]]

    @property
    def is_plain(self) -> bool:
        """Whether each image has one file, whose values tell the classes."""
        return all(len(held) == 1 and len(held[0]) == 1 for held in self.files.values())


def several_masks(images: Sequence[str], masks: Mapping[str, Path]) -> MaskFiles | None:
    """Find the classes of masks by what their names have more than those of the images.

    Args:
        images: keys of the images: their place below the folder, in lower case.
        masks: key of each mask → its file.

    Returns:
        None where the names tell nothing.

    Raises:
        MaskError: images that lack a file of a class, or masks by several readers.
    """
    known = set(images)
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    spelled: dict[str, str] = {}
    for key in sorted(masks, key=lambda key: natural_key(masks[key])):
        told = (key, "") if key in known else _by_folder(key, masks[key], known)
        told = told or _by_ending(key, masks[key], known)
        if told is not None:
            image, word = told
            found[image][word.casefold()].append(masks[key])
            spelled.setdefault(word.casefold(), word)
    if not found:
        return None
    readers = [word for word in spelled if _READERS.fullmatch(word)]
    if readers:
        raise MaskError(
            f"The masks of an image are told apart by readers ({', '.join(readers[:5])}); one "
            "mask per image is the truth.",
            "Keep the masks of one reader in the folder, or join them first.",
        )
    words = sorted(spelled, key=lambda word: natural_key(Path(word)))
    lacking = [image for image, held in found.items() if len(held) < len(words)]
    if lacking or len(words) > MAX_CLASSES_BY_NAME:
        raise MaskError(
            f"{count_of(len(lacking), 'image')} of {len(found)} "
            f"{verb_of(len(lacking), 'lacks', 'lack')} a mask of one of the "
            f"{count_of(len(words), 'class', 'classes')} that the names of masks tell"
            f"{listed(lacking)}.",
            "Give every image a file of each class, of zeros where there is nothing; or a CSV with "
            "the columns image and mask.",
        )
    return MaskFiles(
        tuple(spelled[word] for word in words) if words != [""] else (),
        {image: tuple(tuple(held[word]) for word in words) for image, held in found.items()},
    )


def _by_folder(key: str, path: Path, images: set[str]) -> tuple[str, str] | None:
    """`liver/case` and `case/liver` → (`case`, `liver`)."""
    parts = PurePosixPath(key).parts
    if "/".join(parts[:-1]) in images:
        word = _NUMBER.sub("", path.name[: len(parts[-1])])
        return "/".join(parts[:-1]), "" if _MASK_WORD.fullmatch(word) else word
    for at in range(len(parts) - 1):
        rest = "/".join((*parts[:at], *parts[at + 1 :]))
        if rest in images:
            return rest, path.parts[len(path.parts) - len(parts) + at]
    return None


def _by_ending(key: str, path: Path, images: set[str]) -> tuple[str, str] | None:
    """`case_liver` → (`case`, `liver`), the longest name of an image counting; (`case`, ``) for
    numbers and words such as mask."""
    for end in range(len(key) - 1, 0, -1):
        if key[end] in _SIGNS and key[:end] in images:
            name = PurePosixPath(key).name
            begin = end - (len(key) - len(name)) + 1
            word = _NUMBER.sub("", path.name[begin : len(name)])
            return key[:end], "" if _MASK_WORD.fullmatch(word) else word
    return None


def joined(
    records: Sequence[Record], further: Mapping[Path, Sequence[Path]]
) -> tuple[list[Record], list[str]]:
    """Records whose images have further masks of the same class; and what to say.

    Args:
        records: each with its first mask.
        further: image → the others.
    """
    if not further:
        return list(records), []
    result = []
    for one in records:
        parts = (one.mask, *further.get(one.path, ())) if one.mask is not None else ()
        result.append(replace(one, mask_parts=parts, mask_classes=(1,) * len(parts)))
    count = count_of(len(further), "image")
    have = verb_of(len(further), "has", "have")
    return result, [f"{count} {have} several masks, by their numbers: joined, as one class"]


def rows_joined(
    records: Sequence[Record], classes: Sequence[str] | None
) -> tuple[list[Record], tuple[str, ...] | None, list[str]]:
    """One record per image, of rows that give it several masks.

    Args:
        records: one per row.
        classes: of the mask of each; None where they are parts of one.

    Returns:
        The records, those with a mask that is missing without any; the classes, background first,
        or None; what to say.
    """
    of_image: dict[tuple[str, str | None, str | None], list[int]] = defaultdict(list)
    for at, one in enumerate(records):
        of_image[one.key, one.patient, one.split].append(at)
    several = sum(len({records[at].mask for at in rows}) > 1 for rows in of_image.values())
    if not several:
        return list(records), None, []
    names = order_of_classes(sorted(set(classes))) if classes is not None else [""]
    joined = []
    for rows in of_image.values():
        found = {
            (records[at].mask, 1 if classes is None else names.index(classes[at]) + 1)
            for at in rows
        }
        parts = sorted(found, key=lambda one: (one[1], str(one[0])))
        paths = tuple(path for path, _ in parts if path is not None)
        first = replace(records[rows[0]], mask=None)
        if len(paths) == len(parts):
            numbers = tuple(number for _, number in parts)
            first = replace(first, mask=paths[0], mask_parts=paths, mask_classes=numbers)
        joined.append(first)
    how = "joined, as one class" if classes is None else "of a class each, by their labels"
    have = verb_of(several, "has", "have")
    note = f"{count_of(several, 'image')} {have} several masks, in rows of their own: {how}"
    return joined, None if classes is None else ("background", *names), [note]


def with_classes_of(record: Record, files: Sequence[Sequence[Path]], found: MaskFiles) -> Record:
    """A record with its files of each class; a plain mask where each image has one file."""
    if found.is_plain:
        return replace(record, mask=files[0][0])
    parts = tuple(path for paths in files for path in paths)
    classes = tuple(at for at, paths in enumerate(files, start=1) for _ in paths)
    return replace(record, mask=parts[0], mask_parts=parts, mask_classes=classes)


def said_of_classes(found: MaskFiles) -> list[str]:
    """What to say of masks that were put together."""
    more = sum(any(len(paths) > 1 for paths in held) for held in found.files.values())
    if found.is_plain:
        return ["images and masks are called differently: paired by what their names share"]
    notes = []
    if found.classes:
        notes.append("classes of the masks by the names of their files or folders")
    if more:
        have = verb_of(more, "has", "have")
        notes.append(
            f"{count_of(more, 'image')} {have} several masks of a class, by their numbers: joined"
        )
    return notes
