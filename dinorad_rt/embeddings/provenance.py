"""What a store answers: which engine, which preprocessing, which images; and its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dinorad_rt.datasets.mask_classes import class_facts
from dinorad_rt.embeddings.shards import Layout
from dinorad_rt.errors import EngineError, OutputExistsError
from dinorad_rt.files import sha256_json
from dinorad_rt.optional import version_of

if TYPE_CHECKING:
    from pathlib import Path

    from dinorad_rt.datasets.dataset import Dataset, Sample
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.preprocessing.spec import PreprocessSpec

FORMAT = 1
"""Raised whenever stored embeddings can no longer be read or compared as before."""

_PARTS = {
    "engine": "engine",
    "preprocessing": "preprocessing",
    "dataset": "dataset",
    "pseudonyms": "key of pseudonyms (DINORAD_RT_KEY)",
}


def ordered_samples(dataset: Dataset) -> tuple[Sample, ...]:
    """Samples by file name and frame: an order that rows of a shuffled table do not change, and
    that keeps the frames of a file together."""

    def place(sample: Sample) -> tuple[str, int, str]:
        frame = -1 if sample.frame is None else sample.frame
        return dataset.name_of(sample), frame, sample.sample_id

    return tuple(sorted(dataset.samples, key=place))


def provenance_of(
    dataset: Dataset,
    engine: Engine,
    spec: PreprocessSpec,
    samples: Sequence[Sample],
    shard_rows: int,
) -> dict[str, Any]:
    """Everything that a reader of the store must know; plain values without any path.

    Raises:
        EngineError: the engine has no class token or pooled embedding among its outputs, or
            another input size than the preprocessing.
    """
    from dinorad_rt.machine import machine_facts
    from dinorad_rt.preprocessing.pipeline import Preprocessor

    _check(engine, spec)
    parts = {
        "engine": engine.key,
        "preprocessing": spec.digest(),
        "dataset": dataset.fingerprint,
        "pseudonyms": sha256_json([[sample.sample_id, sample.patient] for sample in samples]),
    }
    outputs = engine.outputs
    mean = outputs.get("patch_mean")
    return {
        "format": FORMAT,
        "key": sha256_json({"format": FORMAT, **parts}),
        "parts": parts,
        "engine": engine_facts(engine),
        "preprocessing": spec.as_dict()
        | {"implementation": Preprocessor(spec).implementation, "turned": "as displayed"},
        "dataset": dataset_facts(dataset),
        "embeddings": {
            "cls": list(outputs["cls"]),
            "patch_mean": None if mean is None else list(mean),
        },
        "layout": {
            "samples": len(samples),
            "shard_rows": shard_rows,
            "shards": -(-len(samples) // shard_rows),
        },
        "versions": {"dinorad-rt": version_of("dinorad-rt"), "pyarrow": version_of("pyarrow")},
        "machine": machine_facts(),
    }


def layout_of(provenance: Mapping[str, Any]) -> Layout:
    """Shape of the store's rows."""
    blocks, dim = provenance["embeddings"]["cls"]
    mean = provenance["embeddings"]["patch_mean"]
    return Layout(
        key=str(provenance["key"]),
        cls=(int(blocks), int(dim)),
        patch_mean=None if mean is None else int(mean[0]),
        multilabel=provenance["dataset"]["task"] in ("multilabel", "segmentation"),
    )


def refuse_other(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a store that answers another question, and say in what it differs.

    Raises:
        OutputExistsError: engine, preprocessing, dataset or key of pseudonyms is another.
    """
    if found.get("key") == wanted["key"]:
        return
    if found.get("format") != wanted["format"]:
        difference = f"by another version of dinorad-rt (format {found.get('format')})"
    else:
        before, now = found["parts"], wanted["parts"]
        differing = [name for name in _PARTS if before.get(name) != now[name]]
        difference = "with another " + " and another ".join(
            f"{_PARTS[name]} ({_named(name, found)}; now {_named(name, wanted)})"
            for name in differing
        )
    raise OutputExistsError(
        f"The store in {folder} was made {difference}.",
        "Choose another folder with --out, or leave --out away: the cache keeps one store for "
        "each engine, preprocessing and dataset.",
    )


def _named(part: str, provenance: Mapping[str, Any]) -> str:
    """A part in few words: what people call it, and the first digits of its hash."""
    digits = str(provenance["parts"].get(part))[:8]
    facts = provenance.get(part, {})
    if part == "engine":
        words = (facts["model"], facts["precision"], facts["backend"], facts["weights_kind"])
        return f"{' '.join(map(str, words))} {digits}"
    if part == "preprocessing":
        return f"{facts['preset']} {facts['image_size']} px {digits}"
    if part == "dataset":
        return f"{facts['name']}, {facts['samples']} images {digits}"
    return digits


def engine_facts(engine: Engine) -> dict[str, Any]:
    """What provenance says of an engine."""
    manifest = engine.manifest
    names = (
        *("key", "model", "weights", "weights_kind", "precision", "backend", "backend_version"),
        *("batch", "input_shape", "graph_sha256", "recipe", "settings", "device", "parity"),
        *("normalisation", "weights_notes"),
    )
    return {name: manifest[name] for name in names if name in manifest}


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What provenance says of a dataset."""
    splits = [sample.split for sample in dataset.samples]
    return {
        "name": dataset.name,
        "task": dataset.task,
        **class_facts(dataset),
        "fingerprint": dataset.fingerprint,
        "split_hash": dataset.split_hash,
        "samples": len(splits),
        "patients": len({sample.patient for sample in dataset.samples}),
        "splits": {split: splits.count(split) for split in dict.fromkeys(sorted(splits))},
        "notes": list(dataset.notes),
        "facts": dict(dataset.facts),
    }


def _check(engine: Engine, spec: PreprocessSpec) -> None:
    cls = engine.outputs.get("cls")
    if cls is None or len(cls) != 2:
        raise EngineError(
            f"The engine of {engine.model} gives {engine.outputs}; a store needs `cls` of shape "
            "(blocks, dim).",
            "Export the model again: dinorad-rt export",
        )
    size = engine.input_shape[-1]
    if engine.input_shape != (3, spec.image_size, spec.image_size):
        raise EngineError(
            f"The engine takes {size} px, the preprocessing makes {spec.image_size} px.",
            "Use the preprocessing of this engine: a preset's name instead of a spec.",
        )
