"""One shard: a Parquet file that is complete or absent, and carries its own failures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.embeddings.table import EmbeddingTable, Failure
from dinorad_rt.errors import DataError
from dinorad_rt.files import atomic_path, space_errors_named

if TYPE_CHECKING:
    import pyarrow as pa

    from dinorad_rt.datasets.dataset import Sample

ROW_GROUP = 256
"""Rows that are held in memory before they go to disk."""
_METADATA = b"dinorad_rt"
_NAME = "shard-{:06d}.parquet"


@dataclass(frozen=True)
class Layout:
    """What the rows of a store look like.

    Attributes:
        key: of the store; each shard names it, so that shards of two stores cannot be mixed up.
        cls: (blocks, dim).
        patch_mean: dim, or None for backbones without patches.
        multilabel: labels are 0/1 vectors and no class indices.
    """

    key: str
    cls: tuple[int, int]
    patch_mean: int | None = None
    multilabel: bool = False

    def schema(self) -> pa.Schema:
        """Columns of a shard."""
        import pyarrow as pa

        columns = [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("patient", pa.string(), nullable=False),
            pa.field("study", pa.string()),
            pa.field("series", pa.string()),
            pa.field("slice", pa.int32()),
            pa.field("split", pa.string(), nullable=False),
            pa.field("labels", pa.list_(pa.int64()), nullable=False),
            pa.field("cls", pa.list_(pa.float32(), self.cls[0] * self.cls[1]), nullable=False),
        ]
        if self.patch_mean is not None:
            kind = pa.list_(pa.float32(), self.patch_mean)
            columns.append(pa.field("patch_mean", kind, nullable=False))
        return pa.schema(columns)


@dataclass(frozen=True)
class RowKey:
    """Everything of a stored row but its embeddings."""

    sample: Sample
    slice: int | None = None
    study: str | None = None
    series: str | None = None


@dataclass(frozen=True)
class Footer:
    """What the end of a shard says without reading its rows."""

    rows: int
    samples: int
    failures: tuple[Failure, ...]


def shard_path(folder: Path, index: int) -> Path:
    """Where a shard lies."""
    return folder / _NAME.format(index)


class ShardWriter:
    """Collects the rows of one shard; `finish` gives the file its name, `abort` leaves nothing."""

    def __init__(self, target: Path, layout: Layout) -> None:
        import pyarrow.parquet as pq

        self._target, self._schema = target, layout.schema()
        self._key = layout.key
        self._failures: list[Failure] = []
        self._keys: list[RowKey] = []
        self._values: dict[str, list[np.ndarray]] = {"cls": [], "patch_mean": []}
        self._stack = ExitStack()
        with space_errors_named(target):
            self._part = self._stack.enter_context(atomic_path(target))
            self._handle = os.open(self._part, os.O_RDWR)
            self._writer = pq.ParquetWriter(
                self._part,
                self._schema,
                compression={name: _compression(name) for name in self._schema.names},
                use_dictionary=["sample_id", "patient", "study", "series", "split"],
                write_statistics=["split", "slice"],
            )

    def add(self, keys: Sequence[RowKey], cls: np.ndarray, patch_mean: np.ndarray | None) -> None:
        """Take rows: (rows, blocks * dim) and (rows, dim) float32."""
        for start in range(0, len(keys), ROW_GROUP):
            part = slice(start, start + ROW_GROUP)
            self._hold(keys[part], cls[part], None if patch_mean is None else patch_mean[part])

    def fail(self, failure: Failure) -> None:
        """Note a file or slice that gave no row; its path is not kept."""
        self._failures.append(failure)

    def finish(self, samples: int) -> None:
        """Write what is held, close the file and rename it.

        Raises:
            NoSpaceError: the disk is full; nothing is left behind.
        """
        failures = [[item.sample_id, item.slice, item.reason] for item in self._failures]
        facts = {"key": self._key, "samples": samples, "failures": failures}
        with space_errors_named(self._target):
            self._flush()
            self._writer.add_key_value_metadata({_METADATA: json.dumps(facts).encode()})
            self._writer.close()
            os.fsync(self._handle)
            self._stack.close()
        os.close(self._handle)

    def abort(self, error: BaseException) -> None:
        """Remove the unfinished file."""
        with suppress(Exception):
            self._writer.close()
        with suppress(BaseException):
            self._stack.__exit__(type(error), error, error.__traceback__)
        with suppress(OSError):
            os.close(self._handle)

    def _hold(self, keys: Sequence[RowKey], cls: np.ndarray, mean: np.ndarray | None) -> None:
        room = ROW_GROUP - len(self._keys)
        for part in (slice(0, room), slice(room, None)):
            if len(keys[part]):
                self._keys.extend(keys[part])
                self._values["cls"].append(cls[part])
                if mean is not None:
                    self._values["patch_mean"].append(mean[part])
            if len(self._keys) == ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        if not self._keys:
            return
        with space_errors_named(self._target):
            self._writer.write_table(self._table())
        self._keys.clear()
        for values in self._values.values():
            values.clear()

    def _table(self) -> pa.Table:
        import pyarrow as pa

        samples = [key.sample for key in self._keys]
        columns: dict[str, Any] = {
            "sample_id": [sample.sample_id for sample in samples],
            "patient": [sample.patient for sample in samples],
            "study": [key.sample.study or key.study for key in self._keys],
            "series": [key.sample.series or key.series for key in self._keys],
            "slice": [key.slice for key in self._keys],
            "split": [sample.split for sample in samples],
            "labels": [list(sample.labels) for sample in samples],
        }
        arrays = {name: pa.array(v, self._schema.field(name).type) for name, v in columns.items()}
        for name, parts in self._values.items():
            if parts:
                flat = pa.array(np.concatenate(parts).reshape(-1))
                width = self._schema.field(name).type.list_size
                arrays[name] = pa.FixedSizeListArray.from_arrays(flat, width)
        return pa.Table.from_pydict(arrays, self._schema)


def read_footer(path: Path, key: str) -> Footer | None:
    """Rows and failures of a shard; None if it is absent or no whole shard of this store."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
        facts = json.loads((metadata.metadata or {})[_METADATA])
        failures = tuple(Failure(ident, "", why, at) for ident, at, why in facts["failures"])
    except (FileNotFoundError, pa.ArrowInvalid, KeyError, ValueError):
        return None
    if facts["key"] != key:
        return None
    return Footer(int(metadata.num_rows), int(facts["samples"]), failures)


