"""ML-kNN: a lazy learner for multi-label data, by cosine.

Zhang and Zhou, Pattern Recognition 40 (2007) 2038. For each label the number of neighbours that
carry it is turned into a probability by Bayes' rule, with frequencies counted on the reference
itself. The study uses it with the cosine, smoothing 1, and each reference image among its own
neighbours (PROTOCOLS 2.2); the paper leaves the image itself out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dinorad_rt.embeddings.table import joined
from dinorad_rt.errors import ProtocolError
from dinorad_rt.progress import Progress, Stages, uncounted, unseen
from dinorad_rt.protocols.knn import check_ks, choice_of_k, fitting_ks, votes_of
from dinorad_rt.protocols.neighbours import neighbours
from dinorad_rt.protocols.settings import AbstractSettings

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.truth import Truth
    from dinorad_rt.reports.results import Results

KS = {"dinorad": (5, 10, 20), "study": (5, 20, 50, 100, 200), "dinov2": (10, 20, 100, 200)}


@dataclass(frozen=True, kw_only=True)
class MLKNNSettings(AbstractSettings):
    """Settings of `mlknn`.

    Attributes:
        ks: numbers of neighbours; None for the preset's list as far as it fits.
        smoothing: added to each count; 1 is Laplace's.
        exclude_self: a reference image is no neighbour of itself when frequencies are counted, as
            in the paper; the study counts it.
        device: where similarities are computed, such as cpu or cuda.
    """

    ks: tuple[int, ...] | None = None
    smoothing: float = 1.0
    exclude_self: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ks(self)
        self.require(self.smoothing > 0, "smoothing", "above 0; the paper uses 1")

    @classmethod
    def preset(cls, name: str) -> MLKNNSettings:
        """The study counts each reference image as its own neighbour."""
        return cls(preset_name=name, exclude_self=name != "study")

    @property
    def reads(self) -> tuple[int | None, bool]:
        """The last class token alone."""
        return 1, False

    def fitting(self, reference: int) -> tuple[int, ...]:
        """The list of k for a reference set of so many rows."""
        most = reference - self.exclude_self
        return fitting_ks(self.ks, KS[self.preset_name], most)

    def check(self, truth: Truth) -> None:
        """Refuse k that the reference set cannot serve."""
        self.fitting(truth.count("train", "val"))

    def deviations(self, truth: Truth) -> list[str]:
        """What the study's code does that its text or the paper's ML-kNN does not."""
        found = []
        if self.preset_name == "study":
            found.append(
                "study: each training image counts among its own neighbours when the frequencies "
                "are fitted (ignore_first_neighbours = 0); the ML-kNN paper leaves it out. "
                "--set exclude_self=true does as the paper."
            )
            found.append(
                "study: the list of k is the default of its function (5, 20, 50, 100, 200); which "
                "one its tables report is not published."
            )
        elif self.preset_name == "dinov2":
            found.append("dinov2: has no ML-kNN; this is its list of k with the paper's method.")
        if truth.task != "multilabel":
            found.append(
                f"ML-kNN is for multi-label data; this task is {truth.task}: each class is taken "
                "as a label, and the scores of an image are scaled to sum to one."
            )
        return found


class MLKNN:
    """ML-kNN by cosine, in scikit-learn's manner.

    Args:
        k: neighbours.
        smoothing: added to each count.
        exclude_self: see `MLKNNSettings`.
        device: where similarities are computed.

    After `fit`: `prior_` (labels,), `present_` and `absent_` (labels, k + 1), the probability of
    so many neighbours with the label, given that the image has it, or has it not.
    """

    def __init__(
        self, k: int = 10, *, smoothing: float = 1.0, exclude_self: bool = True, device: str = "cpu"
    ) -> None:
        self.k = k
        self.smoothing = smoothing
        self.exclude_self = exclude_self
        self.device = device

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Count on the reference.

        Args:
            X: (samples, dim) embeddings.
            y: (samples, labels) 0/1.

        Raises:
            ProtocolError: k is larger than the reference set.
        """
        index = own_neighbours(X, self.k, self.exclude_self, self.device)
        return self._fit(X, np.asarray(y, np.int64), index)

    def _fit(self, X: np.ndarray, y: np.ndarray, index: np.ndarray) -> Self:
        self.reference_, self.labels_ = X, y
        self.prior_ = (self.smoothing + y.sum(axis=0)) / (2 * self.smoothing + len(y))
        counts = label_counts(index[:, : self.k], y)
        self.present_ = self._likelihood(counts, y == 1)
        self.absent_ = self._likelihood(counts, y == 0)
        return self

    def _likelihood(self, counts: np.ndarray, member: np.ndarray) -> np.ndarray:
        """(labels, k + 1): share of the members of each label that have so many neighbours."""
        labels, width = counts.shape[1], self.k + 1
        place = counts + np.arange(labels) * width
        found = np.bincount(place[member], minlength=labels * width).reshape(labels, width)
        total = found.sum(axis=1, keepdims=True)
        return np.asarray((self.smoothing + found) / (self.smoothing * width + total))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probability of each label, (samples, labels)."""
        _, index = neighbours(X, self.reference_, self.k, device=self.device)
        return self.probability(index)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(samples, labels) 0/1: labels whose probability is above one half."""
        return np.asarray((self.predict_proba(X) > 0.5).astype(np.int64))

    def probability(self, index: np.ndarray) -> np.ndarray:
        """Probability of each label from the neighbours (samples, k) of each sample."""
        counts = label_counts(index[:, : self.k], self.labels_)
        labels = np.arange(counts.shape[1])
        yes = self.prior_ * self.present_[labels, counts]
        no = (1 - self.prior_) * self.absent_[labels, counts]
        return np.asarray(yes / (yes + no))


