"""`ImageBank`: every image of a split decoded once, small, in memory or in one unnamed file.

Imported late: it needs torch.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import IO

import numpy as np
import torch

from dinorad_rt.datasets.dataset import Sample
from dinorad_rt.embeddings.loader import Loader
from dinorad_rt.errors import EmptyDataError
from dinorad_rt.files import space_errors_named
from dinorad_rt.paths import cache_dir
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.progress import Progress

MEMORY_SHARE = 4
"""Images of one split may fill 1/4 of the machine's memory, in all processes together; what is over
lies in a file."""


class ImageBank:
    """Preprocessed images of samples, before normalisation. Volumes give one row per slice.

    Attributes:
        samples: those that could be read, in their order.
        labels: (samples,) class indices, or (samples, classes) 0/1; int64.
        first, count: rows of each sample: `first[i]` to `first[i] + count[i]`.
        failed: reason → number of samples that could not be read.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: PreprocessSpec,
        *,
        multilabel: bool = False,
        workers: int | None = None,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Decode all.

        Args:
            samples: of one split.
            spec: the preprocessing; its mean and std are applied by `normalise`, not here.
            multilabel: whether labels are vectors.
            workers: decoders.
            limit: bytes in memory; None for a share of the machine's.
            progress: called with (samples done, all).

        Raises:
            EmptyDataError: none can be read.
            NoSpaceError: what does not fit into memory does not fit onto the disk either.
        """
        self.spec = spec
        self._channels = 1 if spec.channels == "grey" and not spec.windows else 3
        self._limit = _memory_limit() if limit is None else limit
        self._held: list[np.ndarray] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._mapped: np.ndarray | None = None
        plain = replace(spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        read: list[Sample] = []
        counts: list[int] = []
        self.failed: Counter[str] = Counter()
        rows = 0
        with Loader(plain, workers=workers) as loader:
            for row in loader.rows(samples):
                if row.pixels is None:
                    self.failed[row.reason] += 1
                else:
                    self._add(row.pixels[: self._channels])
                    rows += 1
                if row.last:
                    if rows:
                        read.append(samples[row.sample])
                        counts.append(rows)
                    rows = 0
                    if progress is not None:
                        progress(row.sample + 1, len(samples))
        self._finish()
        if not read:
            raise EmptyDataError(
                f"None of {len(samples)} images can be read: {self.failed.most_common(1)[0][0]}",
                "See what is in them: dinorad-rt inspect FOLDER",
            )
        self.samples = tuple(read)
        labels = np.asarray([sample.labels for sample in read], np.int64)
        self.labels = torch.from_numpy(labels if multilabel else labels[:, 0])
        self.count = np.asarray(counts)
        self.first = np.cumsum(self.count) - self.count

    def __len__(self) -> int:
        return len(self.samples)

    def row(self, index: int) -> torch.Tensor:
        """(channels, size, size) float32 in [0, 1]; one channel where all three are the same."""
        held = len(self._held)
        if index < held:
            return torch.from_numpy(self._held[index])
        assert self._mapped is not None
        return torch.from_numpy(np.array(self._mapped[index - held]))

    def rows(self, indices: Iterable[int]) -> torch.Tensor:
        """Rows as one batch (rows, 3, size, size), normalised."""
        return normalise(torch.stack([self.row(int(index)) for index in indices]), self.spec)

    def rows_of(self, sample: int) -> range:
        """Numbers of the rows of a sample."""
        start = int(self.first[sample])
        return range(start, start + int(self.count[sample]))

    def _add(self, pixels: np.ndarray) -> None:
        if self._file is None and self._bytes + pixels.nbytes <= self._limit:
            self._held.append(np.ascontiguousarray(pixels))
            self._bytes += pixels.nbytes
            return
        folder = cache_dir("images")
        with space_errors_named(folder / "images"):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            self._file.write(np.ascontiguousarray(pixels).tobytes())

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        side = self.spec.image_size
        mapped = np.memmap(self._file, np.float32, mode="r")
        self._file.close()  # the mapping stays
        self._mapped = mapped.reshape(-1, self._channels, side, side)


def normalise(images: torch.Tensor, spec: PreprocessSpec) -> torch.Tensor:
    """(rows, 1 or 3, size, size) in [0, 1] → (rows, 3, size, size), as the backbone wants it."""
    mean, std = (
        torch.tensor(value, dtype=images.dtype, device=images.device)[:, None, None]
        for value in (spec.mean, spec.std)
    )
    return (images - mean) / std


def _memory_limit() -> int:
    from dinorad_rt.machine import memory_gib

    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # each process holds its own
    return int(memory_gib() * 2**30 / MEMORY_SHARE / beside)
