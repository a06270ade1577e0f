"""L2 logistic regression along a path of C: Newton steps by preconditioned conjugate gradients.

The objective is scikit-learn's, C · sum of losses + ½ |weights|², intercepts free. Features are
centred and turned into their principal axes, once for the whole path: there the Hessian is nearly
diagonal, and its exact diagonal as preconditioner leaves few conjugate gradient steps for small C.
Where more are needed, a Cholesky factor of the Hessian takes its place, and serves until it has
cost as many steps as a new one would. Each C starts from the solution of the smaller one before.
One-vs-rest problems share every matrix product; a softmax is one problem with coupled columns.
Float64 throughout.

Source: Nocedal and Wright, Numerical Optimization, algorithm 7.1 (line search Newton-CG).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinorad_rt.progress import Progress, uncounted

if TYPE_CHECKING:
    import torch

Link = Literal["softmax", "sigmoid"]
TOLERANCE = 1e-8
"""Stop when Newton's estimate of what is left is below this part of the objective."""
_NEWTON_STEPS = 60
_CG_STEPS = 250
_FORCING = 1e-3
"""Conjugate gradients stop at this part of the residual's squared norm."""
_HALVINGS = 25
_FACTOR_COST = 6
"""A factor of the Hessian costs about (number of axes) / 6 products for each block of a row."""
_COUPLED = 3_000
"""Largest number of weights of a softmax whose whole Hessian is factored, not its blocks alone."""


@dataclass(frozen=True)
class Fit:
    """One solution.

    Attributes:
        C: inverse strength of the penalty.
        coef: (dim, outputs) float64.
        intercept: (outputs,).
        loss: objective at the solution, summed over outputs.
        products: products with the features that it took, forward and back counted as one.
    """

    C: float
    coef: np.ndarray
    intercept: np.ndarray
    loss: float
    products: int

    def logits(self, X: np.ndarray) -> np.ndarray:
        """(samples, outputs)."""
        return np.asarray(X.astype(np.float64) @ self.coef + self.intercept)


def fit_path(
    X: np.ndarray,
    targets: np.ndarray,
    Cs: Sequence[float],
    *,
    link: Link,
    device: str = "cpu",
    tolerance: float = TOLERANCE,
    progress: Progress = uncounted,
) -> list[Fit]:
    """Solutions for ascending C.

    Args:
        X: (samples, dim).
        targets: (samples, outputs) 0/1; rows sum to one for a softmax. Every output has zeros and
            ones.
        Cs: ascending.
        link: softmax couples the outputs; sigmoid makes each a problem of its own.
        device: where the products run.
        tolerance: see `TOLERANCE`.
        progress: called with (done, total) values of C.
    """
    import torch

    with torch.inference_mode():
        axes = _Axes(torch.from_numpy(np.asarray(X, np.float64)).to(device))
        problem = _Problem(
            axes.features, torch.from_numpy(np.asarray(targets, np.float64)).to(device), link
        )
        weights = problem.start()
        found = []
        for C in Cs:
            before = problem.products
            weights, loss = _newton(problem, weights, float(C), tolerance)
            coef, intercept = axes.back(weights)
            found.append(Fit(float(C), coef, intercept, loss, problem.products - before))
            progress(len(found), len(Cs))
    return found


