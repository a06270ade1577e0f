"""Datasets by name."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import TABLE_NAME, open_dataset
from dinorad_rt.errors import OutputExistsError, unknown_name
from dinorad_rt.files import space_errors_named
from dinorad_rt.paths import cache_dir

Progress = Callable[[str], None]
Opener = Callable[[Path | None, Progress | None], Dataset]
"""Opens a dataset from the folder of its files (None for the default place)."""

_PHANTOM_TABLES = {
    "phantom": "",
    "phantom-findings": "xray",
    "phantom-ct": "ct",
    "phantom-mr": "mr",
}
"""Name → folder of the table below the phantoms' root."""


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a dataset before it is opened.

    Attributes:
        opener: see `Opener`.
    """

    name: str
    title: str
    modality: str
    task: str
    licence: str
    opener: Opener


def dataset_named(
    name: str, root: Path | None = None, *, progress: Progress | None = None
) -> Dataset:
    """Open a registered dataset.

    Args:
        name: one of `dinorad-rt list datasets`.
        root: where its files lie, or shall lie for `phantom`; None for the cache.
        progress: called with a line of text per step, where something has to be made.

    Raises:
        UnknownNameError: not registered.
        DataError: its files are not there or not complete.
    """
    if name not in _ENTRIES:
        raise unknown_name("dataset", name, _ENTRIES, "dinorad-rt list datasets")
    return replace(_ENTRIES[name].opener(root, progress), name=name)


def list_datasets() -> tuple[dict[str, str], ...]:
    """One row of text per registered dataset."""
    return tuple(
        {
            "name": entry.name,
            "dataset": entry.title,
            "modality": entry.modality,
            "task": entry.task,
            "licence": entry.licence,
        }
        for entry in _ENTRIES.values()
    )


def _phantom_opener(sub_folder: str) -> Opener:
    def open_phantom(root: Path | None, progress: Progress | None) -> Dataset:
        from dinorad_rt.phantoms import PHANTOM_VERSION

        folder = cache_dir("phantoms") / f"v{PHANTOM_VERSION}" if root is None else root
        if not (folder / TABLE_NAME).is_file():
            _make_phantoms(folder, progress)
        return open_dataset(folder / sub_folder)

    return open_phantom


def _make_phantoms(folder: Path, progress: Progress | None) -> None:
    """Write the phantoms beside their place, then move them there whole."""
    from dinorad_rt.phantoms import write_phantoms

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(
            f"{folder} holds something else than phantoms.", "Choose an empty or new --root."
        )
    with space_errors_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            write_phantoms(part, progress=progress)
            os.chmod(part, 0o755)
            part.rename(folder)
        except OSError:
            if not (folder / TABLE_NAME).is_file():  # else another process was first
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _phantom(name: str, title: str, modality: str, task: str) -> DatasetEntry:
    opener = _phantom_opener(_PHANTOM_TABLES[name])
    return DatasetEntry(name, f"invented patients: {title}", modality, task, "Apache-2.0", opener)


_ENTRIES: dict[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        _phantom("phantom", "chest X-ray, normal or abnormal", "X-ray", "binary"),
        _phantom("phantom-findings", "chest X-ray findings", "X-ray", "multi-label"),
        _phantom("phantom-ct", "CT volumes", "CT", "multi-class"),
        _phantom("phantom-mr", "MR, tumour or none", "MR", "binary"),
    )
}
