"""From logits to scores and metrics of the validation split."""

from __future__ import annotations

import numpy as np

from dinorad_rt.metrics import calibration
from dinorad_rt.metrics.classification import (
    weighted_accuracy,
    weighted_auroc,
    weighted_recalls,
)
from dinorad_rt.types import Task


def probabilities(logits: np.ndarray, task: Task) -> np.ndarray:
    """(samples, classes) logits → probabilities: softmax, or a sigmoid of each label."""
    return calibration.probabilities(logits, calibration.activation_of(task))


def validation_metrics(logits: np.ndarray, labels: np.ndarray, task: Task) -> dict[str, float]:
    """AUROC, macro over classes with positives and negatives, and accuracy by class or label.

    Binary tasks rank by the last class.
    """
    scores = probabilities(logits, task)
    hot = labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.arange(scores.shape[1])
    ones = np.ones((1, len(labels)))
    ranked = [scores.shape[1] - 1] if task == "binary" else range(scores.shape[1])
    values = [float(weighted_auroc(hot[:, c], scores[:, c], ones)[0]) for c in ranked]
    known = [value for value in values if not np.isnan(value)]
    auroc = float(np.mean(known)) if known else float("nan")
    if task == "multilabel":
        accuracy = float(((scores >= 0.5) == hot).mean())
        return {"auroc": auroc, "label_accuracy": accuracy}
    predicted = scores.argmax(axis=1)
    recalls = weighted_recalls(labels, predicted, ones)
    return {
        "auroc": auroc,
        "accuracy": float(weighted_accuracy(labels, predicted, ones)[0]),
        "balanced_accuracy": float(recalls.mean()),
    }