def read_rows(
    path: Path, layout: Layout, splits: Iterable[str], rows: int
) -> Iterator[EmbeddingTable]:
    """Rows of some splits, at most `rows` at a time.

    Raises:
        DataError: the shard is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = pa.array(list(splits), pa.string())
    columns = [n for n in layout.schema().names if n not in ("study", "series")]
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                kept = batch.filter(pc.is_in(batch.column("split"), value_set=wanted))
                if kept.num_rows:
                    yield _as_table(kept, layout)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path.name} of the store cannot be read: {error}",
            f"Delete it and run the same embed command again: rm {path}",
        ) from error


def _as_table(batch: pa.RecordBatch, layout: Layout) -> EmbeddingTable:
    import pyarrow.compute as pc

    rows = batch.num_rows
    labels = batch.column("labels")
    width = len(labels[0])
    flat = labels.flatten().to_numpy(zero_copy_only=False).reshape(rows, width)
    cls = _matrix(batch.column("cls"), rows).reshape(rows, *layout.cls)
    mean = None if layout.patch_mean is None else _matrix(batch.column("patch_mean"), rows)
    slices = pc.fill_null(batch.column("slice"), -1).to_numpy(zero_copy_only=False)
    return EmbeddingTable(
        sample_ids=_strings(batch, "sample_id"),
        patients=_strings(batch, "patient"),
        splits=_strings(batch, "split"),
        labels=flat if layout.multilabel else flat[:, 0],
        cls=cls,
        patch_mean=mean,
        slices=slices,
    )


def _matrix(column: pa.Array, rows: int) -> np.ndarray:
    """The caller's own copy: Arrow's memory is read-only."""
    return np.array(column.flatten()).reshape(rows, -1)


def _strings(batch: pa.RecordBatch, name: str) -> np.ndarray:
    return np.asarray(batch.column(name).to_pylist(), dtype=np.str_)


def _compression(name: str) -> str:
    """Embeddings are noise to a compressor; the rest repeats itself."""
    return "none" if name in ("cls", "patch_mean") else "zstd"
