"""Exact neighbours against scikit-learn and faiss, with ties, chunks and bad rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols import neighbours as module
from dinorad_rt.protocols.neighbours import neighbours

SEARCHES = ("faiss", "torch")


def data(rows: int, queries: int, dim: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random vectors of any length."""
    random = np.random.default_rng(seed)
    scale = random.uniform(0.1, 50, (rows, 1)).astype(np.float32)
    reference = random.standard_normal((rows, dim), dtype=np.float32) * scale
    return random.standard_normal((queries, dim), dtype=np.float32), reference


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("rows", [5, 40, 2048, 7001])
@pytest.mark.parametrize("k", [1, 5])
def test_equals_scikit_learn(search: str, rows: int, k: int) -> None:
    queries, reference = data(rows, 70)
    distances, expected = (
        NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute")
        .fit(reference)
        .kneighbors(queries)
    )
    similarity, index = neighbours(queries, reference, k, search=search)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(similarity, 1 - distances, atol=2e-6)


@pytest.mark.parametrize("search", SEARCHES)
def test_k_as_large_as_the_reference(search: str) -> None:
    queries, reference = data(300, 9)
    similarity, index = neighbours(queries, reference, 300, search=search)
    assert (np.sort(index, axis=1) == np.arange(300)).all()
    assert (np.diff(similarity, axis=1) <= 0).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_equal_rows_come_in_the_order_of_their_indices(search: str) -> None:
    reference = np.ones((50, 8), dtype=np.float32)
    index = neighbours(np.ones((3, 8), dtype=np.float32), reference, 50, search=search)[1]
    np.testing.assert_array_equal(index, np.tile(np.arange(50), (3, 1)))


@pytest.mark.parametrize("search", SEARCHES)
def test_chunks_from_an_iterable_give_the_same(search: str) -> None:
    queries, reference = data(6000, 20)
    whole = neighbours(queries, reference, 33, search=search)
    parts = neighbours(queries, np.array_split(reference, 7), 33, search=search)
    np.testing.assert_array_equal(whole[1], parts[1])
    np.testing.assert_allclose(whole[0], parts[0], atol=1e-6)


def test_many_query_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, reference = data(5000, 100)
    expected = neighbours(queries, reference, 12, search="faiss")[1]
    monkeypatch.setattr(module, "QUERY_ROWS", 7)
    monkeypatch.setattr(module, "REFERENCE_ROWS", 500)
    monkeypatch.setattr(module, "FIRST_ROWS", 10)
    np.testing.assert_array_equal(neighbours(queries, reference, 12, search="torch")[1], expected)


@pytest.mark.parametrize("search", SEARCHES)
def test_negative_similarities_are_ordered(search: str) -> None:
    reference = -np.array([[1, 0.1], [1, 0.5], [1, 0.0]], dtype=np.float32)
    similarity, index = neighbours(
        np.array([[1, 0]], dtype=np.float32), reference, 3, search=search
    )
    assert index.tolist() == [[1, 0, 2]]
    assert (similarity < 0).all()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_rows_without_a_direction_are_named(search: str, bad: float) -> None:
    queries, reference = data(20, 4)
    reference[7] = bad
    with pytest.raises(ProtocolError, match="reference.*rows 7"):
        neighbours(queries, reference, 3, search=search)


@pytest.mark.parametrize("search", SEARCHES)
def test_too_many_neighbours(search: str) -> None:
    queries, reference = data(10, 2)
    with pytest.raises(ProtocolError, match="k = 11"):
        neighbours(queries, reference, 11, search=search)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("k", [3, 20, 150, 400])
def test_ties_at_the_last_rank_go_to_the_smaller_index(search: str, k: int) -> None:
    random = np.random.default_rng(0)
    shared = random.integers(0, 60, 3000)
    values = np.linspace(-0.9, 0.9, 60, dtype=np.float32)
    axes = np.stack([values, np.sqrt(1 - values**2)], axis=1)
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    index = neighbours(queries, axes[shared], k, search=search)[1]
    for row, key in zip(index, (-values[shared], -np.sqrt(1 - values[shared] ** 2)), strict=True):
        expected = np.lexsort((np.arange(3000), key.round(6)))[:k]
        np.testing.assert_array_equal(shared[row], shared[expected])
    first = np.lexsort((np.arange(3000), -values[shared]))[:k]
    np.testing.assert_array_equal(index[0], first)


def test_no_neighbours_are_refused() -> None:
    queries, reference = data(10, 2)
    with pytest.raises(ProtocolError, match="k = 0"):
        neighbours(queries, reference, 0)
