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
    logits: np.ndarray,
    activation: Activation,
    temperature: float | np.ndarray = 1.0,
    bias: float | np.ndarray = 0.0,
) -> np.ndarray:
    """Probabilities of logits.

    Args:
        logits: (samples, classes).
        activation: softmax over the classes, or sigmoid of each.
        temperature: the logits are divided by it first; one, or one per class.
        bias: what is added to them then; one, or one per class.

    Returns:
        (samples, classes) float64 in [0, 1].
    """
    from scipy.special import expit, softmax

    scaled = np.asarray(logits, np.float64) / temperature + bias
    result: np.ndarray = softmax(scaled, axis=1) if activation == "softmax" else expit(scaled)
    return result


def fit_calibration(
    logits: np.ndarray, labels: np.ndarray, activation: Activation
) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures and offsets of logits, so that their probabilities can be believed.

    One class of two, and each label of a multi-label task: Platt's scaling. Its offset counts:
    training weighs rare findings up, and no temperature brings their probabilities down again.
    One class of several: a temperature alone, so that the most probable class stays the same.

    Args:
        logits: (samples, classes) of validation images.
        labels: (samples,) class indices for softmax, (samples, classes) 0/1 for sigmoid.
        activation: see `probabilities`.

    Returns:
        Temperature, (1,) for softmax and (classes,) for sigmoid, and offset, (classes,). What is
        all of one kind in validation keeps 1 and 0.
    """
    bias = np.zeros(logits.shape[1])
    if activation == "softmax":
        if logits.shape[1] != 2:
            return fit_temperature(logits, labels), bias
        temperature, bias[1] = fit_platt(logits[:, 1] - logits[:, 0], labels == 1)
        return np.asarray([temperature]), bias
    found = [fit_platt(logits[:, i], labels[:, i] == 1) for i in range(logits.shape[1])]
    return np.asarray([one[0] for one in found]), np.asarray([one[1] for one in found])


def fit_platt(logit: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Temperature and offset of one logit by Platt's scaling (1999), with his targets.

    Targets of (N + 1) / (N + 2) and 1 / (N + 2) keep a few images, all told apart, from
    probabilities of 0 and 1.

    Args:
        logit: (samples,) of validation images.
        positive: (samples,) bool.

    Returns:
        T between exp(-4) and exp(4), and b: the probability is sigmoid(logit / T + b). 1 and 0
        where all images are of one kind.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, log_expit

    many = int(positive.sum())
    few = len(positive) - many
    if not many or not few:
        return 1.0, 0.0
    logit = np.asarray(logit, np.float64)
    target = np.where(positive, (many + 1) / (many + 2), 1 / (few + 2))

    def loss(slope_and_bias: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = slope_and_bias[0] * logit + slope_and_bias[1]
        value = -(target * log_expit(scaled) + (1 - target) * log_expit(-scaled)).mean()
        slope = (expit(scaled) - target) / len(target)
        return float(value), np.asarray([slope @ logit, slope.sum()])

    low, high = np.exp(_LOG_RANGE)
    bounds = [(low, high), (None, None)]
    found = minimize(loss, [1.0, 0.0], jac=True, bounds=bounds, method="L-BFGS-B", tol=1e-12)
    return float(1 / found.x[0]), float(found.x[1])


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Temperature with the least negative log likelihood (Guo et al., arXiv 1706.04599).

    Args:
        logits: (samples, classes) of validation images.
        labels: (samples,) class indices.

    Returns:
        (1,), between exp(-4) and exp(4).
    """
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        return negative_log_likelihood(logits, labels, "softmax", float(np.exp(log)))

    found = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6})
    best = float(np.exp(found.x)) if loss(float(found.x)) < loss(0.0) else 1.0
    return np.asarray([best])


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
