"""What is refused before any work, and which k a small reference set gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.errors import ProtocolError, UnknownNameError
from dinorad_rt.evaluation import Evaluation
from dinorad_rt.evaluation import check_protocol as check_settings
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.protocols.knn import KNNSettings


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
