"""From a dataset and an engine to results with full provenance: what `eval` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import ProtocolError, unknown_name
from dinorad_rt.files import claim_output_dir, sha256_json
from dinorad_rt.pipeline import DEFAULT_KS, PROTOCOLS, EngineRequest, Say, engine_for, silent
from dinorad_rt.pipeline import embed as run_embed

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.embeddings.store import EmbeddingStore
    from dinorad_rt.reports.results import Results


@dataclass(frozen=True)
class Evaluation:
    """Every choice of one evaluation; saved with its results.

    Attributes:
        engine: which engine computes the embeddings.
        protocol: `knn`.
        preprocessing: name of a preset.
        ks: numbers of neighbours; None for the default list as far as it fits.
        temperature: of the soft vote.
        seed: of the intervals' resampling (splits and random weights have their own).
    """

    engine: EngineRequest
    protocol: str = "knn"
    preprocessing: str = "dinorad"
    ks: tuple[int, ...] | None = None
    temperature: float = 0.07
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without paths."""
        return asdict(self) | {"engine": self.engine.as_dict()}


def run_evaluation(
    evaluation: Evaluation,
    dataset: Dataset,
    *,
    out: Path | None = None,
    workers: int | None = None,
    say: Say = silent,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Results, Path]:
    """Build the engine, embed the dataset, run the protocol, write the results.

    Args:
        evaluation: the choices.
        dataset: images with labels and splits.
        out: folder of results.json and predictions.parquet; None for one under `runs/` named
            after the question, so that the same question overwrites its own answer.
        workers: decoding workers.
        say, progress: called with decisions, and with (done, total) images.

    Returns:
        The results and the folder they were written to.

    Raises:
        DinoradError: anything a user can mend, before results are written.
    """
    if out is not None:
        claim_output_dir(out, "results.json")
    check_protocol(evaluation.protocol, evaluation.ks, dataset)
    started = time.perf_counter()
    engine = engine_for(evaluation.engine, say)
    ready = time.perf_counter()
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
        ks=evaluation.ks,
        temperature=evaluation.temperature,
        seed=evaluation.seed,
    )
    timings = {"engine_s": ready - started, "embed_s": embedded - ready, **results.timings}
    provenance = results.provenance | {"evaluation": evaluation.as_dict()}
    results = replace(results, timings=timings, provenance=provenance)
    folder = out or _default_folder(evaluation, store)
    claim_output_dir(folder, "results.json")
    results.write(folder)
    return results, folder


def evaluate_store(
    store: EmbeddingStore,
    *,
    protocol: str = "knn",
    ks: Sequence[int] | None = None,
    temperature: float = 0.07,
    seed: int = 0,
) -> Results:
    """Run a protocol on stored embeddings; see `dinorad_rt.api.evaluate`."""
    from dinorad_rt.protocols.knn import evaluate_knn
    from dinorad_rt.protocols.pooling import pool_slices

    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS, "dinorad-rt eval --help")
    reference, queries = (pool_slices(store.load(*part)) for part in (("train", "val"), ("test",)))
    if not len(reference.sample_ids) or not len(queries.sample_ids):
        raise ProtocolError(
            f"kNN needs reference (train, val) and test images; the store has "
            f"{len(reference.sample_ids)} and {len(queries.sample_ids)}.",
            "Check the split column, and failures.parquet in the store for unreadable files.",
        )
    chosen = fitting_ks(len(reference.sample_ids)) if ks is None else tuple(ks)
    results = evaluate_knn(
        reference,
        queries,
        store.dataset_info(),
        chosen,
        temperature=temperature,
        seed=seed,
        provenance=store.provenance,
    )
    failed = {failure.sample_id for failure in store.failures()}
    if failed:
        results.notes.append(
            f"{len(failed)} images could not be read and are missing here: see failures.parquet "
            "in the store."
        )
    return results


def check_protocol(protocol: str, ks: Sequence[int] | None, dataset: Dataset) -> None:
    """Refuse, before any work, what the protocol cannot do with the dataset.

    Raises:
        ProtocolError: no reference or test images, test images that all have the same labels, or
            k larger than the reference set.
        UnknownNameError: no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS, "dinorad-rt eval --help")
    reference, test = dataset.of_split("train", "val"), dataset.of_split("test")
    for name, samples in (("train or val", reference), ("test", test)):
        if not samples:
            raise ProtocolError(
                f"{dataset.name} has no {name} images.",
                "Give the CSV a split column with train, val and test, or none at all: then "
                "patient-level splits are made.",
            )
    labels = {sample.labels for sample in test}
    if len(labels) < 2:
        raise ProtocolError(
            f"All {len(test)} test images of {dataset.name} have the same labels: no class can be "
            "told from another.",
            "Give the test split images of at least two classes.",
        )
    if ks is not None and max(ks) > len(reference):
        raise ProtocolError(
            f"k = {max(ks)} is larger than the reference set of {len(reference)} images "
            "(train and val).",
            f"Use --k with values up to {len(reference)}.",
        )


def fitting_ks(reference: int) -> tuple[int, ...]:
    """The default k list without the values that a small reference set cannot serve."""
    return tuple(k for k in DEFAULT_KS if k <= reference) or (max(1, reference),)


def _default_folder(evaluation: Evaluation, store: EmbeddingStore) -> Path:
    question = sha256_json({"evaluation": evaluation.as_dict(), "store": store.key})
    model = evaluation.engine.model.replace("/", "_")
    name = f"{evaluation.protocol}-{model}-{store.dataset_info().name}-{question[:8]}"
    return Path("runs") / name
