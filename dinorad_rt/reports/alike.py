"""What a backbone sees in an image, and which images it finds alike; see `gallery`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.embeddings.table import EmbeddingTable
from dinorad_rt.errors import DataError, DinoradError
from dinorad_rt.files import sha256_file
from dinorad_rt.pipeline import EngineRequest, engine_for, preprocessing_for
from dinorad_rt.pipeline import embed as run_embed
from dinorad_rt.preprocessing.reference import picture_of
from dinorad_rt.progress import Say
from dinorad_rt.protocols.neighbours import neighbours
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.runs import Run
from dinorad_rt.reports.viewing import png_bytes, shown_study

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.reports.gallery import GalleryRequest

ALIKE = 5
SIDE = 112


def pca_maps(tokens: np.ndarray) -> np.ndarray:
    """Three principal components of the patch tokens of all images together, as colours.

    Args:
        tokens: (images, patches, dim) of a square grid.

    Returns:
        (images, side, side, 3) in [0, 1]; each component from its 1st to its 99th percentile.
        Signs are fixed by the largest weight, so that the same tokens give the same colours.
    """
    images, patches, dim = tokens.shape
    side = round(patches**0.5)
    assert side * side == patches, patches
    flat = tokens.reshape(-1, dim).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :3]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    values = centred @ (axes * signs)
    low, high = np.percentile(values, [1, 99], axis=0)
    scaled = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.asarray(scaled.reshape(images, side, side, -1))


def add_alike(page: Page, run: Run, request: GalleryRequest, say: Say) -> None:
    """Add test images with their nearest neighbours and maps of their patch tokens.

    Raises:
        DinoradError: the engine cannot be had again.
    """
    engine_request = _engine_request(run, request.weights)
    engine = engine_for(engine_request, say)
    evaluation = run.results.provenance.get("evaluation") or {}
    spec = preprocessing_for(engine, str(evaluation.get("preprocessing", "dinorad")))
    table = run_embed(request.dataset, engine, preprocessing=spec).load()
    samples = {sample.sample_id: sample for sample in request.dataset.samples}
    shown = _Shown(samples, spec, request)
    queries = shown.first(_spread(table.take(table.splits == "test")), request.queries)
    if not queries:
        page.paragraph("No test image may be shown.", soft=True)
        return
    _add_neighbours(page, table, queries, shown, run)
    if table.patch_mean is None:
        page.paragraph("This backbone has no patch tokens: no maps.", soft=True)
    else:
        _add_maps(page, engine_request, queries, shown, say)


@dataclass(frozen=True)
class _Query:
    """A row of the embeddings and its picture."""

    row: int
    sample_id: str
    pixels: np.ndarray
    words: str


class _Shown:
    """Reads images for showing, and keeps those back that may not be shown."""

    def __init__(
        self, samples: Mapping[str, Sample], spec: PreprocessSpec, request: GalleryRequest
    ) -> None:
        from dinorad_rt.preprocessing.pipeline import Preprocessor

        self._samples, self._spec, self._request = samples, spec, request
        self._preprocess = Preprocessor(spec)

    def first(self, rows: EmbeddingTable, count: int) -> list[_Query]:
        """The first rows whose images may be shown."""
        found: list[_Query] = []
        for at, sample_id in enumerate(rows.sample_ids):
            if len(found) == count:
                break
            pixels = self.pixels(sample_id, _slice(rows, at))
            if pixels is not None:
                found.append(_Query(at, sample_id, pixels, self.words(sample_id)))
        return found

    def pixels(self, sample_id: str, index: int) -> np.ndarray | None:
        """Network input (3, size, size) of a sample; None if it may not or cannot be shown."""
        study = shown_study(self._samples[sample_id], burned_in=self._request.burned_in)
        if study is None:
            return None
        try:
            return self._preprocess(study.displayed().slice(max(index, 0)))
        except DinoradError:
            return None

    def words(self, sample_id: str) -> str:
        """Its labels in words."""
        labels, names = self._samples[sample_id].labels, self._request.dataset.class_names
        if self._request.dataset.task == "multilabel":
            chosen = [name for name, on in zip(names, labels, strict=True) if on]
            return ", ".join(chosen) or "no finding"
        return names[labels[0]]

    def png(self, pixels: np.ndarray) -> bytes:
        """The picture as the network saw it, before normalisation."""
        return png_of(picture_of(pixels, self._spec))


def png_of(picture: np.ndarray, side: int = SIDE) -> bytes:
    """(height, width, 3) in [0, 1] → content of a small square PNG file."""
    from PIL import Image

    image = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
    resample = Image.Resampling.BICUBIC if picture.shape[0] >= side else Image.Resampling.NEAREST
    return png_bytes(image.resize((side, side), resample))


def _add_neighbours(
    page: Page, table: EmbeddingTable, queries: Sequence[_Query], shown: _Shown, run: Run
) -> None:
    reference = table.take(table.splits != "test")
    test = _spread(table.take(table.splits == "test"))
    rows = np.array([query.row for query in queries])
    count = min(4 * ALIKE, len(reference))
    similarity, index = neighbours(test.cls[rows, -1], reference.cls[:, -1], count)
    for query, near, at in zip(queries, similarity, index, strict=True):
        pictures = [(shown.png(query.pixels), f"query: {query.words}")]
        words: list[str] = []
        for value, row in zip(near, at, strict=True):
            if len(words) == ALIKE:
                break
            other = reference.sample_ids[row]
            pixels = shown.pixels(other, _slice(reference, row))
            if pixels is not None:
                words.append(f"{shown.words(other)} ({value:.3f})")
                pictures.append((shown.png(pixels), f"alike: {words[-1]}"))
        page.pictures(
            pictures,
            f"{run.model}: a test image ({query.words}), then the reference images with the "
            f"most similar class tokens: {'; '.join(words)}. In brackets the cosine.",
        )


def _add_maps(
    page: Page,
    engine_request: EngineRequest,
    queries: Sequence[_Query],
    shown: _Shown,
    say: Say,
) -> None:
    from dinorad_rt.engines.build import open_runner

    engine = engine_for(replace(engine_request, dense=True), say)
    with open_runner(engine) as runner:
        found = [
            runner.infer(batch)["patch_tokens"][:, -1]
            for batch in _batches([query.pixels for query in queries], engine)
        ]
    pictures = []
    for query, colours in zip(queries, pca_maps(np.concatenate(found)), strict=True):
        pictures.append((shown.png(query.pixels), f"test image: {query.words}"))
        pictures.append((png_of(colours), f"its patch tokens as colours: {query.words}"))
    page.pictures(
        pictures,
        "Each test image beside the three main directions of its patch tokens as red, green and "
        "blue; one set of directions for all of them. Equal colours: alike for the backbone.",
    )


def _batches(images: Sequence[np.ndarray], engine: Engine) -> Iterator[np.ndarray]:
    for start in range(0, len(images), engine.batch):
        yield np.stack(images[start : start + engine.batch]).astype(np.float32)


def _engine_request(run: Run, weights: Iterable[Path]) -> EngineRequest:
    """The request that built a run's engine; weights from a file are found by their hash."""
    values: dict[str, Any] = dict((run.results.provenance.get("evaluation") or {})["engine"])
    if run.results.weights_kind == "file":
        wanted = (run.engine.get("weights") or {}).get("sha256")
        same = [path for path in weights if sha256_file(path) == wanted]
        if not same:
            raise DataError(
                f"The weights file of {run.model} is needed, SHA-256 {str(wanted)[:12]}….",
                "Name it with --weights FILE.",
            )
        values["weights"] = str(same[0])
    backend = run.engine.get("backend")
    return EngineRequest(**values | {"backend": backend or values["backend"]})


def _spread(table: EmbeddingTable) -> EmbeddingTable:
    """Rows in an order in which the first few come from all over: by the hash that names them."""
    return table.take(np.argsort(table.sample_ids.astype(str), kind="stable"))


def _slice(table: EmbeddingTable, row: int) -> int:
    return 0 if table.slices is None else int(table.slices[row])
