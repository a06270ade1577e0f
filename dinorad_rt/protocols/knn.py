"""kNN with a soft vote, as in DINO and DINOv2, for any number of classes and for multi-label.

Similarity: cosine of class tokens. Vote: softmax of the k highest similarities divided by the
temperature, summed per class (Wu et al., arXiv 1805.01978; facebookresearch/dinov2 `knn.py`,
T = 0.07). For multi-label tasks each label gets the sum of its neighbours' weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.neighbours import neighbours

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.reports.results import Results

TEMPERATURE = 0.07
_CHUNK_VALUES = 4_000_000

__all__ = ["KNNClassifier", "evaluate_knn", "neighbours", "soft_vote"]


class KNNClassifier:
    """Soft-voting k nearest neighbours by cosine, in scikit-learn's manner.

    Args:
        k: neighbours that vote.
        temperature: of the softmax over similarities; smaller trusts the nearest more.
        num_classes: number of classes; None takes those that `fit` sees.
        device: where similarities are computed.
    """

    def __init__(
        self,
        k: int = 20,
        *,
        temperature: float = TEMPERATURE,
        num_classes: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.k = k
        self.temperature = temperature
        self.num_classes = num_classes
        self.device = device

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Keep the reference.

        Args:
            X: (samples, dim) embeddings.
            y: (samples,) class indices, or (samples, classes) 0/1 for multi-label.
        """
        self.reference_ = X
        self.votes_ = votes_of(y, self.num_classes)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Scores (samples, classes) in [0, 1]; rows sum to one unless the task is multi-label.

        Raises:
            ProtocolError: k is larger than the reference set.
        """
        similarity, index = neighbours(X, self.reference_, self.k, device=self.device)
        return soft_vote(similarity, index, self.votes_, self.temperature)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Index of the class with the highest score, the lower one of equals."""
        return np.asarray(self.predict_proba(X).argmax(axis=1))


def votes_of(labels: np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """Labels as what each sample votes for: (samples, classes) float64."""
    if labels.ndim == 2:
        return labels.astype(np.float64)
    return np.asarray(np.eye(num_classes or int(labels.max()) + 1)[labels])


def soft_vote(
    similarity: np.ndarray, index: np.ndarray, votes: np.ndarray, temperature: float
) -> np.ndarray:
    """Sum of the neighbours' votes, weighted by softmax(similarity / temperature).

    Scores are rounded to 12 decimals: a class that gets every vote scores exactly 1, so that
    queries which are equally certain are ties and not ranked by the last bit of a sum.

    Args:
        similarity, index: (queries, k) neighbours of each query.
        votes: (reference, classes), what each reference row votes for.
        temperature: above 0.

    Returns:
        (queries, classes) float64 in [0, 1].

    Raises:
        ProtocolError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ProtocolError(f"Temperature {temperature} is not above 0.", "DINOv2 uses 0.07.")
    scaled = similarity.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    scores = np.empty((len(index), votes.shape[1]))
    rows = max(1, _CHUNK_VALUES // max(index.shape[1] * votes.shape[1], 1))
    for start in range(0, len(index), rows):
        part = slice(start, start + rows)
        scores[part] = np.einsum("qk,qkc->qc", weights[part], votes[index[part]])
    return np.asarray(np.clip(scores.round(12), 0.0, 1.0))


def evaluate_knn(
    reference: EmbeddingTable,
    queries: EmbeddingTable,
    dataset: DatasetInfo,
    ks: Sequence[int],
    *,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    resamples: int = 2000,
    provenance: Mapping[str, Any] | None = None,
) -> Results:
    """Judge queries by their neighbours in the reference, for every k from one search.

    Args:
        reference, queries: embeddings of the reference (train, val) and test images; the last
            block's class token is used.
        dataset: task and classes.
        ks: numbers of neighbours.
        temperature: of the soft vote.
        seed, resamples: of the intervals.
        provenance: goes into the results as it is.

    Raises:
        ProtocolError: no queries, a k below one, or one larger than the reference set.
    """
    from dinorad_rt.reports.results import Predictions, judge

    if not len(reference.sample_ids) or not len(queries.sample_ids) or not ks:
        raise ProtocolError(
            f"kNN needs reference images, test images and a k; got {len(reference.sample_ids)}, "
            f"{len(queries.sample_ids)} and {list(ks)}.",
            "Check the splits of the data.",
        )
    start, chosen = time.perf_counter(), sorted(set(ks))
    if chosen[0] < 1:
        raise ProtocolError(f"k = {chosen[0]} neighbours cannot vote.", "Use k of at least 1.")
    votes = votes_of(reference.labels, len(dataset.class_names))
    similarity, index = neighbours(queries.cls[:, -1], reference.cls[:, -1], chosen[-1])
    predictions = [
        Predictions({"k": k}, soft_vote(similarity[:, :k], index[:, :k], votes, temperature))
        for k in chosen
    ]
    searched = time.perf_counter() - start
    results = judge(
        "knn",
        queries,
        dataset,
        predictions,
        settings={"ks": chosen, "temperature": temperature, "reference": len(votes)},
        seed=seed,
        resamples=resamples,
        provenance=dict(provenance or {}),
    )
    results.timings["knn_s"] = searched
    results.notes.extend(_unseen(votes, dataset.class_names))
    return results


def _unseen(votes: np.ndarray, names: Sequence[str]) -> list[str]:
    unseen = [name for name, count in zip(names, votes.sum(axis=0), strict=True) if not count]
    if not unseen:
        return []
    return [f"No reference image shows {', '.join(unseen)}: such a class can get no vote."]