def label_counts(index: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many of each sample's neighbours carry each label: (samples, labels) int64.

    Args:
        index: (samples, k) rows of the reference.
        labels: (reference, labels) 0/1.
    """
    from scipy.sparse import csr_array

    rows, k = index.shape
    pointers = np.arange(0, rows * k + 1, k)
    chosen = csr_array(
        (np.ones(rows * k, np.int64), index.ravel(), pointers), shape=(rows, len(labels))
    )
    return np.asarray(chosen @ labels)


def own_neighbours(
    X: np.ndarray, k: int, exclude_self: bool, device: str, progress: Progress = uncounted
) -> np.ndarray:
    """(samples, k) neighbours of each reference row in the reference, with or without itself."""
    if not exclude_self:
        return neighbours(X, X, k, device=device, progress=progress)[1]
    if k >= len(X):
        raise ProtocolError(
            f"k = {k}, but an image of the {len(X)} has only {len(X) - 1} others.",
            f"Use k up to {len(X) - 1}.",
        )
    _, index = neighbours(X, X, k + 1, device=device, progress=progress)
    own = index == np.arange(len(X))[:, None]
    own[~own.any(axis=1), -1] = True  # copies of the image fill the list: the last one goes
    return np.asarray(index[~own].reshape(len(X), k))


def evaluate_mlknn(
    train: EmbeddingTable,
    val: EmbeddingTable,
    test: EmbeddingTable,
    dataset: DatasetInfo,
    settings: MLKNNSettings,
    *,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    stages: Stages = unseen,
) -> Results:
    """Judge test images by ML-kNN on train and val together, for every k from one search.

    Args: as for `evaluate_knn`.

    Raises:
        ProtocolError: k is larger than the reference set.
    """
    from dinorad_rt.protocols.judge import judge
    from dinorad_rt.reports.results import Predictions

    start = time.perf_counter()
    reference = joined([train, val])
    ks = settings.fitting(len(reference))
    scores = _scores_by_k(settings, ks, reference, test, dataset, stages=stages)
    searched = time.perf_counter() - start

    def on_validation(fitting: Sequence[int]) -> list[np.ndarray]:
        why = " to choose k"
        return _scores_by_k(settings, fitting, train, val, dataset, stages=stages, why=why)

    chosen, notes = choice_of_k(ks, len(train) - settings.exclude_self, val, dataset, on_validation)
    results = judge(
        "mlknn",
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
    results.timings["mlknn_s"] = searched
    results.notes.extend(notes)
    return results


def _scores_by_k(
    settings: MLKNNSettings,
    ks: Sequence[int],
    reference: EmbeddingTable,
    queries: EmbeddingTable,
    dataset: DatasetInfo,
    *,
    stages: Stages,
    why: str = "",
) -> list[np.ndarray]:
    """Scores (queries, classes) for every k; rows sum to one unless the task is multi-label."""
    labels = votes_of(reference.labels, len(dataset.class_names)).astype(np.int64)
    known = reference.cls[:, -1]
    device = settings.device
    with stages(f"searching neighbours of the reference{why}", "images") as progress:
        own = own_neighbours(known, max(ks), settings.exclude_self, device, progress)
    with stages(f"searching neighbours{why}", "images") as progress:
        queried = queries.cls[:, -1]
        _, index = neighbours(queried, known, max(ks), device=device, progress=progress)
    found = []
    for k in ks:
        model = MLKNN(k, smoothing=settings.smoothing, exclude_self=settings.exclude_self)
        scores = model._fit(known, labels, own).probability(index)
        if dataset.task != "multilabel":
            scores /= scores.sum(axis=1, keepdims=True)
        found.append(scores)
    return found
