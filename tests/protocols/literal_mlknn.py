"""ML-kNN as its paper writes it, in plain loops: slow, and nothing in it is shared with ours."""

from __future__ import annotations

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
    rows, count = labels.shape
    within = cosine_similarity(points.astype(np.float64))
    if exclude_self:
        np.fill_diagonal(within, -np.inf)
    near = [np.argsort(-row, kind="stable")[:k] for row in within]
    across = cosine_similarity(queries.astype(np.float64), points.astype(np.float64))
    found = np.zeros((len(queries), count))
    for label in range(count):
        prior = (smoothing + sum(labels[:, label])) / (smoothing * 2 + rows)
        with_label, without_label = [0] * (k + 1), [0] * (k + 1)
        for row in range(rows):
            delta = 0
            for neighbour in near[row]:
                delta += int(labels[neighbour, label])
            if labels[row, label] == 1:
                with_label[delta] += 1
            else:
                without_label[delta] += 1
        for query in range(len(queries)):
            delta = 0
            for neighbour in np.argsort(-across[query], kind="stable")[:k]:
                delta += int(labels[neighbour, label])
            yes = (smoothing + with_label[delta]) / (smoothing * (k + 1) + sum(with_label))
            no = (smoothing + without_label[delta]) / (smoothing * (k + 1) + sum(without_label))
            found[query, label] = prior * yes / (prior * yes + (1 - prior) * no)
    return found
