"""From a dataset and an engine to results with full provenance: what `eval` does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import ProtocolError
from dinorad_rt.files import claim_output_dir, claimed_dir, sha256_json
from dinorad_rt.pipeline import EngineRequest, engine_for
from dinorad_rt.pipeline import embed as run_embed
from dinorad_rt.progress import Say, Stages, silent, unseen
from dinorad_rt.protocols.registry import protocol_named, settings_for
from dinorad_rt.reports.results import PREDICTIONS_FILE, RESULTS_FILE
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.embeddings.store import EmbeddingStore
    from dinorad_rt.embeddings.table import EmbeddingTable
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.protocols.augmented import AugmentedImages
    from dinorad_rt.protocols.settings import AbstractSettings
    from dinorad_rt.reports.results import Results
    from dinorad_rt.types import Split


MAX_REASONS = 3
"""Reasons of missing images that a result names."""


@dataclass(frozen=True)
class Evaluation:
    """Every choice of one evaluation; saved with its results.

    Attributes:
        engine: which engine computes the embeddings.
        protocol: one of `protocols.registry.PROTOCOLS`.
        protocol_preset: who fixed its settings: study, dinov2 or dinorad.
        preprocessing: name of a preset.
        options: settings of the protocol that differ from the preset's, such as {"ks": (5, 20)}.
        seed: of the protocol and of the intervals (random weights have their own).
    """

    engine: EngineRequest
    protocol: str = "knn"
    protocol_preset: str = "dinorad"
    preprocessing: str = "dinorad"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def settings(self) -> AbstractSettings:
        """The protocol's settings, checked.

        Raises:
            UnknownNameError, ProtocolError: see `settings_for`.
        """
        return settings_for(self.protocol, self.protocol_preset, self.options)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without paths."""
        return asdict(replace(self, options=dict(self.options))) | {"engine": self.engine.as_dict()}


def run_evaluation(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    out: Path | None = None,
    workers: int | None = None,
    say: Say = silent,
    stages: Stages = unseen,
) -> tuple[Results, Path]:
    """Build the engine, embed the dataset, run the protocol, write the results.

    Args:
        evaluation: the choices.
        dataset: images with labels and splits.
        out: folder of results.json and predictions.parquet; None for one under `runs/` named
            after the question, so that the same question overwrites its own answer.
        workers: decoding workers.
        say: called with decisions.
        stages: told of the embedding and of each long step of the protocol.

    Returns:
        The results and the folder they were written to.

    Raises:
        DinoradError: anything a user can mend, before results are written.
    """
    files = RESULTS_FILE, PREDICTIONS_FILE
    with nullcontext() if out is None else claimed_dir(out, *files):
        results, store = _judge(evaluation, dataset, workers=workers, say=say, stages=stages)
        folder = out or claim_output_dir(_default_folder(evaluation, store), *files)
        results.write(folder)
    return results, folder


def _judge(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    workers: int | None,
    say: Say,
    stages: Stages,
) -> tuple[Results, EmbeddingStore]:
    check_protocol(evaluation.settings(), dataset)
    started = time.perf_counter()
    engine = engine_for(
        evaluation.engine, say, calibration=dataset, preprocessing=evaluation.preprocessing
    )
    ready = time.perf_counter()
    with stages("embedding", "images") as progress:
        store = run_embed(
            dataset,
            engine,
            preprocessing=evaluation.preprocessing,
            workers=workers,
            progress=progress,
        )
    embedded = time.perf_counter()
    results = evaluate_store(
        store,
        protocol=evaluation.protocol,
        protocol_preset=evaluation.protocol_preset,
        seed=evaluation.seed,
        images=_images(evaluation, dataset, engine, workers),
        stages=stages,
        **evaluation.options,
    )
    timings = {"engine_s": ready - started, "embed_s": embedded - ready, **results.timings}
    facts = results.provenance["dataset"] | {"name": dataset.name}  # a store may be of another name
    provenance = results.provenance | {"dataset": facts, "evaluation": evaluation.as_dict()}
    named = replace(results, dataset=dataset.name, timings=timings, provenance=provenance)
    return named, store


def _images(
    evaluation: Evaluation, dataset: Dataset, engine: Engine, workers: int | None
) -> AugmentedImages | None:
    """The dataset's images, for a protocol that crops them anew."""
    if not evaluation.settings().needs_images:
        return None
    from dinorad_rt.pipeline import preprocessing_for
    from dinorad_rt.protocols.augmented import AugmentedImages

    spec = preprocessing_for(engine, evaluation.preprocessing)
    return AugmentedImages(dataset.samples, engine, spec, workers=workers)


