"""What lies under a path, as items that get one answer each: series, volumes, single images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from dinorad_rt.datasets.traces import trace_of
from dinorad_rt.embeddings.decode import WITHOUT_NUMBERS, Bad, is_without_numbers
from dinorad_rt.errors import EmptyDataError, MissingPackageError
from dinorad_rt.files import sha256_json
from dinorad_rt.identifiers import reason_of
from dinorad_rt.progress import Say, silent
from dinorad_rt.studies.dicomdir import indexed_images
from dinorad_rt.studies.grouping import Series, group_slices
from dinorad_rt.studies.names import natural_key, visible_files
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.quiet import is_decoder_failure
from dinorad_rt.studies.read import file_kind, is_image_file, read_study
from dinorad_rt.studies.series import load_series, read_slice_header
from dinorad_rt.studies.study import Study
from dinorad_rt.words import count_of

PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "XA", "US", "OT"})
"""DICOM modalities whose files are images of their own, also where a series holds several."""

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Item:
    """One series, volume or image.

    Attributes:
        key: pseudonym of its name; what results are called by.
        name: path relative to what was asked for, of its first file. An identifier: it goes into
            results only where the user asks.
        files: in the order of the slices.
        series: how DICOM slices are sorted; None for files that are read alone.
    """

    key: str
    name: str
    files: tuple[Path, ...]
    series: Series | None = field(default=None, repr=False)

    def read(self) -> Study | Bad:
        """The study in the file's own orientation, or why it cannot be read.

        Raises:
            MissingPackageError: the user can mend it for all files alike.
        """
        try:
            study = load_series(self.series) if self.series else read_study(self.files[0])
            return Bad(WITHOUT_NUMBERS) if is_without_numbers(study.pixels) else study
        except MissingPackageError:
            raise
        except BaseException as error:
            if not is_decoder_failure(error):
                raise
            return Bad(reason_of(error, self.files[0]))


def find_items(path: Path, say: Say = silent) -> tuple[Item, ...]:
    """Everything under a path that can get an answer, in natural order of names.

    Args:
        path: a file, a folder, or a DICOMDIR. Headers of DICOM files are read, nothing else.
        say: told how many files are no images, or copies of one.

    Raises:
        EmptyDataError: there is no image.
    """
    if not path.exists():
        raise EmptyDataError(f"{path} does not exist.", "Check the spelling.")
    root, paths = path, [path]
    if path.is_dir():
        paths = visible_files(path)
    else:
        root = path.parent
        if file_kind(path) == "dicomdir":
            paths, _ = indexed_images(path)
    headers = [header for header in map(read_slice_header, paths) if header is not None]
    items = [
        one for series in group_slices(h for h in headers if h.is_image) for one in _of(series)
    ]
    dicom = {header.path for header in headers}
    items += [Item("", "", (file,)) for file in paths if file not in dicom and is_image_file(file)]
    if not items:
        raise EmptyDataError(
            f"{path} holds {count_of(len(paths), 'file')}, but no image.",
            "Give DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG or TIFF files; see: "
            "dinorad-rt inspect PATH",
        )
    others = len(paths) - len({file for item in items for file in item.files})
    if others:
        say(f"files without an answer (reports, plans, text, copies of a slice): {others}")
    named = [_named(item, root) for item in items]
    return tuple(sorted(named, key=lambda item: natural_key(item.files[0])))


def _of(series: Series) -> Iterator[Item]:
    if series.modality in PROJECTIONS or (series.modality is None and series.geometry is None):
        for file in series.files:
            yield Item("", "", (file,), replace(series, files=(file,), geometry=None))
    else:
        yield Item("", "", series.files, series)


def _named(item: Item, root: Path) -> Item:
    first = item.files[0]
    name = first.relative_to(root).as_posix() if first.is_relative_to(root) else first.name
    return replace(item, name=name, key=pseudonym("prediction", name)[:16])


def fingerprint(items: Sequence[Item]) -> str:
    """SHA-256 over keys and traces of all items: tells whether a folder is still the same."""
    return sha256_json([[item.key, [trace_of(file) for file in item.files]] for item in items])


def ahead(
    function: Callable[[Given], Made], given: Iterable[Given], *, workers: int, limit: int
) -> Iterator[tuple[Given, Made]]:
    """Results of a function in order, computed by threads at most `limit` items ahead."""
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="read") as pool:
        waiting: list[tuple[Given, Future[Made]]] = []
        try:
            for one in given:
                waiting.append((one, pool.submit(function, one)))
                if len(waiting) > limit:
                    done, future = waiting.pop(0)
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
