"""What is refused before any work, and which k a small reference set gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dinorad_rt import evaluation
from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.errors import ProtocolError, UnknownNameError
from dinorad_rt.evaluation import Evaluation
from dinorad_rt.evaluation import check_protocol as check_settings
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.protocols.knn import KNNSettings
from dinorad_rt.reports.results import Predictions, Results


def dataset(**counts: int) -> Dataset:
    """A dataset with so many images per split."""
    samples = tuple(
        Sample(f"{split}{i}", Path("x"), f"{split}{i}", split, (i % 2,))  # type: ignore[arg-type]
        for split, count in counts.items()
        for i in range(count)
    )
    return Dataset("toy", "binary", ("a", "b"), samples, "f", "s")


def check_protocol(protocol: str, ks: tuple[int, ...] | None, data: Dataset) -> None:
    """As an evaluation does before any work."""
    check_settings(Evaluation(EngineRequest(), protocol, options={"ks": ks}).settings(), data)


def test_a_k_beyond_the_reference_is_refused_with_the_largest_that_fits() -> None:
    with pytest.raises(ProtocolError, match="up to 7"):
        check_protocol("knn", (5, 8), dataset(train=4, val=3, test=2))
    check_protocol("knn", (5, 7), dataset(train=4, val=3, test=2))


@pytest.mark.parametrize("counts", [{"train": 3}, {"test": 3}])
def test_missing_splits_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ProtocolError, match="images"):
        check_protocol("knn", None, dataset(**counts))


def test_unknown_protocol() -> None:
    with pytest.raises(UnknownNameError, match="knn"):
        check_protocol("kn", None, dataset(train=1, test=1))


def test_default_ks_shrink_with_the_reference() -> None:
    assert KNNSettings().fitting(1000) == (5, 10, 20)
    assert KNNSettings().fitting(12) == (5, 10)
    assert KNNSettings().fitting(3) == (3,)


def test_one_class_in_test_is_refused() -> None:
    with pytest.raises(ProtocolError, match="same labels"):
        check_protocol("knn", None, dataset(train=4, test=1))


def test_results_have_the_name_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings in the cache may be of the same images under another name."""
    found = Results(
        *("knn", "binary", "old", ("a", "b"), [], {}, {}, (0,)),
        provenance={"dataset": {"name": "old", "fingerprint": "f"}},
        sample_ids=np.array(["x", "y"], dtype=object),
        patients=np.array(["p", "q"], dtype=object),
        labels=np.array([0, 1]),
        predictions=[Predictions({"k": 5}, np.eye(2))],
    )
    for name in ("engine_for", "run_embed"):
        monkeypatch.setattr(evaluation, name, lambda *_, **__: None)
    monkeypatch.setattr(evaluation, "evaluate_store", lambda *_, **__: found)
    data = dataset(train=4, val=3, test=2)
    asked = Evaluation(EngineRequest(), "knn")
    results, _ = evaluation.run_evaluation(asked, data, out=tmp_path / "out")
    assert results.dataset == results.provenance["dataset"]["name"] == "toy"
    assert results.provenance["dataset"]["fingerprint"] == "f"
