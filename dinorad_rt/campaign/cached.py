"""Which embeddings of a study lie in the cache already, told before any engine is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dinorad_rt.backbones.locate import NAMED_WEIGHTS
from dinorad_rt.campaign.cells import Cell, content_of
from dinorad_rt.errors import DinoradError


def cached_embeddings(
    cells: Iterable[Cell], fingerprints: Mapping[str, str]
) -> set[tuple[str, ...]]:
    """Sets of embeddings (`Cell.embeds`) that a finished store of the cache answers.

    What `auto` will choose is not known here, so a store of any backend and precision counts for
    it: this is for the plan and its estimate; `embed` decides by exact keys.

    Args:
        cells: of the study.
        fingerprints: dataset → fingerprint.
    """
    stores = list(_stores(set(fingerprints.values())))
    return {
        cell.embeds
        for cell in cells
        if any(_answers(store, cell, fingerprints[cell.data.name]) for store in stores)
    }


def _stores(fingerprints: set[str]) -> Iterator[Mapping[str, Any]]:
    """Provenance of every finished store of these datasets in the cache."""
    from dinorad_rt.embeddings.store import PROVENANCE, EmbeddingStore
    from dinorad_rt.paths import cache_dir

    for path in cache_dir("embeddings").glob(f"*/{PROVENANCE}"):
        try:
            store = EmbeddingStore.open(path.parent)
            known = store.provenance["dataset"]["fingerprint"] in fingerprints
            if known and not store.missing_shards():
                yield store.provenance
        except (DinoradError, OSError, KeyError, TypeError):
            continue  # of another version, or being written


def _answers(store: Mapping[str, Any], cell: Cell, fingerprint: str) -> bool:
    engine, wanted = store["engine"], cell.evaluation.engine
    weights = engine.get("weights") or {}
    if wanted.weights in NAMED_WEIGHTS:
        same = wanted.weights in (engine.get("weights_kind"), "auto")
    else:
        same = weights.get("sha256") == content_of(wanted.weights)
    return (
        same
        and store["dataset"]["fingerprint"] == fingerprint
        and engine.get("model") == wanted.model
        and store["preprocessing"].get("preset") == cell.evaluation.preprocessing
        and wanted.image_size in (None, store["preprocessing"].get("image_size"))
        and wanted.precision in ("auto", engine.get("precision"))
        and wanted.backend in ("auto", engine.get("backend"))
    )
