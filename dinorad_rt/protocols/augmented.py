"""Training images cropped and flipped anew for every epoch, through the engine; nothing is kept.

The study and DINOv2 train their linear heads so: `RandomResizedCrop`, then a horizontal flip of
every second image. The crop is cut from the pixels as they were read, before window and resize.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.errors import ProtocolError

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.embeddings.table import EmbeddingTable
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.studies.study import Study

RATIO = (3 / 4, 4 / 3)
_TRIES = 10
_BATCH = 32


class AugmentedImages:
    """The images of a dataset, and the engine that embeds what is cut from them.

    Args:
        samples: of the dataset.
        engine: the one that computed the stored embeddings.
        spec: their preprocessing.
        workers: threads that read and preprocess; None for one per core.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        engine: Engine,
        spec: PreprocessSpec,
        *,
        workers: int | None = None,
    ) -> None:
        self._samples = {sample.sample_id: sample for sample in samples}
        self._engine, self._spec = engine, spec
        self._workers = workers or os.cpu_count() or 1

    def epochs(
        self, table: EmbeddingTable, count: int, scale: tuple[float, float], seed: int
    ) -> Iterator[EmbeddingTable]:
        """The rows of a table, embedded from new crops for each of `count` epochs.

        Args:
            table: rows of single images.
            count: number of epochs.
            scale: smallest and largest part of the area that a crop keeps.
            seed: same seed, same crops.

        Raises:
            ProtocolError: the rows are slices of volumes.
        """
        from dinorad_rt.engines.build import open_runner
        from dinorad_rt.preprocessing.pipeline import Preprocessor

        if len(np.unique(table.sample_ids.astype(str))) < len(table):
            raise ProtocolError(
                "Augmented probing takes single images; these are slices of volumes.",
                "Leave it out: --set augment=false",
            )
        preprocess = Preprocessor(self._spec)
        with open_runner(self._engine) as runner, ThreadPoolExecutor(self._workers) as pool:
            for epoch in range(count):

                def image(row: int, epoch: int = epoch) -> np.ndarray:
                    random = np.random.default_rng([seed, epoch, row])
                    study = self._read(str(table.sample_ids[row]))
                    return preprocess(augmented(study, scale, random))

                parts = []
                for start in range(0, len(table), _BATCH):
                    rows = range(start, min(start + _BATCH, len(table)))
                    parts.append(runner.infer(np.stack(list(pool.map(image, rows)))))
                joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
                yield replace(table, cls=joined["cls"], patch_mean=joined.get("patch_mean"))

    def _read(self, sample_id: str) -> Study:
        from dinorad_rt.studies.read import read_study

        sample = self._samples[sample_id]
        return read_study(sample.path, frame=sample.frame).displayed()


def augmented(study: Study, scale: tuple[float, float], random: np.random.Generator) -> Study:
    """A random part of a one-slice study, flipped left to right every second time."""
    height, width = study.pixels.shape[1:3]
    top, left, rows, columns = crop_box(height, width, scale, random)
    pixels = study.pixels[:, top : top + rows, left : left + columns]
    if random.random() < 0.5:
        pixels = pixels[:, :, ::-1]
    return replace(study, pixels=np.ascontiguousarray(pixels))


def crop_box(
    height: int, width: int, scale: tuple[float, float], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, rows and columns as torchvision's `RandomResizedCrop` draws them.

    The area is uniform in `scale`, the logarithm of the aspect uniform between 3/4 and 4/3; after
    ten boxes that do not fit, the largest central one within these aspects.
    """
    for _ in range(_TRIES):
        area = height * width * random.uniform(*scale)
        aspect = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(random.integers(height - rows + 1))
            return top, int(random.integers(width - columns + 1)), rows, columns
    aspect = min(max(width / height, RATIO[0]), RATIO[1])
    columns = min(width, max(1, round(height * aspect)))
    rows = min(height, max(1, round(width / aspect)))
    return (height - rows) // 2, (width - columns) // 2, rows, columns
