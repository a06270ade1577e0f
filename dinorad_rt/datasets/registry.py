"""Datasets by name: the phantoms, which are made, and downloads in their official layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.entry import DatasetEntry, Wishes
from dinorad_rt.datasets.facts import Progress as Counted
from dinorad_rt.datasets.open import TABLE_NAME, TaskChoice, open_dataset
from dinorad_rt.errors import OutputExistsError, unknown_name
from dinorad_rt.files import atomic_folder
from dinorad_rt.parts import is_in_use
from dinorad_rt.paths import cache_dir

Progress = Callable[[str], None]

MIN_TOLD = 200
_PHANTOM_TABLES = {
    "phantom": "",
    "phantom-findings": "xray",
    "phantom-ct": "ct",
    "phantom-mr": "mr",
}
"""Name → folder of the table below the phantoms' root."""


def dataset_named(
    name: str,
    root: Path | None = None,
    *,
    progress: Progress | None = None,
    task: TaskChoice = "auto",
    splits: str | Path | None = None,
    seed: int = 0,
) -> Dataset:
    """Open a registered dataset.

    Args:
        name: one of `dinorad-rt list datasets`.
        root: where its files lie, or shall lie for `phantom`; None for the cache.
        progress: called with a line of text per step, where something has to be made or read.
        task: for sets with several truths, such as Montgomery (lungs, or tuberculosis).
        splits: a split list to follow, or `patient`; see `registered.open_registered`.
        seed: of splits that are made.

    Raises:
        UnknownNameError: not registered.
        DataError: its files are not there or not complete.
    """
    entry = entry_named(name)
    if name in _PHANTOM_TABLES:
        opened = _open_phantom(name, root, progress, splits, seed)
        return replace(opened, name=name)
    from dinorad_rt.datasets.registered import open_registered

    wishes = Wishes(task, counted(progress))
    listing = None if splits is None else Path(splits).expanduser()
    return open_registered(entry, root, wishes, splits=listing, seed=seed)


def entry_named(name: str) -> DatasetEntry:
    """What is known of a dataset.

    Raises:
        UnknownNameError: not registered.
    """
    entries = all_entries()
    if name not in entries:
        raise unknown_name("dataset", name, entries, "dinorad-rt list datasets")
    return entries[name]


@lru_cache(maxsize=1)
def all_entries() -> dict[str, DatasetEntry]:
    """Every registered dataset by name: phantoms, the study's twelve, others, MedMNIST."""
    from dinorad_rt.datasets.catalogue import MEDMNIST, OTHERS, STUDY

    return {entry.name: entry for entry in (*_PHANTOMS, *STUDY, *OTHERS, *MEDMNIST)}


def list_datasets() -> tuple[dict[str, str], ...]:
    """One row of text per registered dataset; the larger sizes of MedMNIST share one with 28."""
    return tuple(
        {
            "name": entry.name,
            "dataset": entry.title,
            "modality": entry.modality,
            "task": entry.task,
            "classes": str(len(entry.classes) or "-"),
            "train, val, test": ", ".join(f"{count:,}" for count in entry.counts.values()) or "-",
            "licence": entry.licence,
            "study": "yes" if entry.study else "",
        }
        for entry in all_entries().values()
        if not entry.name.endswith(("_64", "_128", "_224"))
    )


def counted(progress: Progress | None) -> Counted | None:
    """A progress in lines of text as one of numbers; what is quickly done is not told."""
    if progress is None:
        return None
    say = progress

    def told(what: str, done: int, total: int) -> None:
        if total >= MIN_TOLD:
            say(f"{what}: {done:,} of {total:,}")

    return told


def _open_phantom(
    name: str,
    root: Path | None,
    progress: Progress | None,
    splits: str | Path | None,
    seed: int,
) -> Dataset:
    from dinorad_rt.phantoms import PHANTOM_VERSION

    folder = cache_dir("phantoms") / f"v{PHANTOM_VERSION}" if root is None else root
    if not (folder / TABLE_NAME).is_file():
        _make_phantoms(folder, progress)
    return open_dataset(folder / _PHANTOM_TABLES[name], splits=splits, seed=seed)


def _make_phantoms(folder: Path, progress: Progress | None) -> None:
    """Write the phantoms beside their place, then move them there whole."""
    from dinorad_rt.phantoms import write_phantoms

    if folder.exists() and (not folder.is_dir() or is_in_use(folder)):
        raise OutputExistsError(
            f"{folder} holds something else than phantoms.", "Choose an empty or new --root."
        )
    try:
        with atomic_folder(folder, TABLE_NAME) as part:
            write_phantoms(part, progress=progress)
    except (OSError, OutputExistsError):
        if not (folder / TABLE_NAME).is_file():  # else another process was first
            raise


def _phantom(name: str, title: str, modality: str, task: str) -> DatasetEntry:
    return DatasetEntry(name, f"invented patients: {title}", modality, task, "Apache-2.0")


_PHANTOMS = (
    _phantom("phantom", "chest X-ray, normal or abnormal", "X-ray", "binary"),
    _phantom("phantom-findings", "chest X-ray findings", "X-ray", "multilabel"),
    _phantom("phantom-ct", "CT volumes", "CT", "multiclass"),
    _phantom("phantom-mr", "MR, tumour or none", "MR", "binary"),
)
