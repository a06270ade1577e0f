"""Filling of array stores: patch tokens by the engine, masks and grey slices on its grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.datasets.masks import read_mask_study
from dinorad_rt.embeddings.loader import Batch, Loader, Row, pack
from dinorad_rt.errors import DinoradError, EngineError, LabelError, MaskError, ProtocolError
from dinorad_rt.identifiers import reason_of
from dinorad_rt.progress import Progress
from dinorad_rt.training.segmentation.arrays import ArrayStore
from dinorad_rt.training.segmentation.grid import in_plane, mask_to_grid

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.runners.base import Rows

FORMAT = 1


def question_of(kind: str, dataset: Dataset, spec: PreprocessSpec, **more: Any) -> dict[str, Any]:
    """What a store's arrays depend on, in plain values without paths."""
    if "masks" in kind:
        more = {"axes": "of the image", **_values(dataset), **more}
    return {
        "format": FORMAT,
        "kind": kind,
        "dataset": dataset.fingerprint,
        "preprocessing": spec.as_dict(),
        "turned": "as displayed",
        **more,
    }


def _values(dataset: Dataset) -> dict[str, Any]:
    """The stored values of classes, where they are no indices."""
    values = dataset.mask_values
    if values is None or values == tuple(range(len(values))):
        return {}
    return {"values": list(values)}


def fill_tokens(
    store: ArrayStore,
    samples: Sequence[Sample],
    engine: Engine,
    spec: PreprocessSpec,
    *,
    blocks: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Patch tokens (slices, blocks, N, dim) float16 of every slice, by the engine.

    Args:
        store: those that it has are not computed again.
        samples: images or volumes.
        engine: of a dense graph.
        spec: preprocessing of the engine's size.
        blocks: the last blocks to keep.
        workers: decoders at work.
        progress: called with (done, total) samples.

    Raises:
        ProtocolError: the engine gives no patch tokens, or of fewer blocks.
        EngineError: tokens beyond float16.
        NoSpaceError: the disk is full; finished images stay.
    """
    from dinorad_rt.embeddings.embed import drive
    from dinorad_rt.engines.build import open_runner

    check_dense(engine, blocks)
    wanted = store.missing(samples)
    if not wanted:
        return
    sink = _TokenSink(store, wanted, blocks, progress)
    with (
        open_runner(engine) as runner,
        Loader(spec, workers=workers, ahead=2 * engine.batch) as loader,
        closing(pack(loader.rows(wanted), engine.batch, spec.image_size)) as batches,
    ):
        drive(runner, batches, sink)


def check_dense(engine: Engine, blocks: int) -> None:
    """Refuse an engine without the patch tokens that a decoder reads.

    Raises:
        ProtocolError: with what it gives.
    """
    tokens = engine.outputs.get("patch_tokens")
    if tokens is None:
        raise ProtocolError(
            f"The engine of {engine.model} gives {', '.join(engine.outputs)} and no patch_tokens: "
            "a decoder has nothing to read.",
            "Use a vision transformer (dinorad-rt list models), or a network from scratch: "
            "--model unet",
        )
    if tokens[0] < blocks:
        raise ProtocolError(
            f"The decoder reads the last {blocks} blocks; {engine.model} gives {tokens[0]}.",
            "Use --decoder linear.",
        )


def half_tokens(tokens: np.ndarray, blocks: int) -> np.ndarray:
    """The last blocks of patch tokens (rows, blocks, N, dim) as float16.

    Raises:
        EngineError: tokens beyond float16.
    """
    with np.errstate(over="ignore"):
        half = tokens[:, -blocks:].astype(np.float16)
    if not np.isfinite(half).all():
        raise EngineError(
            "The engine gave patch tokens that are NaN, infinite or too large for float16.",
            "Take a wider precision: --precision mixed or fp32",
        )
    return half


def fill_greys(
    store: ArrayStore,
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Slices in [0, 1] before normalisation, (slices, channels, size, size) float16.

    One channel where the preprocessing makes grey, three for colour or several windows.
    """
    wanted = store.missing(samples)
    if not wanted:
        return
    channels = 1 if spec.channels == "grey" and not spec.windows else 3
    grey = replace(spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    with Loader(grey, workers=workers) as loader:
        for done, (sample, rows) in enumerate(_by_sample(loader.rows(wanted), wanted), start=1):
            bad = next((row.reason for row in rows if row.reason), "")
            if bad:
                store.fail(sample.sample_id, bad)
            else:
                slices = [row.pixels[:channels] for row in rows if row.pixels is not None]
                store.write(sample.sample_id, np.stack(slices).astype(np.float16))
            if progress is not None:
                progress(done, len(wanted))


def fill_masks(
    store: ArrayStore, samples: Sequence[Sample], spec: PreprocessSpec, classes: int
) -> None:
    """Masks on the network's grid, (slices, size, size) uint8, turned as the image is displayed.

    Raises:
        LabelError: a mask holds a label beyond the classes.
    """
    for sample in store.missing(samples):
        try:
            study = read_mask_study(sample).displayed()
        except (LabelError, MaskError):
            raise
        except DinoradError as error:
            store.fail(sample.sample_id, reason_of(error, sample.mask or sample.path))
            continue
        check_labels(study.pixels, classes)
        slices = [mask_to_grid(one, spec, in_plane(study)) for one in study.pixels]
        store.write(sample.sample_id, np.stack(slices))


def check_labels(mask: np.ndarray, classes: int) -> None:
    """Raises: LabelError: a label beyond the classes."""
    highest = int(mask.max(initial=0))
    if highest >= classes:
        raise LabelError(
            f"A mask holds label {highest}; the dataset has {classes} classes, 0 to {classes - 1}.",
            "Name every class: --class-names background,...",
        )


class _TokenSink:
    """Collects the slices of one sample after the other and writes them."""

    def __init__(
        self, store: ArrayStore, samples: Sequence[Sample], blocks: int, progress: Progress | None
    ) -> None:
        self._store, self._samples, self._blocks = store, samples, blocks
        self._progress = progress
        self._held: list[np.ndarray] = []
        self._reason = ""

    def take(self, batch: Batch, outputs: Rows | None) -> None:
        """Keep a batch's tokens; write what is complete."""
        tokens = None if outputs is None else half_tokens(outputs["patch_tokens"], self._blocks)
        at = 0
        for row in batch.rows:
            if row.reason:
                self._reason = self._reason or row.reason
            else:
                assert tokens is not None
                self._held.append(tokens[at])
                at += 1
            if row.last:
                self._finish(row.sample)

    def _finish(self, index: int) -> None:
        ident = self._samples[index].sample_id
        if self._reason:
            self._store.fail(ident, self._reason)
        else:
            self._store.write(ident, np.stack(self._held))
        self._held, self._reason = [], ""
        if self._progress is not None:
            self._progress(index + 1, len(self._samples))


def _by_sample(
    rows: Iterator[Row], samples: Sequence[Sample]
) -> Iterator[tuple[Sample, list[Row]]]:
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if row.last:
            yield samples[row.sample], held
            held = []
