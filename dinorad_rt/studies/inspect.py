"""`inspect_path`: what a file or folder holds, series by series, without a single identifier."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dinorad_rt.errors import DinoradError, EmptyDataError, NoImageError, UnreadableFileError
from dinorad_rt.identifiers import reason_of
from dinorad_rt.studies.dicomdir import indexed_images
from dinorad_rt.studies.grouping import Series, group_slices
from dinorad_rt.studies.names import natural_key, visible_files
from dinorad_rt.studies.read import file_kind, read_study
from dinorad_rt.studies.series import read_slice_header
from dinorad_rt.studies.sheet import MAX_SERIES, contact_sheet
from dinorad_rt.studies.study import Study
from dinorad_rt.words import count_of

__all__ = ["MAX_SERIES", "InspectedSeries", "Inspection", "contact_sheet", "inspect_path"]

MAX_DECODED = 500
"""Images outside DICOM series that are decoded; of more, evenly spaced ones."""
REASONS = 5
"""Reasons why files cannot be read that are told one by one."""


@dataclass(frozen=True)
class InspectedSeries:
    """One volume, or all loose images of one kind.

    Attributes:
        facts: column → text, in the order of the table.
        problems: what is wrong or worth knowing.
        files: for the contact sheet; never printed or stored.
    """

    facts: dict[str, str]
    problems: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Inspection:
    """What `inspect_path` found.

    Attributes:
        series: one entry per volume or kind of image.
        problems: of all series and of files that cannot be read.
        others: number of files that are no images (reports, plans, text).
    """

    series: tuple[InspectedSeries, ...]
    problems: tuple[str, ...] = ()
    others: int = 0

    def rows(self) -> list[dict[str, str]]:
        """One row of text per series, all with the same columns."""
        return [
            {"#": str(number), **one.facts, "problems": str(len(one.problems) or "")}
            for number, one in enumerate(self.series, start=1)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values without identifiers and paths."""
        return {
            "series": [{**one.facts, "problems": list(one.problems)} for one in self.series],
            "problems": list(self.problems),
            "other_files": self.others,
        }


def inspect_path(path: str | Path) -> Inspection:
    """Look into a file, folder or DICOMDIR. Series are sorted by headers, one slice is decoded.

    Raises:
        EmptyDataError: there is nothing.
        UnreadableFileError: not one file can be read; the reasons are told with their numbers.
    """
    path = Path(path)
    if not path.exists():
        raise EmptyDataError(f"{path} does not exist.", "Check the spelling.")
    missing = 0
    if path.is_dir():
        paths = visible_files(path)
    elif file_kind(path) == "dicomdir":
        paths, missing = indexed_images(path)
    else:
        study = read_study(path)
        one = _described(study, files=(path,), slices=study.num_slices)
        return Inspection((one,), _numbered([one]))
    if not paths:
        raise EmptyDataError(f"{path} holds no files.", "Check the path.")
    headers = {one.path: one for one in map(read_slice_header, paths) if one is not None}
    volumes = group_slices(one for one in headers.values() if one.is_image)
    series, problems = _inspect_volumes(volumes)
    loose, more, others = _inspect_loose([p for p in paths if p not in headers])
    series += loose
    if missing:
        problems.append(f"the DICOMDIR names {missing} more images that are not there")
    failures, without = _without_image([one.path for one in headers.values() if not one.is_image])
    others += without
    more = [*_told(failures), *more]
    if not series:
        raise _nothing_to_see(path, len(paths), others, [*problems, *more])
    return Inspection(tuple(series), (*_numbered(series), *problems, *more), others)


def _nothing_to_see(path: Path, files: int, others: int, problems: list[str]) -> DinoradError:
    if not problems:
        return EmptyDataError(
            f"{path} holds {count_of(files, 'file')}, but no image.", "Check the path."
        )
    other = f", {others} of them no images" if others else ""
    reasons = "".join(f"\n  {problem}" for problem in problems)
    return UnreadableFileError(
        f"{path} holds {count_of(files, 'file')}{other}, and no image that can be read:{reasons}",
        "Fetch the files again, or check the path.",
    )


def _without_image(paths: list[Path]) -> tuple[list[str], int]:
    """Why DICOM files hold no image though they should, and how many are of another kind."""
    failures: list[str] = []
    for path in paths:
        try:
            read_study(path)
        except NoImageError:
            continue
        except DinoradError as error:
            failures.append(reason_of(error, path))
    return failures, len(paths) - len(failures)


