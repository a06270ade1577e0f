"""ML-kNN against a literal double loop from the paper, and scikit-learn's search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.mlknn import MLKNN, MLKNNSettings, own_neighbours

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random((150, 4)) < [0.5, 0.2, 0.05, 0.8]).astype(np.int64)
POINTS = (RANDOM.standard_normal((150, 8)) + 1.5 * LABELS @ np.eye(4, 8)).astype(np.float32)
QUERIES = RANDOM.standard_normal((40, 8)).astype(np.float32)


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize(("k", "smoothing"), [(1, 1.0), (5, 1.0), (20, 0.5)])
def test_probabilities_equal_the_literal_double_loop(
    literal_mlknn: Callable[..., np.ndarray], k: int, smoothing: float, exclude_self: bool
) -> None:
    expected = literal_mlknn(
        POINTS, LABELS, QUERIES, k=k, smoothing=smoothing, exclude_self=exclude_self
    )
    model = MLKNN(k, smoothing=smoothing, exclude_self=exclude_self).fit(POINTS, LABELS)
    np.testing.assert_allclose(model.predict_proba(QUERIES), expected, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(QUERIES), expected > 0.5)


def test_counting_itself_makes_a_difference() -> None:
    with_self, without = (
        MLKNN(5, exclude_self=flag).fit(POINTS, LABELS).predict_proba(QUERIES)
        for flag in (False, True)
    )
    assert np.abs(with_self - without).max() > 0.01


def test_copies_do_not_leave_the_image_among_its_own_neighbours() -> None:
    points = np.repeat(POINTS[:10], 4, axis=0)
    index = own_neighbours(points, 3, True, "cpu")
    assert not (index == np.arange(40)[:, None]).any()
    distance, theirs = NearestNeighbors(n_neighbors=3, metric="cosine").fit(points).kneighbors()
    assert distance.max() < 1e-6
    for ours, other in zip(index, theirs, strict=True):
        assert set(ours) == set(other)


def test_a_k_without_so_many_others_is_refused() -> None:
    with pytest.raises(ProtocolError, match="up to 149"):
        MLKNN(150).fit(POINTS, LABELS)
    assert MLKNN(150, exclude_self=False).fit(POINTS, LABELS).present_.shape == (4, 151)


def test_presets_say_what_differs() -> None:
    assert MLKNNSettings.preset("study").exclude_self is False
    assert MLKNNSettings.preset("study").fitting(60) == (5, 20, 50)
    assert MLKNNSettings.preset("dinorad").exclude_self is True
