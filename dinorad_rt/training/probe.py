"""The head before training: features standardised, and a logistic regression for a start.

Imported late: torch and scikit-learn.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from dinorad_rt.training.classifier import LinearHead
from dinorad_rt.types import Task

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C of scikit-learn's logistic regression on standardised features; validation chooses."""
MAX_SAMPLES = 4096
"""Training images that statistics and the start are computed from, evenly spread."""

Split = tuple[np.ndarray, np.ndarray]
"""Features (samples, dim) and labels."""


def evenly(samples: int, most: int = MAX_SAMPLES) -> np.ndarray:
    """Indices of at most so many samples, evenly spread."""
    return np.unique(np.linspace(0, samples - 1, min(samples, most)).round().astype(int))


@torch.no_grad()
def standardise(head: LinearHead, features: np.ndarray) -> None:
    """Set the head's statistics; a feature that never varies keeps its scale."""
    spread = features.std(axis=0)
    scale = np.where(spread > 1e-6, 1.0 / np.maximum(spread, 1e-6), 1.0)
    head.mean.copy_(torch.from_numpy(features.mean(axis=0)))
    head.scale.copy_(torch.from_numpy(scale))


@torch.no_grad()
def start_from_probe(head: LinearHead, train: Split, val: Split, task: Task) -> float:
    """Set the head to the logistic regression with the least log loss on the validation split.

    Args:
        head: with its statistics set.
        train, val: features and labels.
        task: decides between softmax and one regression per label.

    Returns:
        The chosen C.
    """
    mean, scale = head.mean.cpu().numpy(), head.scale.cpu().numpy()
    x, x_val = (((part[0] - mean) * scale).astype(np.float64) for part in (train, val))
    found = [
        (strength, *_fit(x, train[1], head.weight.shape[0], strength, task))
        for strength in STRENGTHS
    ]
    losses = [_log_loss(x_val @ w.T + b, val[1], task) for _, w, b in found]
    strength, weight, bias = found[int(np.argmin(losses))]
    head.weight.copy_(torch.from_numpy(weight))
    head.bias.copy_(torch.from_numpy(bias))
    return strength


def _fit(
    x: np.ndarray, labels: np.ndarray, classes: int, strength: float, task: Task
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (classes, dim) and bias (classes,); classes without examples stay at zero."""
    weight, bias = np.zeros((classes, x.shape[1])), np.zeros(classes)
    if task == "multilabel":
        for index in range(classes):
            if len(np.unique(labels[:, index])) == 2:
                model = _regression(x, labels[:, index], strength)
                weight[index], bias[index] = model.coef_[0], model.intercept_[0]
        return weight, bias
    if len(np.unique(labels)) < 2:  # a rare class may lie between the samples that are looked at
        return weight, bias
    model = _regression(x, labels, strength)
    if len(model.classes_) == 2:  # one logit: half of it to each side
        for place, sign in zip(model.classes_, (-0.5, 0.5), strict=True):
            weight[place], bias[place] = sign * model.coef_[0], sign * model.intercept_[0]
        return weight, bias
    weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _regression(x: np.ndarray, labels: np.ndarray, strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start, no result
        return LogisticRegression(C=strength, class_weight="balanced", max_iter=500).fit(x, labels)


def _log_loss(logits: np.ndarray, labels: np.ndarray, task: Task) -> float:
    if task == "multilabel":
        return float((np.logaddexp(0.0, logits) - labels * logits).mean())
    top = logits.max(axis=1, keepdims=True)
    log = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return float(-log[np.arange(len(labels)), labels].mean())