def _told(failures: list[str]) -> list[str]:
    """How many files cannot be read, a line for each reason, the most frequent first."""
    counts = Counter(failures).most_common()
    lines = [f"files that cannot be read: {count}: {reason}" for reason, count in counts[:REASONS]]
    more = sum(count for _, count in counts[REASONS:])
    return lines + ([f"files that cannot be read: {more} more, for other reasons"] if more else [])


def _inspect_volumes(volumes: Sequence[Series]) -> tuple[list[InspectedSeries], list[str]]:
    found: list[InspectedSeries] = []
    problems: list[str] = []
    for volume in volumes:
        study = _one_slice(volume, problems)
        if study is None:
            continue
        slices = len(volume.files) * study.num_slices
        thickness = math.nan if volume.geometry is None else volume.geometry.spacing
        one = _described(study, files=volume.files, slices=slices, thickness=thickness)
        found.append(InspectedSeries(one.facts, (*one.problems, *volume.problems), one.files))
    return found, problems


def _one_slice(volume: Series, problems: list[str]) -> Study | None:
    """Decode the middle file of a series, or another one if that fails, which is told."""
    middle = volume.files[len(volume.files) // 2]
    for path in dict.fromkeys((middle, *volume.files[:2])):
        try:
            return read_study(path)
        except DinoradError as error:
            count = len(volume.files)
            said = f"one file of {count} in a series" if count > 1 else "a file"
            problems.append(f"{said} cannot be read: {reason_of(error, path)}")
    return None


def _inspect_loose(paths: list[Path]) -> tuple[list[InspectedSeries], list[str], int]:
    """Group images that are no DICOM by format, type and meaning."""
    paths = sorted(paths, key=natural_key)
    step = max(1, math.ceil(len(paths) / MAX_DECODED))
    kinds: dict[tuple[Any, ...], list[tuple[Path, Study]]] = defaultdict(list)
    failures: list[str] = []
    others = 0
    for path in paths[::step]:
        if file_kind(path) == "dicomdir":
            others += 1
            continue
        try:
            study = read_study(path)
        except DinoradError as error:
            if "no image format" in error.problem:
                others += 1
            else:
                failures.append(reason_of(error, path))
            continue
        volume = path if study.num_slices > 1 else None
        kind = (study.facts.get("format"), study.pixels.dtype.str, study.units, volume)
        middle = study.slice(study.num_slices // 2)  # the rest of a volume is not kept
        facts = {**study.facts, "slices": study.num_slices}
        kinds[kind].append((path, replace(middle, facts=facts)))
    found = [_described_kind(members) for members in kinds.values()]
    problems = _told(failures)
    if step > 1:
        problems.append(f"{len(paths)} loose files: one in {step} was decoded")
    return found, problems, others


def _described_kind(members: list[tuple[Path, Study]]) -> InspectedSeries:
    studies = [study for _, study in members]
    slices = sum(int(study.facts.get("slices", 1)) for study in studies)
    one = _described(studies[0], files=tuple(path for path, _ in members), slices=slices)
    sizes = sorted({study.pixels.shape[1:3] for study in studies})
    facts = dict(one.facts)
    if len(sizes) > 1:
        facts["size"] = f"{_size(sizes[0])} to {_size(sizes[-1])} ({len(sizes)} sizes)"
    problems = dict.fromkeys(problem for study in studies for problem in study.problems)
    return InspectedSeries(facts, tuple(problems), one.files)


def _described(
    study: Study, *, files: tuple[Path, ...], slices: int, thickness: float = math.nan
) -> InspectedSeries:
    spacing = study.spacing
    if spacing is not None and not math.isnan(thickness):
        spacing = (thickness, *spacing[1:])
    windows = ", ".join(f"{w.centre:g}/{w.width:g}" for w in study.windows[:3])
    facts = {
        "modality": study.modality or "-",
        "format": str(study.facts.get("format", "-")),
        "files": str(len(files)),
        "slices": str(slices),
        "size": _size(study.pixels.shape[1:3]),
        "spacing mm": " × ".join(_millimetres(value) for value in spacing) if spacing else "-",
        "values": f"{study.pixels.dtype.name}, {study.units}",
        "syntax": str(study.facts.get("transfer_syntax", "-")),
        "photometric": str(study.facts.get("photometric", "-")),
        "windows": windows or ("VOI LUT" if study.voi_lut is not None else "-"),
    }
    return InspectedSeries(facts, study.problems, files)


def _numbered(series: Sequence[InspectedSeries]) -> tuple[str, ...]:
    return tuple(
        f"series {number}: {problem}"
        for number, one in enumerate(series, start=1)
        for problem in one.problems
    )


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _millimetres(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.3g}"
