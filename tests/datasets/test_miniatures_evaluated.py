"""A miniature of every registered dataset goes through embedding and evaluation.

The engine is the stand-in of the embedding tests: real preprocessing and stores, no network.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.registry import dataset_named, entry_named
from dinorad_rt.evaluation import evaluate_store
from tests.datasets.miniatures import WRITERS

SEGMENTED = [name for name in WRITERS if entry_named(name).task == "segmentation"]
CLASSIFIED = [name for name in WRITERS if name not in SEGMENTED]


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    source = Path(__file__).parents[1] / "embeddings" / "fakes.py"
    spec = importlib.util.spec_from_file_location("embeddings_fakes", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, fakes: ModuleType, tmp_path: Path) -> Any:
    """Write, open and embed a miniature."""
    from dinorad_rt.embeddings.embed import embed

    def run(name: str) -> Any:
        WRITERS[name](tmp_path / "download")
        dataset = dataset_named(name, tmp_path / "download")
        monkeypatch.setattr("dinorad_rt.engines.build.open_runner", fakes.FakeRunner)
        store = embed(dataset, fakes.fake_engine(), fakes.SPEC, tmp_path / "store", workers=2)
        assert store.failures() == []
        return dataset, store

    return run


@pytest.mark.parametrize("name", CLASSIFIED)
def test_classification_sets_are_evaluated(embedded: Any, name: str) -> None:
    dataset, store = embedded(name)
    multilabel = dataset.task == "multilabel"
    results = evaluate_store(store, protocol="mlknn" if multilabel else "knn", ks=(3,))
    assert results.dataset == name and results.task == dataset.task
    document = results.as_dict()
    assert document["provenance"]["dataset"]["facts"]["registered"] == name
    assert len(results.sample_ids) == len(dataset.of_split("test"))


@pytest.mark.parametrize("name", SEGMENTED)
def test_segmentation_sets_are_embedded_beside_their_masks(embedded: Any, name: str) -> None:
    dataset, store = embedded(name)
    table = store.load()
    assert len(np.unique(table.sample_ids)) == len(dataset.samples)
    assert table.labels.shape == (len(table), 0)
    slices = sum(len(read_mask(sample)) for sample in dataset.samples)
    assert slices == len(table)
