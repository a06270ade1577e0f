"""`EmbeddingStore`: a folder of Parquet shards and the provenance of what they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt.embeddings import shards
from dinorad_rt.embeddings.provenance import FORMAT, layout_of, refuse_other
from dinorad_rt.embeddings.shards import Footer, Layout, read_footer, shard_path
from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable, Failure, joined
from dinorad_rt.errors import DataError, unknown_name
from dinorad_rt.files import (
    atomic_path,
    claim_output_dir,
    json_text,
    read_json,
    write_once,
)
from dinorad_rt.types import SPLITS, Split

PROVENANCE = "provenance.json"
FAILURES = "failures.parquet"
CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Throughput:
    """What one run of `embed` did; told to the user, never stored.

    Attributes:
        images: samples that this run embedded, without those of earlier runs.
        seconds: from the first file to the last shard; loading the engine is not counted.
        mode: threads or processes decoded.
        workers: how many.
    """

    images: int
    seconds: float
    mode: str
    workers: int

    @property
    def images_per_s(self) -> float:
        """Images per second, end to end."""
        return self.images / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class EmbeddingStore:
    """Embeddings of one dataset by one engine, with labels, patients and splits.

    Attributes:
        folder: where it lies.
        provenance: what it holds, as in provenance.json.
        throughput: of the run of `embed` that gave this object; None if nothing was computed.
    """

    folder: Path
    provenance: dict[str, Any]
    throughput: Throughput | None = field(default=None, compare=False)

    @classmethod
    def open(cls, folder: str | Path) -> EmbeddingStore:
        """Open a store that was made before.

        Raises:
            DataError: there is none, or it is of another version.
        """
        folder = Path(folder)
        try:
            provenance = read_json(folder / PROVENANCE)
        except (OSError, ValueError, json.JSONDecodeError) as error:
            raise DataError(
                f"{folder} is no embedding store: its {PROVENANCE} cannot be read ({error}).",
                "Make one: dinorad-rt embed --out DIR",
            ) from error
        if provenance.get("format") != FORMAT:
            raise DataError(
                f"The store in {folder} has format {provenance.get('format')}; known is {FORMAT}.",
                "Make it again: dinorad-rt embed --out DIR",
            )
        return cls(folder, provenance)

    @classmethod
    def create(cls, folder: str | Path, provenance: Mapping[str, Any]) -> EmbeddingStore:
        """Make a store, or open the one that is there if it answers the same question.

        Several processes may do so at the same time.

        Raises:
            OutputExistsError: the folder holds something else, or a store of another engine,
                preprocessing or dataset; the message says which of them.
            NoSpaceError: the disk is full.
        """
        folder = Path(folder)
        claim_output_dir(folder, PROVENANCE)
        if not (folder / PROVENANCE).exists():
            write_once(folder / PROVENANCE, json_text(provenance))
        found = read_json(folder / PROVENANCE)
        refuse_other(folder, found, provenance)
        return cls(folder, found)

    @property
    def key(self) -> str:
        """SHA-256 over engine, preprocessing, dataset and pseudonyms."""
        return str(self.provenance["key"])

    @property
    def layout(self) -> Layout:
        """Shape of the rows."""
        return layout_of(self.provenance)

    @property
    def num_shards(self) -> int:
        """Shards of the whole store, written or not."""
        return int(self.provenance["layout"]["shards"])

    @property
    def shard_rows(self) -> int:
        """Samples per shard; the last one may have fewer."""
        return int(self.provenance["layout"]["shard_rows"])

    def dataset_info(self) -> DatasetInfo:
        """Task, classes and name of the dataset."""
        return DatasetInfo.from_dict(self.provenance["dataset"])

    def footers(self, indexes: Iterable[int] | None = None) -> dict[int, Footer]:
        """Index → rows and failures, of the complete shards among `indexes` (all by default)."""
        wanted = range(self.num_shards) if indexes is None else indexes
        found = {index: read_footer(shard_path(self.folder, index), self.key) for index in wanted}
        return {index: footer for index, footer in found.items() if footer is not None}

    def missing_shards(self) -> tuple[int, ...]:
        """Shards that are not written yet."""
        return tuple(sorted(set(range(self.num_shards)) - set(self.footers())))

    def load(self, *splits: Split, partial: bool = False) -> EmbeddingTable:
        """Rows of some splits in memory, in the order of file names.

        Args:
            splits: train, val, test; none for all.
            partial: take what is there of an unfinished store.

        Raises:
            DataError: the store is not finished, or a shard is damaged.
        """
        chunks = list(self.chunks(*splits, partial=partial))
        return joined(chunks) if chunks else _empty(self.layout, self.dataset_info())

    def chunks(
        self, *splits: Split, rows: int = CHUNK_ROWS, partial: bool = False
    ) -> Iterator[EmbeddingTable]:
        """The rows that `load` gives, at most `rows` at a time: for more than fits in memory.

        Raises:
            DataError: as `load`.
        """
        for split in splits:
            if split not in SPLITS:
                raise unknown_name("split", split, SPLITS, "dinorad-rt embed --help")
        present = self.footers()
        if len(present) < self.num_shards and not partial:
            raise DataError(
                f"The store in {self.folder} is not finished: {len(present)} of "
                f"{self.num_shards} shards are there.",
                "Run the same embed command again: it goes on where it stopped.",
            )
        return self._chunks(sorted(present), splits or SPLITS, rows)

    def _chunks(
        self, indexes: Sequence[int], splits: Sequence[Split], rows: int
    ) -> Iterator[EmbeddingTable]:
        layout = self.layout
        for index in indexes:
            yield from shards.read_rows(shard_path(self.folder, index), layout, splits, rows)

    def failures(self) -> list[Failure]:
        """Files, and slices of volumes, that could not be embedded."""
        paths = self._failure_paths()
        return [
            replace(failure, path=paths.get(failure.sample_id, ""))
            for _, footer in sorted(self.footers().items())
            for failure in footer.failures
        ]

    def write_failures(self, names: Mapping[str, str]) -> list[Failure]:
        """Write failures.parquet from what the shards say.

        Args:
            names: sample id → path relative to the dataset's root.
        """
        while True:  # another part may finish a shard, and write its list, during ours
            present = self.footers()
            found = [
                replace(item, path=names.get(item.sample_id, ""))
                for _, footer in sorted(present.items())
                for item in footer.failures
            ]
            _write_failures(self.folder / FAILURES, found)
            if self.footers().keys() == present.keys():
                return found

    def summary(self) -> dict[str, Any]:
        """What the store holds, in plain values for people."""
        footers = self.footers()
        engine, data = self.provenance["engine"], self.provenance["dataset"]
        facts = {
            "store": str(self.folder),
            "model": engine["model"],
            "weights": engine["weights_kind"],
            "engine": f"{engine['backend']} {engine['precision']}",
            "dataset": data["name"],
            "images": data["samples"],
            "rows": sum(footer.rows for footer in footers.values()),
            "failures": sum(len(footer.failures) for footer in footers.values()),
            "shards": f"{len(footers)} of {self.num_shards}",
            "cls": " x ".join(map(str, self.layout.cls)),
            "patch_mean": self.layout.patch_mean or "none",
            "key": self.key[:16],
        }
        if self.throughput is not None:
            facts["images_per_s"] = round(self.throughput.images_per_s, 1)
        return facts

    def _failure_paths(self) -> dict[str, str]:
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(self.folder / FAILURES, columns=["sample_id", "path"])
        except (OSError, ValueError):
            return {}
        columns = (table.column(name).to_pylist() for name in ("sample_id", "path"))
        return dict(zip(*columns, strict=True))


def _write_failures(target: Path, failures: Sequence[Failure]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("slice", pa.int32()),
        ]
    )
    columns = {name: [getattr(item, name) for item in failures] for name in schema.names}
    with atomic_path(target) as part:
        pq.write_table(pa.table(columns, schema), part)


def _empty(layout: Layout, dataset: DatasetInfo) -> EmbeddingTable:
    labels = (0, len(dataset.class_names)) if layout.multilabel else (0,)
    none = np.empty(0, np.str_)
    mean = None
    if layout.patch_mean is not None:
        mean = np.empty((0, layout.patch_mean), np.float32)
    return EmbeddingTable(
        sample_ids=none,
        patients=none,
        splits=none,
        labels=np.empty(labels, np.int64),
        cls=np.empty((0, *layout.cls), np.float32),
        patch_mean=mean,
        slices=np.empty(0, np.int32),
    )
