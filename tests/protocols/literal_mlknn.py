"""ML-kNN as its paper writes it, in plain loops: slow, and nothing in it is shared with ours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics.pairwise import cosine_similarity


def literal_mlknn(
    points: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    *,
    k: int,
    smoothing: float,
    exclude_self: bool,
) -> np.ndarray:
    """Figure 1 of Zhang and Zhou (2007), with the cosine: probabilities (queries, labels)."""
    within = cosine_similarity(points.astype(np.float64))
    if exclude_self:
        np.fill_diagonal(within, -np.inf)
    across = cosine_similarity(queries.astype(np.float64), points.astype(np.float64))
    near, near_queries = (
        [np.argsort(-row, kind="stable")[:k] for row in similarity]
        for similarity in (within, across)
    )
    return from_neighbours(near, near_queries, labels, k=k, smoothing=smoothing)


def from_neighbours(
    near: Sequence[np.ndarray],
    near_queries: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    k: int,
    smoothing: float,
) -> np.ndarray:
    """The loops over labels and images, once the neighbours are known."""
    rows, count = labels.shape
    found = np.zeros((len(near_queries), count))
    for label in range(count):
        prior = (smoothing + sum(labels[:, label])) / (smoothing * 2 + rows)
        with_label, without_label = [0] * (k + 1), [0] * (k + 1)
        for row in range(rows):
            delta = int(sum(labels[near[row], label]))
            if labels[row, label] == 1:
                with_label[delta] += 1
            else:
                without_label[delta] += 1
        for query in range(len(near_queries)):
            delta = int(sum(labels[near_queries[query], label]))
            yes = (smoothing + with_label[delta]) / (smoothing * (k + 1) + sum(with_label))
            no = (smoothing + without_label[delta]) / (smoothing * (k + 1) + sum(without_label))
            found[query, label] = prior * yes / (prior * yes + (1 - prior) * no)
    return found
