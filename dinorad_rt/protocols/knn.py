"""kNN with a soft vote, as in DINO and DINOv2, for any number of classes and for multi-label.

Similarity: cosine of class tokens. Vote: softmax of the k highest similarities divided by the
temperature, summed per class (Wu et al., arXiv 1805.01978; facebookresearch/dinov2 `knn.py`,
T = 0.07). For multi-label tasks each label gets the sum of its neighbours' weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dinorad_rt.embeddings.table import joined
from dinorad_rt.errors import ProtocolError
from dinorad_rt.progress import Progress, Stages, uncounted, unseen
from dinorad_rt.protocols.neighbours import neighbours
from dinorad_rt.protocols.selection import score
from dinorad_rt.protocols.settings import AbstractSettings

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.truth import Truth
    from dinorad_rt.reports.results import Results

TEMPERATURE = 0.07
KS = {"dinorad": (5, 10, 20), "study": (5,), "dinov2": (10, 20, 100, 200)}
_CHUNK_VALUES = 4_000_000

__all__ = ["KNNClassifier", "KNNSettings", "evaluate_knn", "neighbours", "soft_vote"]


@dataclass(frozen=True, kw_only=True)
class KNNSettings(AbstractSettings):
    """Settings of `knn`.

    Attributes:
        ks: numbers of neighbours; None for the preset's list as far as it fits.
        temperature: of the soft vote.
        device: where similarities are computed, such as cpu or cuda.
    """

    ks: tuple[int, ...] | None = None
    temperature: float = TEMPERATURE
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ks(self)
        self.require(self.temperature > 0, "temperature", "above 0; DINOv2 uses 0.07")

    @classmethod
    def preset(cls, name: str) -> KNNSettings:
        """The settings of a preset: they differ in the list of k."""
        return cls(preset_name=name)

    @property
    def reads(self) -> tuple[int | None, bool]:
        """The last class token alone."""
        return 1, False

    def fitting(self, reference: int) -> tuple[int, ...]:
        """The list of k for a reference set of so many rows."""
        return fitting_ks(self.ks, KS[self.preset_name], reference)

    def check(self, truth: Truth) -> None:
        """Refuse k that the reference set cannot serve."""
        self.fitting(truth.count("train", "val"))

    def deviations(self, truth: Truth) -> list[str]:
        """The study's multi-class script is not for multi-label, and does not run as published."""
        if self.preset_name != "study":
            return []
        found = [
            "study: its kNN script stops at start (it reads args.backbone, which its parser lacks) "
            "and asks for top-5 accuracy of any number of classes; the vote here is as written.",
            "study: its kNN resizes to 256 px and crops 224; here the preprocessing decides.",
        ]
        if truth.task == "multilabel":
            found.append(
                "study: multi-label sets go through ML-kNN (--protocol mlknn), not the soft vote."
            )
        return found


def check_ks(settings: Any) -> None:
    """Refuse a list of k that is empty or holds a number below one."""
    ks = settings.ks
    settings.require(ks is None or (len(ks) and min(ks) >= 1), "ks", "whole numbers from 1")


def fitting_ks(
    asked: tuple[int, ...] | None, default: tuple[int, ...], reference: int
) -> tuple[int, ...]:
    """The asked list, or the default one without what a small reference set cannot serve.

    Raises:
        ProtocolError: an asked k is larger than the reference set.
    """
    if asked is None:
        return tuple(k for k in default if k <= reference) or (max(1, reference),)
    if max(asked) > reference:
        raise ProtocolError(
            f"k = {max(asked)} is larger than the reference set of {reference} images "
            "(train and val).",
            f"Use --k with values up to {reference}.",
        )
    return tuple(sorted(set(asked)))


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
    train: EmbeddingTable,
    val: EmbeddingTable,
    test: EmbeddingTable,
    dataset: DatasetInfo,
    settings: KNNSettings,
    *,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    stages: Stages = unseen,
) -> Results:
    """Judge test images by their neighbours, for every k from one search.

    The last block's class token is used. The k that validation would choose (neighbours in train
    alone) is named in the results; test chooses nothing.

    Args:
        train, val, test: embeddings of the splits; val may be empty.
        dataset: task and classes.
        settings: see `KNNSettings`.
        seed: of the intervals' resampling.
        provenance: goes into the results as it is.
        stages: told of searches and resamples.

    Raises:
        ProtocolError: k is larger than the reference set.
    """
    from dinorad_rt.protocols.judge import judge
    from dinorad_rt.reports.results import Predictions

    start = time.perf_counter()
    reference = joined([train, val])
    ks = settings.fitting(len(reference))
    votes = votes_of(reference.labels, len(dataset.class_names))
    with stages("searching neighbours", "images") as progress:
        scores = scores_by_k(settings, ks, reference, votes, test, progress=progress)
    searched = time.perf_counter() - start

    def on_validation(fitting: Sequence[int]) -> list[np.ndarray]:
        known = votes_of(train.labels, len(dataset.class_names))
        with stages("searching neighbours to choose k", "images") as progress:
            return scores_by_k(settings, fitting, train, known, val, progress=progress)

    chosen, notes = choice_of_k(ks, len(train), val, dataset, on_validation)
    results = judge(
        "knn",
        test,
        dataset,
        [Predictions({"k": k}, found) for k, found in zip(ks, scores, strict=True)],
        settings,
        resolved={"ks": ks, "reference": len(reference)},
        chosen=chosen,
        seed=seed,
        provenance=provenance,
        stages=stages,
    )
    results.timings["knn_s"] = searched
    results.notes.extend(notes)
    return results


def scores_by_k(
    settings: KNNSettings,
    ks: Sequence[int],
    reference: EmbeddingTable,
    votes: np.ndarray,
    queries: EmbeddingTable,
    *,
    progress: Progress = uncounted,
) -> list[np.ndarray]:
    """Scores (queries, classes) for every k, from one search."""
    similarity, index = neighbours(
        queries.cls[:, -1],
        reference.cls[:, -1],
        max(ks),
        device=settings.device,
        progress=progress,
    )
    return [soft_vote(similarity[:, :k], index[:, :k], votes, settings.temperature) for k in ks]


def choice_of_k(
    ks: Sequence[int],
    most: int,
    val: EmbeddingTable,
    dataset: DatasetInfo,
    scores_of: Callable[[Sequence[int]], list[np.ndarray]],
) -> tuple[dict[str, Any], list[str]]:
    """The k with the best macro AUROC on validation, and what a reader must know.

    Args:
        ks: the list.
        most: the largest k that train alone can serve.
        val: validation rows; may be empty.
        dataset: task and classes.
        scores_of: list of k → scores of the validation rows, with train as the reference.
    """
    if len(ks) == 1:
        return {"k": ks[0]}, []
    if not len(val) or max(ks) > most:
        return {}, ["No k was chosen: there is no val split that could. Name one before you look."]
    values = [score(item, val.labels, dataset.task, "auroc") for item in scores_of(ks)]
    if np.isnan(values).all():
        return {}, ["No k was chosen: AUROC is undefined on the val split."]
    best = ks[int(np.nanargmax(np.round(values, 12)))]
    return {"k": best}, [
        f"* k = {best} has the best AUROC of {', '.join(map(str, ks))} on the {len(val)} "
        "validation images; test chose nothing."
    ]
