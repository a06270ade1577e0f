"""One linear head in scikit-learn's manner, and what heads learn from and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from dinorad_rt.protocols.heads import Head, Loss, Plan, train_heads
from dinorad_rt.protocols.knn import votes_of

if TYPE_CHECKING:
    from dinorad_rt.types import Task


class LinearProbe:
    """One linear head trained by SGD with momentum and a cosine, in scikit-learn's manner.

    Args:
        learning_rate: at the start.
        steps, batch_size, momentum, loss, seed, device: see `heads.Plan`.
        num_classes: number of classes; None takes those that `fit` sees.

    After `fit`: `coef_` (outputs, dim), `intercept_` (outputs,).
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        *,
        steps: int = 2500,
        batch_size: int = 128,
        momentum: float = 0.9,
        loss: Loss = "per-label",
        num_classes: int | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.learning_rate = learning_rate
        self.steps = steps
        self.batch_size = batch_size
        self.momentum = momentum
        self.loss = loss
        self.num_classes = num_classes
        self.seed = seed
        self.device = device

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Train.

        Args:
            X: (samples, dim) embeddings.
            y: (samples,) class indices, or (samples, labels) 0/1 for multi-label.
        """
        labels = votes_of(y, self.num_classes)
        binary = labels.shape[1] == 2 and y.ndim == 1
        self._task: Task = "multilabel" if y.ndim == 2 else "binary" if binary else "multiclass"
        plan = Plan(self.steps, self.batch_size, self.momentum, self.loss, self.seed, self.device)
        trained = train_heads(
            np.ascontiguousarray(X, np.float32),
            targets_of(labels, self._task),
            [Head(1, False, self.learning_rate)],
            plan,
            dim=X.shape[1],
            task=self._task,
        )
        self.coef_, self.intercept_ = trained.weights[0].T, trained.biases[0]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Scores (samples, classes) in [0, 1]; rows sum to one unless the task is multi-label."""
        return scores_of(X @ self.coef_.T + self.intercept_, self._task, "softmax")

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class index with the highest score, or (samples, labels) 0/1 for multi-label."""
        from dinorad_rt.metrics.decisions import predicted_labels

        return predicted_labels(self.predict_proba(X), self._task)


def targets_of(labels: np.ndarray, task: Task) -> np.ndarray:
    """(samples, outputs) float32 of 0/1 labels: a binary task has one output."""
    chosen = labels[:, 1:] if task == "binary" else labels
    return np.ascontiguousarray(chosen, dtype=np.float32)


def scores_of(
    logits: np.ndarray, task: Task, activation: Literal["softmax", "sigmoid"]
) -> np.ndarray:
    """(samples, classes) float64 scores of (samples, outputs) logits."""
    from scipy.special import expit, softmax

    logits = logits.astype(np.float64)
    if task == "binary":
        positive = expit(logits)
        return np.hstack([1 - positive, positive])
    if task == "multiclass" and activation == "softmax":
        return np.asarray(softmax(logits, axis=1))
    return np.asarray(expit(logits))
