"""DICOM headers as labels' partners: patients of images, and tables that name UIDs, not files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.header_workers import read_headers
from dinorad_rt.datasets.locate import IMAGE_SUFFIXES, OTHER_SUFFIXES, suffix_of
from dinorad_rt.datasets.record import Record
from dinorad_rt.errors import DinoradError, LabelError
from dinorad_rt.studies.dicom import load_header
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.series import SliceHeader, read_slice_header, visible_files
from dinorad_rt.words import count_of, verb_of

_LEVELS = ("sop", "series", "study", "patient")
_BURNED_IN = 0x00280301
_MAYBE_DICOM = frozenset((".dcm", ".dicom", ".ima", ".img"))
_NO_DICOM = (IMAGE_SUFFIXES | OTHER_SUFFIXES) - _MAYBE_DICOM


@dataclass(frozen=True)
class HeaderIndex:
    """DICOM images of a folder by the identifiers in their headers."""

    headers: tuple[SliceHeader, ...]

    def level_of(self, values: Iterable[str], kinds: Iterable[str]) -> str | None:
        """The finest level (sop, series, study, patient) whose identifiers match the values."""
        wanted = set(values)
        for level in _LEVELS:
            if level in kinds and any(getattr(one, level) in wanted for one in self.headers):
                return level
        return None

    def by_level(self, level: str) -> dict[str, list[Path]]:
        """Identifier → files."""
        index: dict[str, list[Path]] = defaultdict(list)
        for header in self.headers:
            index[str(getattr(header, level))].append(header.path)
        return index


def index_headers(paths: Iterable[Path]) -> HeaderIndex:
    """Read the headers of all DICOM images among the paths, several at once."""
    found = read_headers([path for path in paths if is_maybe_dicom(path)])
    return HeaderIndex(tuple(one for one in found if one is not None and one.is_image))


def is_maybe_dicom(path: Path) -> bool:
    """False for suffixes of other formats. Archives give DICOM files any: none, `.dc3`, `.7`."""
    return suffix_of(path) not in _NO_DICOM


def patients_from_headers(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Fill in patient, study and series of DICOM images, or folders of them, from headers.

    Where all files name one patient or none, the data has been anonymised so, and each study counts
    as a patient of its own. So does the study of a single file that names none, unless another
    file of that study does.
    """
    files = {record.path: _speaker(record.path) for record in records}
    by_file = {one.path: one for one in index_headers(files.values()).headers}
    index = {path: by_file[file] for path, file in files.items() if file in by_file}
    if not index:
        return records, []
    headers = index.values()
    named = {one.patient for one in headers} - {""}
    unnamed = sum(not one.patient for one in headers)
    by_study = len(named) + bool(unnamed) == 1 and len({one.study for one in headers}) > 1
    of_study = {} if by_study else {one.study: one.patient for one in headers if one.patient}

    def patient_of(header: SliceHeader) -> str | None:
        own = "" if by_study else header.patient
        return own or (of_study.get(header.study, header.study) if header.study else None)

    filled = [
        record
        if (header := index.get(record.path)) is None
        else replace(
            record,
            patient=patient_of(header),
            study=header.study or record.study,
            series=header.series or record.series,
        )
        for record in records
    ]
    count = len({one.patient for one in filled} - {None})
    if not count:
        return filled, []
    if by_study:
        which = "one patient" if named else "no patient"
        return filled, [f"all DICOM files name {which}: each study counts as a patient of its own"]
    notes = [f"patients come from the DICOM headers: {count_of(count, 'patient')}"]
    if unnamed:
        name = verb_of(unnamed, "names", "name")
        notes.append(f"{count_of(unnamed, 'DICOM image')} {name} no patient: their study counts")
    return filled, notes


def _speaker(path: Path) -> Path:
    """The file whose header speaks for a path: a folder's first one that may be DICOM."""
    if not path.is_dir():
        return path
    return next((one for one in visible_files(path) if is_maybe_dicom(one)), path)


def is_dicom(path: Path) -> bool:
    """True for a DICOM file, or a folder of them."""
    file = _speaker(path)
    return is_maybe_dicom(file) and read_slice_header(file) is not None


def refuse_patients_as_classes(records: Sequence[Record], classes: Sequence[str]) -> None:
    """Refuse class folders that are one patient each: these are the patients, not the classes.

    Raises:
        LabelError: every class holds one patient, and every patient one class.
    """
    pairs = {(record.labels, record.patient) for record in records}
    patients = {patient for _, patient in pairs}
    if None in patients or not len(pairs) == len(patients) == len(classes):
        return
    raise LabelError(
        f"Each of the {len(classes)} folders holds the images of one patient, by their DICOM "
        "headers or names: the folders are patients, not classes.",
        "Give a CSV with the columns patient (or study, series, SOP instance) and label beside "
        "them.",
    )


def burned_in_images(paths: Sequence[Path], facts: FileFacts) -> int:
    """Number of DICOM files whose header says that text of the patient is in the image.

    Args:
        paths: files, or folders of slices, whose first file speaks for them.
        facts: remembers the answers.
    """
    maybe = [path for path in map(_speaker, paths) if is_maybe_dicom(path)]
    return sum(facts.of("burned-in text in headers", maybe, _is_burned_in))


def _is_burned_in(path: Path) -> bool:
    try:
        with quiet():
            header = load_header(path, tags=[_BURNED_IN])
    except DinoradError:
        return False
    return str(header.get("BurnedInAnnotation") or "").strip().upper() == "YES"