def check_protocol(settings: AbstractSettings, dataset: Dataset) -> None:
    """Refuse, before any work, what the protocol cannot do with the dataset.

    Raises:
        LeakageError: a patient stands in two splits.
        ProtocolError: no reference or test images, test images that all have the same labels, or
            settings that the data cannot serve.
    """
    from dinorad_rt.protocols.truth import check_truth, truth_of_dataset

    if dataset.task == "segmentation":
        raise ProtocolError(
            f"{dataset.name} is a segmentation set: its truth are masks, and this protocol judges "
            "a class per image.",
            "Train a decoder on it, or give data with a label column (--label-column, or --task "
            "classification for sets that have both).",
        )
    truth = truth_of_dataset(dataset)
    check_truth(truth)
    settings.check(truth)


def evaluate_store(
    store: EmbeddingStore,
    *,
    protocol: str = "knn",
    protocol_preset: str = "dinorad",
    seed: int = 0,
    images: AugmentedImages | None = None,
    stages: Stages = unseen,
    **options: Any,
) -> Results:
    """Run a protocol on stored embeddings; see `dinorad_rt.api.evaluate`."""
    from dinorad_rt.protocols.truth import check_truth, truth_of_tables, unseen_classes

    if seed < 0:
        raise ProtocolError(f"Seed {seed} is negative.", "Seeds are 0 and above.")
    settings = settings_for(protocol, protocol_preset, options)
    if settings.needs_images and images is None:
        raise ProtocolError(
            "Augmented probing crops the images anew; a store holds embeddings alone.",
            "Run it with the images: dinorad-rt eval --protocol linear --set augment=true",
        )
    dataset = store.dataset_info()
    tables, notes = _split_tables(store, settings, stages)
    truth = truth_of_tables(tables, dataset)
    check_truth(truth)
    settings.check(truth)
    results = protocol_named(protocol).function()(
        tables["train"],
        tables["val"],
        tables["test"],
        dataset,
        settings,
        seed=seed,
        provenance=store.provenance,
        stages=stages,
        **({"images": images} if settings.needs_images else {}),
    )
    results.deviations.extend(settings.deviations(truth))
    results.notes[:0] = notes + unseen_classes(truth)
    results.notes.extend(_unread(store))
    return results


def _unread(store: EmbeddingStore) -> list[str]:
    """How many images are missing, with the commonest reasons."""
    from collections import Counter

    reasons = {failure.sample_id: failure.reason for failure in store.failures()}
    if not reasons:
        return []
    common = Counter(reasons.values()).most_common(MAX_REASONS)
    more = len(set(reasons.values())) - len(common)
    said = "; ".join(f"{count} x {reason.rstrip('.')}" for reason, count in common)
    rest = f"; and {count_of(more, 'other reason')}" if more else ""
    return [
        f"{count_of(len(reasons), 'image')} could not be read, missing here (failures.parquet in "
        f"the store): {said}{rest}."
    ]


def _split_tables(
    store: EmbeddingStore, settings: AbstractSettings, stages: Stages
) -> tuple[dict[Split, EmbeddingTable], list[str]]:
    """Each split, checked and pooled, and what a reader must know of them."""
    from dinorad_rt.protocols.embedding_checks import near_copies
    from dinorad_rt.protocols.pooling import pool

    rows = _rows_by_split(store, settings)
    tables = {split: pool(table, settings) for split, table in rows.items()}
    whole = tables
    if settings.pooling == "attention":
        plain = settings.without_attention()
        whole = {split: pool(table, plain) for split, table in rows.items()}
    return tables, near_copies(whole, stages=stages)


def _rows_by_split(
    store: EmbeddingStore, settings: AbstractSettings
) -> dict[Split, EmbeddingTable]:
    """The rows of each split, checked whole; kept is what the protocol reads.

    The store is read once and in pieces: the four blocks and the patch mean of a large set fill
    several times the memory that kNN needs.
    """
    from dinorad_rt.embeddings.table import joined
    from dinorad_rt.protocols.embedding_checks import check_finite, finite_rows
    from dinorad_rt.types import SPLITS

    blocks, patch_mean = settings.reads
    parts: dict[Split, list[EmbeddingTable]] = {split: [] for split in SPLITS}
    fine: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS}
    for chunk in store.chunks():
        good, kept = finite_rows(chunk), chunk.narrowed(blocks, patch_mean=patch_mean)
        for split in SPLITS:
            mine = chunk.splits == split
            parts[split].append(kept.take(mine))
            fine[split].append(good[mine])
    if not parts["test"]:  # not one row in the whole store
        return {split: store.load(split) for split in SPLITS}
    tables = {split: joined(pieces) for split, pieces in parts.items()}
    check_finite(tables, {split: np.concatenate(found) for split, found in fine.items()})
    return tables


def _default_folder(evaluation: Evaluation, store: EmbeddingStore) -> Path:
    question = sha256_json({"evaluation": evaluation.as_dict(), "store": store.key})
    model = evaluation.engine.model.replace("/", "_")
    name = f"{evaluation.protocol}-{model}-{store.dataset_info().name}-{question[:8]}"
    return Path("runs") / name
