"""Which images are of one patient where no column says it: headers, studies, names of folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from dinorad_rt.datasets.headers import patients_from_headers
from dinorad_rt.datasets.name_patients import patients_by_names
from dinorad_rt.datasets.record import Record
from dinorad_rt.words import count_of

MIN_GROUPS = 5
"""Studies or folders from which they count as patients: fewer may be hospitals or trials."""

_IDENTIFIER = {"study": re.compile(r".*\d.*"), "series": re.compile(r"[\d.]{10,}")}
"""What identifies a study or series; other words in such columns name kinds of them."""

_PATIENT_FOLDER = re.compile(
    r"(patient|subject|participant|person)([-_ ]*\(?\d\w*\)?|[-_ ]\w*\d\w*)|sub[-_]\w*\d\w*",
    re.IGNORECASE,
)


def found_patients(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Fill in the patients of records that name none, as far as anything tells them.

    Tried in this order: DICOM headers; the study, then the series, of which each then counts as a
    patient; folders called `patient00001`, `sub-01` or alike on the way to every image; files
    called so, or after the two sides of a body.

    Returns:
        The records, and what to say.
    """
    records, notes = patients_from_headers(records)
    if any(one.patient is not None for one in records):
        return records, notes
    for level, identifier in _IDENTIFIER.items():
        values = [getattr(one, level) for one in records]
        known = set(values) - {None}
        if len(known) >= MIN_GROUPS and all(map(identifier.fullmatch, known)):
            filled = [
                one if value is None else replace(one, patient=f"{level}:{value}")
                for one, value in zip(records, values, strict=True)
            ]
            said = f"no patient column: each {level} counts as a patient of its own"
            return filled, [*notes, said]
    folders = _patient_folders(records)
    if len(set(folders)) < MIN_GROUPS:
        records, more = patients_by_names(records)
        return records, [*notes, *more]
    filled = [replace(one, patient=name) for one, name in zip(records, folders, strict=True)]
    count = count_of(len(set(folders)), "patient")
    return filled, [*notes, f"no patient column: patients by the names of folders, {count}"]


def _patient_folders(records: Sequence[Record]) -> list[str]:
    """The folder of each record that is called after a patient; empty if one lies in none."""
    found = []
    for record in records:
        parts = PurePath(record.name).parent.parts
        named = next((part for part in parts if _PATIENT_FOLDER.fullmatch(part)), None)
        if named is None:
            return []
        found.append(named)
    return found