class _Axes:
    """Centred features in their principal axes, with a last column of ones for the intercept."""

    def __init__(self, X: torch.Tensor) -> None:
        import torch

        self._mean = X.mean(dim=0)
        centred = X - self._mean
        if len(X) >= X.shape[1]:
            self._turn = torch.linalg.eigh(centred.T @ centred).eigenvectors
        else:
            self._turn = torch.linalg.svd(centred, full_matrices=False).Vh.T
        ones = torch.ones((len(X), 1), dtype=X.dtype, device=X.device)
        self.features = torch.cat([centred @ self._turn, ones], dim=1)

    def back(self, weights: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and intercepts for features as they came."""
        coef = self._turn @ weights[:-1]
        intercept = weights[-1] - self._mean @ coef
        return coef.cpu().numpy(), intercept.cpu().numpy()


class _Problem:
    """Objective, gradient and Hessian products. Weights are (axes + 1, outputs)."""

    def __init__(self, features: torch.Tensor, targets: torch.Tensor, link: Link) -> None:
        import torch

        self.features, self.targets, self.softmax = features, targets, link == "softmax"
        self.squares = features.square()
        self.penalty = torch.ones((features.shape[1], 1), dtype=features.dtype).to(features.device)
        self.penalty[-1] = 0.0
        self.products = 0
        self.precondition = _Preconditioner(self)

    def start(self) -> torch.Tensor:
        """Zero weights, and intercepts that give the frequencies of the classes."""
        import torch

        share = self.targets.mean(dim=0)
        shape = (self.features.shape[1], self.targets.shape[1])
        weights = torch.zeros(shape, dtype=share.dtype, device=share.device)
        weights[-1] = share.log() if self.softmax else share.logit()
        return weights

    def dot(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Inner product of each problem: (outputs,), or (1,) for a softmax."""
        columns = (left * right).sum(dim=0)
        return columns.sum(dim=0, keepdim=True) if self.softmax else columns

    def loss(self, logits: torch.Tensor, weights: torch.Tensor, C: float) -> torch.Tensor:
        """Objective of each problem."""
        import torch

        penalty = 0.5 * self.dot(weights, self.penalty * weights)
        if self.softmax:
            rows = logits.logsumexp(dim=1) - (logits * self.targets).sum(dim=1)
            return C * rows.sum(dim=0, keepdim=True) + penalty
        terms = torch.nn.functional.softplus(logits) - logits * self.targets
        return C * terms.sum(dim=0) + penalty

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        """Logits (samples, outputs)."""
        self.products += 1
        return self.features @ weights

    def gradient(self, probability: torch.Tensor, weights: torch.Tensor, C: float) -> torch.Tensor:
        """Gradient of the objective."""
        error = probability - self.targets
        return C * (self.features.T @ error) + self.penalty * weights

    def probability(self, logits: torch.Tensor) -> torch.Tensor:
        """(samples, outputs)."""
        return logits.softmax(dim=1) if self.softmax else logits.sigmoid()

    def hessian(self, probability: torch.Tensor, vector: torch.Tensor, C: float) -> torch.Tensor:
        """Hessian times a vector."""
        change = probability * self.forward(vector)
        if self.softmax:
            change -= probability * change.sum(dim=1, keepdim=True)
        else:
            change *= 1 - probability
        return C * (self.features.T @ change) + self.penalty * vector


class _Preconditioner:
    """An approximate inverse of the Hessian: its diagonal, or a factor of an earlier one."""

    def __init__(self, problem: _Problem) -> None:
        self._problem = problem
        self._factor: torch.Tensor | None = None
        self._inverse: torch.Tensor | None = None
        self._since = 0
        axes, outputs = problem.features.shape[1], problem.targets.shape[1]
        self._coupled = problem.softmax and axes * outputs <= _COUPLED
        self._cost = axes / _FACTOR_COST * ((outputs + 1) / 2 if self._coupled else 1)

    def refresh(self, probability: torch.Tensor, C: float) -> None:
        """Prepare for a Newton step at the given probabilities."""
        problem = self._problem
        if self._since > self._cost:
            self._factor = _factor(problem, probability, C, self._coupled)
            self._since = 0
        if self._factor is None:
            weight = probability * (1 - probability)
            diagonal = C * (problem.squares.T @ weight) + problem.penalty
            self._inverse = 1.0 / diagonal.clamp_min(1e-12)

    def __call__(self, residual: torch.Tensor) -> torch.Tensor:
        """The approximate inverse times (axes + 1, outputs)."""
        import torch

        self._since += 1
        if self._factor is None:
            assert self._inverse is not None
            return self._inverse * residual
        rows = residual.T.reshape(len(self._factor), -1, 1)
        solved = torch.cholesky_solve(rows, self._factor)
        return solved.reshape(residual.shape[1], -1).T


def _factor(problem: _Problem, probability: torch.Tensor, C: float, coupled: bool) -> torch.Tensor:
    """Cholesky factors of the Hessian: (outputs, axes + 1, axes + 1), or (1, all, all) coupled."""
    import torch

    A, outputs = problem.features, probability.shape[1]
    penalty = torch.diag(problem.penalty[:, 0])

    def block(weight: torch.Tensor) -> torch.Tensor:
        return C * (A.T @ (A * weight[:, None]))

    if coupled:
        columns = probability.T
        rows = [
            [
                block(p * (float(i == j) - q)) + float(i == j) * penalty
                for j, q in enumerate(columns)
            ]
            for i, p in enumerate(columns)
        ]
        hessian = torch.cat([torch.cat(row, dim=1) for row in rows])[None]
    else:
        weights = (probability * (1 - probability)).T
        hessian = torch.stack([block(weights[k]) + penalty for k in range(outputs)])
    return _cholesky(hessian)


def _cholesky(matrices: torch.Tensor) -> torch.Tensor:
    """Factors of matrices that may be singular by rounding: a little is added to the diagonals.

    The intercepts of a softmax may all move together at no cost, so one direction is flat.
    """
    import torch

    diagonal = matrices.diagonal(dim1=1, dim2=2)
    little = 1e-12 * diagonal.amax(dim=1, keepdim=True)
    while True:
        diagonal += little  # in place
        factor: torch.Tensor
        factor, failed = torch.linalg.cholesky_ex(matrices)
        if not bool(failed.any()):
            return factor
        little = 100 * little


def _newton(
    problem: _Problem, weights: torch.Tensor, C: float, tolerance: float
) -> tuple[torch.Tensor, float]:
    """Weights at the optimum, and the objective there."""
    logits = problem.forward(weights)
    loss = problem.loss(logits, weights, C)
    for _ in range(_NEWTON_STEPS):
        probability = problem.probability(logits)
        gradient = problem.gradient(probability, weights, C)
        step = _direction(problem, probability, gradient, C)
        slope = problem.dot(gradient, step)
        change = problem.forward(step)
        size, loss = _line_search(problem, (weights, logits, loss), (step, change, slope), C)
        weights = weights + size * step
        logits = logits + size * change
        if bool((-0.5 * slope <= tolerance * loss.abs()).all()):
            break
    return weights, float(loss.sum())


def _direction(
    problem: _Problem, probability: torch.Tensor, gradient: torch.Tensor, C: float
) -> torch.Tensor:
    """Minus the inverse Hessian times the gradient, as far as the next Newton step needs it."""
    import torch

    problem.precondition.refresh(probability, C)
    step = torch.zeros_like(gradient)
    residual = -gradient
    scaled = problem.precondition(residual)
    search = scaled
    energy = problem.dot(residual, scaled)
    goal = _FORCING * energy
    for _ in range(_CG_STEPS):
        bent = problem.hessian(probability, search, C)
        length = _quotient(energy, problem.dot(search, bent))
        step = step + length * search
        residual = residual - length * bent
        scaled = problem.precondition(residual)
        fresh = problem.dot(residual, scaled)
        if bool((fresh <= goal).all()):
            break
        search = scaled + _quotient(fresh, energy) * search
        energy = fresh
    return step


def _quotient(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Zero where the denominator is: that problem is solved."""
    return (numerator / denominator.clamp_min(1e-300)).where(denominator > 0, 0.0 * numerator)


def _line_search(
    problem: _Problem,
    state: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    move: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    C: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Step sizes of each problem, halved until the objective falls enough; the objective there."""
    import torch

    weights, logits, loss = state
    step, change, slope = move
    size = torch.ones_like(loss)
    for _ in range(_HALVINGS):
        value = problem.loss(logits + size * change, weights + size * step, C)
        worse = value > loss + 1e-4 * size * slope + 1e-14 * loss.abs()
        if not bool(worse.any()):
            return size, value
        size = torch.where(worse, 0.5 * size, size)
    size = torch.where(worse, 0.0 * size, size)
    return size, torch.where(worse, loss, value)
