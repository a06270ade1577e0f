"""Patients by the names of image files: `person12_virus_3`, or the sides `9003175L`, `9003175R`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from dinorad_rt.datasets.locate import stem_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.words import count_of, verb_of

MIN_GROUPS = 5
"""Names that stand for several images, from which names are taken for those of patients."""

_PERSON = re.compile(
    r"((?:patient|subject|participant|person)[-_ ]?\d+|sub-[a-z]*\d+)(?![a-z0-9])", re.IGNORECASE
)
_SIDE = re.compile(r"(.*\d)[-_ .]?(left|right|l|r|od|os)", re.IGNORECASE)

Told = tuple[str, str] | None
"""A patient's name, and the side of the image where the file tells one."""


def patients_by_names(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Fill in patients where file names tell which images are of one.

    A name that begins with a patient's, in five groups of several images at least; or the same
    number on both sides, for most images. Where numbers begin anew in folders or splits, they
    count within these.

    Returns:
        The records, and what to say.
    """
    for tell, what in ((_person, "the names of files"), (_side, "the two sides in file names")):
        told = [tell(stem_of(record.path)) for record in records]
        groups = _groups(records, told)
        several = [at for at in groups.values() if len(at) > 1]
        sided = tell is _side and 2 * sum(map(len, several)) < len(records)
        if len(several) < MIN_GROUPS or sided:
            continue
        filled = list(records)
        for name, members in groups.items():
            for at in members:
                filled[at] = replace(records[at], patient=f"name:{name}")
        count = count_of(len(groups), "patient")
        notes = [f"no patient column: patients by {what}, {count}"]
        return (filled, notes) if tell is _side else _apart_by_split(filled, notes)
    return list(records), []


def _apart_by_split(records: list[Record], notes: list[str]) -> tuple[list[Record], list[str]]:
    """Names that stand in several of the given splits: of different people, by all that is known.

    The sides of one number are of one person whatever the split, and stay to be refused.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for one in records:
        if one.patient is not None and one.split is not None:
            splits[one.patient].add(one.split)
    shared = {name for name, found in splits.items() if len(found) > 1}
    if not shared:
        return records, notes
    apart = [
        one if one.patient not in shared else replace(one, patient=f"{one.split}/{one.patient}")
        for one in records
    ]
    stand = verb_of(len(shared), "stands", "stand")
    said = (
        f"{count_of(len(shared), 'name')} of patients {stand} in several splits: taken for "
        "different people; if they are the same, results are too good (give a CSV with a patient "
        "column)"
    )
    return apart, [*notes, said]


def _person(stem: str) -> Told:
    found = _PERSON.match(stem)
    return (found[1].lower(), "") if found else None


def _side(stem: str) -> Told:
    found = _SIDE.fullmatch(stem)
    return (found[1].lower(), found[2].lower()) if found else None


def _groups(records: Sequence[Record], told: Sequence[Told]) -> dict[str, list[int]]:
    """Name → its records; names of sides count with their folder where one side comes twice."""
    sides = [one for one in told if one is not None and one[1]]
    anew = len(set(sides)) < len(sides)
    groups: dict[str, list[int]] = defaultdict(list)
    for at, (record, one) in enumerate(zip(records, told, strict=True)):
        if one is not None:
            folder = PurePath(record.name).parent.as_posix()
            groups[f"{folder}/{one[0]}" if anew else one[0]].append(at)
    return groups
