"""From logits to probabilities that can be believed, and to a decision.

Fitted on validation images only; the numbers go into a bundle and are applied by `predict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dinorad_rt.errors import ProtocolError

Activation = Literal["softmax", "sigmoid"]
Rule = Literal["youden", "sensitivity", "specificity"]
_LOG_RANGE = (-4.0, 4.0)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it gave on the images that it was chosen on.

    Attributes:
        threshold: a probability at or above it is called positive.
        sensitivity, specificity: on the validation images.
        rule: how it was chosen.
    """

    threshold: float
    sensitivity: float
    specificity: float
    rule: str


def activation_of(task: str) -> Activation:
    """Sigmoid for the labels of a multi-label task, softmax for one class of several."""
    return "sigmoid" if task == "multilabel" else "softmax"


def probabilities(
    logits: np.ndarray, activation: Activation, temperature: float | np.ndarray = 1.0
) -> np.ndarray:
    """Probabilities of logits.

    Args:
        logits: (samples, classes).
        activation: softmax over the classes, or sigmoid of each.
        temperature: the logits are divided by it first; one, or one per class.

    Returns:
        (samples, classes) float64 in [0, 1].
    """
    from scipy.special import expit, softmax

    scaled = np.asarray(logits, np.float64) / temperature
    result: np.ndarray = softmax(scaled, axis=1) if activation == "softmax" else expit(scaled)
    return result


def fit_temperature(logits: np.ndarray, labels: np.ndarray, activation: Activation) -> np.ndarray:
    """Temperatures with the least negative log likelihood (Guo et al., arXiv 1706.04599).

    Args:
        logits: (samples, classes) of validation images.
        labels: (samples,) class indices for softmax, (samples, classes) 0/1 for sigmoid.
        activation: see `probabilities`.

    Returns:
        (1,) for softmax, (classes,) for sigmoid, between exp(-4) and exp(4). A label whose
        validation images are all of one kind keeps 1.
    """
    if activation == "softmax":
        return np.asarray([_least(logits, labels, activation)])
    found = np.ones(logits.shape[1])
    for index in range(logits.shape[1]):
        truth = labels[:, index : index + 1]
        if 0 < truth.sum() < len(truth):
            found[index] = _least(logits[:, index : index + 1], truth, activation)
    return found


def negative_log_likelihood(
    logits: np.ndarray, labels: np.ndarray, activation: Activation, temperature: float = 1.0
) -> float:
    """Mean negative log likelihood, natural logarithm."""
    from scipy.special import log_expit, log_softmax

    scaled = np.asarray(logits, np.float64) / temperature
    if activation == "softmax":
        picked = log_softmax(scaled, axis=1)[np.arange(len(labels)), labels]
        return float(-picked.mean())
    return float(-np.where(labels, log_expit(scaled), log_expit(-scaled)).mean())


def _least(logits: np.ndarray, labels: np.ndarray, activation: Activation) -> float:
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        return negative_log_likelihood(logits, labels, activation, float(np.exp(log)))

    found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if loss(float(found.x)) < loss(0.0) else 1.0


def operating_point(
    positive: np.ndarray, score: np.ndarray, *, rule: Rule = "youden", least: float = 0.9
) -> OperatingPoint:
    """Choose a threshold on validation images.

    Args:
        positive: (samples,) bool.
        score: (samples,) probabilities.
        rule: `youden` takes the largest sensitivity + specificity; `sensitivity` the largest
            specificity among thresholds whose sensitivity is at least `least`; `specificity` the
            other way round.
        least: what is asked of the one, in [0, 1].

    Raises:
        ProtocolError: without both kinds of images no threshold can be chosen.
    """
    from sklearn.metrics import roc_curve

    if not 0 < positive.sum() < len(positive):
        raise ProtocolError(
            f"No threshold can be chosen on {len(positive)} validation images of which "
            f"{int(positive.sum())} are positive.",
            "Give a validation split with positive and negative images.",
        )
    false, true, thresholds = roc_curve(positive, score, drop_intermediate=False)
    false, true, thresholds = false[1:], true[1:], thresholds[1:]
    if rule == "youden":
        value, text = true - false, "largest sensitivity + specificity"
    elif rule == "sensitivity":
        value = np.where(true >= least, 1.0 - false, -1.0)
        text = f"largest specificity at a sensitivity of at least {least:g}"
    else:
        value = np.where(1.0 - false >= least, true, -1.0)
        text = f"largest sensitivity at a specificity of at least {least:g}"
    best = int(np.argmax(value))
    if value[best] < 0:
        raise ProtocolError(
            f"No threshold reaches a {rule} of {least:g} on the validation images.",
            f"Ask for a lower {rule}.",
        )
    return OperatingPoint(float(thresholds[best]), float(true[best]), float(1 - false[best]), text)
