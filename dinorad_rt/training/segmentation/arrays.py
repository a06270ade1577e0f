"""`ArrayStore`: one array per image or volume on disk, read by random access while training.

What a frozen backbone makes of an image never changes, so it is computed once: patch tokens by the
engine (float16), masks on the network's grid (uint8), grey slices and volumes. The embedding
store's Parquet is for streaming whole columns; training draws single slices in random order, which
memory-mapped .npy files give without reading anything else. A file is complete or absent, so a
filling that was stopped goes on with the missing ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import DataError, EmptyDataError, MaskError
from dinorad_rt.files import atomic_path, sha256_json, write_json
from dinorad_rt.paths import cache_dir

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample

FACTS = "facts.json"
OPEN_FILES = 512


@dataclass(frozen=True)
class ArrayStore:
    """Arrays of one kind by sample id.

    Attributes:
        folder: where they lie.
        question: what they answer; the folder's name is its hash.
        failures: sample id → why there is no array.
    """

    folder: Path
    question: dict[str, Any]
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, question: Mapping[str, Any]) -> ArrayStore:
        """The store of a question in the cache; empty if it is asked for the first time."""
        folder = cache_dir("arrays") / sha256_json(question)[:32]
        if not (folder / FACTS).is_file():
            write_json(folder / FACTS, question)
        return cls(folder, dict(question))

    def missing(self, samples: Iterable[Sample]) -> list[Sample]:
        """Those that still have to be computed."""
        return [sample for sample in samples if not self.path(sample.sample_id).is_file()]

    def path(self, sample_id: str) -> Path:
        """Where an array lies, or will."""
        return self.folder / f"{sample_id}.npy"

    def write(self, sample_id: str, array: np.ndarray) -> None:
        """Keep an array.

        Raises:
            NoSpaceError: the disk is full; nothing half-written is left.
        """
        with atomic_path(self.path(sample_id)) as part, part.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def fail(self, sample_id: str, reason: str) -> None:
        """Note why a sample has no array; the next filling tries it again."""
        self.failures.setdefault(sample_id, reason)

    def read(self, sample_id: str) -> np.ndarray:
        """An array, mapped read-only.

        Raises:
            DataError: it was damaged.
        """
        path = self.path(sample_id)
        try:
            return _mapped(str(path))
        except (ValueError, EOFError) as error:
            raise DataError(
                f"An array in {path.parent} is damaged: {error}.",
                f"Delete it and run the same command again: rm {path}",
            ) from error

    def nbytes(self, samples: Iterable[Sample]) -> int:
        """Bytes on disk of the arrays of some samples."""
        paths = (self.path(sample.sample_id) for sample in samples)
        return sum(path.stat().st_size for path in paths if path.is_file())


def usable(samples: Sequence[Sample], *stores: ArrayStore, what: str) -> list[Sample]:
    """Samples that every store has an array of.

    Raises:
        EmptyDataError: there is none; with the first reasons.
    """
    kept = [
        sample
        for sample in samples
        if all(store.path(sample.sample_id).is_file() for store in stores)
    ]
    if kept:
        return kept
    reasons = {reason for store in stores for reason in store.failures.values()}
    listed = "\n".join(f"  {reason}" for reason in sorted(reasons)[:3])
    raise EmptyDataError(
        f"None of the {len(samples)} {what} images could be read:\n{listed}",
        "Check the data with `dinorad-rt inspect`.",
    )


def check_lengths(samples: Sequence[Sample], *stores: ArrayStore) -> None:
    """Refuse samples of which the stores hold different numbers of slices.

    Raises:
        MaskError: with how many there are.
    """
    wrong = []
    for sample in samples:
        counts = [len(store.read(sample.sample_id)) for store in stores]
        if len(set(counts)) > 1:
            wrong.append(counts)
    if wrong:
        raise MaskError(
            f"{len(wrong)} of {len(samples)} images have another number of slices than their masks "
            f"(such as {' and '.join(map(str, wrong[0]))}).",
            "Give masks on the grid of their images.",
        )


@lru_cache(maxsize=OPEN_FILES)
def _mapped(path: str) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
