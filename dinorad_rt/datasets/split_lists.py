"""Split lists of others: read from the files that people publish them in, matched to images."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dinorad_rt.datasets.locate import MAX_PREFIX, stem_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.datasets.table import read_table
from dinorad_rt.errors import EmptyDataError, LeakageError, TableError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of

SPLITS_TABLE = "splits.csv"
"""What `prepare --out` writes."""

_SUFFIXES = (".txt", ".csv", ".tsv", ".json")
_LAYOUTS = (
    "Understood: a folder with train, val and test lists (train_list.txt, val.csv, ...), a CSV "
    'with a split column and image or patient, or JSON such as {"train": [...], "test": [...]}.'
)


@dataclass(frozen=True)
class SplitList:
    """Names of images or patients, and the split of each."""

    splits: dict[str, Split]


def read_split_list(source: Path) -> SplitList:
    """Read a split list.

    Args:
        source: see the message of the errors.

    Raises:
        EmptyDataError: nothing there.
        TableError: a layout that is not understood.
        LeakageError: a name in two splits.
    """
    if not source.exists():
        raise EmptyDataError(f"{source} does not exist.", "Check the spelling of --splits.")
    if (source / SPLITS_TABLE).is_file():
        source = source / SPLITS_TABLE
    pairs = list(_of_folder(source) if source.is_dir() else _of_file(source))
    if not pairs:
        raise TableError(f"{source.name} names no splits.", _LAYOUTS)
    splits: dict[str, Split] = {}
    doubled = [name for name, split in pairs if splits.setdefault(name, split) != split]
    if doubled:
        raise LeakageError(
            f"{len(set(doubled))} names stand in more than one split of {source.name}"
            f"{listed(doubled)}.",
            "Give each image and patient one split.",
        )
    return SplitList(splits)


def apply_split_list(records: Sequence[Record], lists: SplitList) -> tuple[list[Record], list[str]]:
    """Give each record the split that the list has for its name, file name or patient.

    Returns:
        The records that are listed, and notes on what is listed or here alone.

    Raises:
        TableError: nothing matches.
        LeakageError: an image gets two splits by two names.
    """
    index = _Index(records)
    chosen: dict[int, Split] = {}
    idle = []
    for name, split in lists.splits.items():
        found = index.find(name)
        if not found:
            idle.append(name)
        for at in found:
            if chosen.setdefault(at, split) != split:
                raise LeakageError(
                    "The split list gives one image two splits, by different names"
                    f"{listed([records[at].name])}.",
                    "Keep one of the rows.",
                )
    if not chosen:
        raise TableError(
            f"None of the {len(lists.splits)} names of the split list fits one of "
            f"{len(records)} images{listed(idle)}.",
            "Names may be paths, file names with or without suffix, or patients.",
        )
    without = [one.name for at, one in enumerate(records) if at not in chosen]
    notes = []
    if without:
        stand = f"{count_of(len(without), 'image')} {verb_of(len(without), 'stands', 'stand')}"
        notes.append(f"{stand} in no split list: left out{listed(without)}")
    if idle:
        have = verb_of(len(idle), "has", "have")
        notes.append(
            f"{count_of(len(idle), 'name')} of the split list {have} no image here{listed(idle)}"
        )
    return [replace(records[at], split=chosen[at]) for at in sorted(chosen)], notes


class _Index:
    """Records by everything that a list may call them."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._sure: dict[str, list[int]] = defaultdict(list)
        self._unique: dict[str, list[int]] = defaultdict(list)
        for at, record in enumerate(records):
            patient = record.patient or record.name
            for name in (record.key, record.name, pseudonym("sample", record.key)):
                self._sure[name].append(at)
            for name in (patient, pseudonym("patient", patient)):
                self._sure[f"\0{name}"].append(at)
            # a study that stores slices as files numbers them: volume_007 is slice 7 of it
            for name in dict.fromkeys((record.path.name, stem_of(record.path))):
                self._unique[name].append(at)
                if record.frame is not None:
                    self._unique[f"{stem_of(record.path)}_{record.frame:03d}"].append(at)
        self._paths = [record.path for record in records]

    def find(self, name: str) -> list[int]:
        parts = PurePosixPath(name.replace("\\", "/")).parts or (name,)
        for start in range(min(MAX_PREFIX + 1, len(parts))):
            found = self._sure.get("/".join(parts[start:]))
            if found:
                return sorted(set(found))
        for short in (parts[-1], stem_of(Path(parts[-1]))):
            found = sorted(set(self._unique.get(short, ())))
            if found and len({self._paths[at] for at in found}) == 1:
                return found
        return sorted(set(self._sure.get(f"\0{name}", ())))


def _of_folder(folder: Path) -> Iterable[tuple[str, Split]]:
    for entry in sorted(folder.iterdir()):
        split = _split_of_name(entry.stem)
        if split is not None and entry.suffix.lower() in _SUFFIXES:
            for name in _names(entry):
                yield name, split


def _split_of_name(stem: str) -> Split | None:
    word = "".join(character for character in stem.lower() if character.isalpha())
    for ending in ("", "list", "set", "split", "ids", "images", "files", "names"):
        if word.endswith(ending) and (split := parse_split(word[: len(word) - len(ending)])):
            return split
    return None


def _names(source: Path) -> list[str]:
    """One name per line, or the image column of a table."""
    if source.suffix.lower() == ".json":
        return [_name(entry) for entry in _json(source)]
    text = source.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not any(mark in lines[0] for mark in (",", ";", "\t")):
        first = lines[0].lower() if lines else ""
        return lines[1:] if first in ("image", "image index", "path", "patient", "id") else lines
    table = read_table(source)
    column = table.find("image", None) or table.find("patient", None)
    if column is None:
        raise table.missing("image", "a header such as")
    return table.column(column)


def _of_file(source: Path) -> Iterable[tuple[str, Split]]:
    if source.suffix.lower() == ".json":
        document = _json(source)
        if not isinstance(document, dict):
            raise TableError(f"{source.name} holds no JSON object.", _LAYOUTS)
        for word, entries in document.items():
            split = _split_of_name(str(word))
            if split is not None and isinstance(entries, list):
                yield from ((_name(entry), split) for entry in entries)
        return
    table = read_table(source)
    split_column = table.find("split", None)
    column = table.find("image", None) or _ours(table.header) or table.find("patient", None)
    if split_column is None or column is None:
        raise TableError(
            f"{source.name} has the columns {table.listed()}: no split, or no image and patient.",
            _LAYOUTS,
        )
    unknown = Counter(cell for cell in table.column(split_column) if parse_split(cell) is None)
    if unknown:
        raise TableError(
            f"{source.name}: column {split_column!r} holds "
            f"{', '.join(map(repr, list(unknown)[:5]))}.",
            "Allowed: train, val, test (also training, valid, validation, dev, testing).",
        )
    for name, cell in zip(table.column(column), table.column(split_column), strict=True):
        split = parse_split(cell)
        assert split is not None
        yield name, split


def _ours(header: Sequence[str]) -> str | None:
    return "sample" if "sample" in header else None


def _json(source: Path) -> Any:
    try:
        return json.loads(source.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TableError(f"{source.name} is no JSON: {error}.", _LAYOUTS) from error


def _name(entry: Any) -> str:
    """MONAI lists hold {"image": ..., "label": ...}, others plain names."""
    return str(entry.get("image", "")) if isinstance(entry, dict) else str(entry)
