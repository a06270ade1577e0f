"""Protocols and statistics against the usual way of computing the same, in one run.

    heads      the 52 linear heads of DINOv2's grid at once, and one after another, for tasks of
               1 output (binary), 3 (softmax) and 15 (multi-label)
    mlknn      ML-kNN from known neighbours, and its literal double loop
    logistic   45 values of C, and scikit-learn's LogisticRegression at equal loss
    bootstrap  10,000 patient bootstraps of a 25,000 x 15 multi-label AUROC, and a loop over
               scikit-learn, of which a few resamples are timed and the rest extrapolated

Each part runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import interleave, median_of_ratios, peak_rss_mb, run_python, save, table
from dinorad_rt.types import Task

BARS = {
    "heads-1": 5.0,
    "heads-3": 5.0,
    "heads-15": 5.0,
    "mlknn": 100.0,
    "logistic": 5.0,
    "bootstrap": 50.0,
}


def main() -> None:
    """Run all parts, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=sorted(BARS))
    parser.add_argument("--small", action="store_true", help="quick sizes, nothing is saved")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(_PARTS[arguments.part](arguments.small)))
        return
    rows = []
    for name in BARS:
        code = f"import sys; sys.argv = ['x', '--part', {name!r}]"
        code += " + ['--small']" if arguments.small else ""
        row = run_python(code + "; from benchmarks.protocols import main; main()")
        rows.append({"part": name, **row, "bar": BARS[name], "met": row["ratio"] >= BARS[name]})
        shown = ("part", "ours_s", "theirs_s", "ratio", "bar", "met", "difference", "peak_rss_mb")
        table([{key: rows[-1][key] for key in shown}])
    if not arguments.small:
        save("protocols", {"rows": rows})


def heads(small: bool, outputs: int) -> dict[str, Any]:
    """All heads at once against each alone: by the same code, and by PyTorch's own classes."""
    from dinorad_rt.embeddings.table import EmbeddingTable
    from dinorad_rt.protocols.heads import Plan, head_input, train_heads
    from dinorad_rt.protocols.linear import LinearSettings

    rows, dim, steps = 2000, 384, 20 if small else 300
    task: Task = "multiclass" if outputs == 3 else "multilabel"
    random = np.random.default_rng(0)
    hot = random.random((rows, outputs)) < 0.1
    if task == "multiclass":
        hot = np.eye(outputs, dtype=bool)[random.integers(outputs, size=rows)]
    targets = hot.astype(np.float32)
    names = np.arange(rows).astype(str)
    cls = random.standard_normal((rows, 4, dim), dtype=np.float32)
    mean = random.standard_normal((rows, dim), dtype=np.float32)
    data = EmbeddingTable(names, names, names, targets.astype(np.int64), cls, mean)
    grid, _ = LinearSettings.preset("dinov2").heads(data)
    plan = Plan(steps)
    inputs = {blocks: head_input(data, blocks) for blocks in (1, 4)}

    def at_once() -> Any:
        return train_heads(inputs[4], targets, grid, plan, dim=dim, task=task)

    def alone() -> Any:
        return [train_heads(inputs[h.blocks], targets, [h], plan, dim=dim, task=task) for h in grid]

    def pytorch() -> Any:
        return [_by_pytorch(inputs[4], targets, head, plan, task) for head in grid]

    seconds = interleave({"ours": at_once, "alone": alone, "pytorch": pytorch}, rounds=3)
    together, single, theirs = at_once(), alone(), pytorch()
    difference = max(
        float(np.abs(together.weights[i] - other).max())
        for i in range(len(grid))
        for other in (single[i].weights[0], theirs[i])
    )
    return {
        "what": f"{len(grid)} heads of {outputs}, {rows} x 5 x {dim}, {task}, {steps} steps of 128",
        "ours_s": min(seconds["ours"]),
        "theirs_s": min(seconds["pytorch"]),
        "theirs": "nn.Linear and torch.optim.SGD, one head after another",
        "ratio": median_of_ratios(seconds["pytorch"], seconds["ours"]),
        "same_code_one_by_one_s": min(seconds["alone"]),
        "ratio_same_code": median_of_ratios(seconds["alone"], seconds["ours"]),
        "difference": difference,
        "difference_is": "largest of any weight; weights start with deviation 0.01",
        "peak_rss_mb": peak_rss_mb(),
    }


def _by_pytorch(X: np.ndarray, targets: np.ndarray, head: Any, plan: Any, task: Task) -> np.ndarray:
    import torch
    from torch.nn import functional

    from dinorad_rt.protocols.heads import batches, columns_of, start_weights

    start, stop = columns_of(head, 4, X.shape[1] // 5)
    layer = torch.nn.Linear(stop - start, targets.shape[1])
    first = start_weights(head, (stop - start, targets.shape[1]), plan.seed)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(first).T)
        layer.bias.zero_()
    optimiser = torch.optim.SGD(layer.parameters(), lr=head.learning_rate, momentum=plan.momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
    rows, truth = torch.from_numpy(X[:, start:stop].copy()), torch.from_numpy(targets)
    for index in batches(len(X), plan):
        logits, wanted = layer(rows[index]), truth[index]
        if task == "multiclass":
            loss = functional.cross_entropy(logits, wanted, reduction="sum")
        else:
            loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        optimiser.zero_grad()
        (loss / len(index)).backward()
        optimiser.step()
        schedule.step()
    return np.asarray(layer.weight.detach().numpy().T)


def mlknn(small: bool) -> dict[str, Any]:
    """Fit and predict from the same neighbours; the search, which both need, is timed apart."""
    from dinorad_rt.protocols.mlknn import MLKNN, own_neighbours
    from dinorad_rt.protocols.neighbours import neighbours
    from tests.protocols.literal_mlknn import from_neighbours

    rows, queries, labels, k = (1000, 200, 15, 20) if small else (10_000, 2_000, 15, 20)
    random = np.random.default_rng(0)
    truth = (random.random((rows, labels)) < 0.1).astype(np.int64)
    points = random.standard_normal((rows, 384), dtype=np.float32)
    asked = random.standard_normal((queries, 384), dtype=np.float32)
    start = time.perf_counter()
    near = own_neighbours(points, k, True, "cpu")
    near_queries = neighbours(asked, points, k)[1]
    search = time.perf_counter() - start

    def ours() -> np.ndarray:
        return MLKNN(k)._fit(points, truth, near).probability(near_queries)

    def literal() -> np.ndarray:
        return from_neighbours(list(near), list(near_queries), truth, k=k, smoothing=1.0)

    seconds = interleave({"ours": ours, "literal": literal}, rounds=3)
    return {
        "what": f"{rows} reference and {queries} test images, {labels} labels, k = {k}",
        "ours_s": min(seconds["ours"]),
        "theirs_s": min(seconds["literal"]),
        "theirs": "the literal double loop over images and labels",
        "ratio": median_of_ratios(seconds["literal"], seconds["ours"]),
        "search_s": search,
        "search_is": "exact neighbours of reference and test images, in neither time above",
        "difference": float(np.abs(ours() - literal()).max()),
        "difference_is": "largest of any probability",
        "peak_rss_mb": peak_rss_mb(),
    }


def logistic(small: bool) -> dict[str, Any]:
    """The sweep of a softmax of three classes on correlated features.

    For each C scikit-learn gets the loosest tolerance of 1e-4, 1e-6, 1e-8, 1e-10 whose objective
    is within 1e-6 of ours, as if that were known beforehand; only that fit is timed.
    """
    from dinorad_rt.protocols.logistic import CS, LogisticClassifier

    rows, dim, classes = (400, 48, 3) if small else (2000, 192, 3)
    X, y = _correlated(rows, dim, classes)
    LogisticClassifier().fit_path(X[:50], y[:50], CS[:3])  # imports and threads
    times = []
    for _ in range(3):
        start = time.perf_counter()
        fits = LogisticClassifier().fit_path(X, y, CS)
        times.append(time.perf_counter() - start)
    theirs, excess, tolerances = 0.0, [], []
    for C, ours in zip(CS, fits, strict=True):
        seconds, loss, tolerance = _scikit_learn(X, y, C, ours.loss_)
        theirs += seconds
        excess.append(loss / ours.loss_ - 1)
        tolerances.append(tolerance)
    return {
        "what": f"45 values of C, {rows} x {dim}, softmax of {classes} classes",
        "ours_s": min(times),
        "theirs_s": theirs,
        "theirs": "LogisticRegression (lbfgs), the loosest tolerance that reaches our loss",
        "ratio": theirs / min(times),
        "tolerances": {str(t): tolerances.count(t) for t in sorted(set(tolerances))},
        "difference": float(max(map(abs, excess))),
        "difference_is": "largest relative difference of the objective over all C",
        "peak_rss_mb": peak_rss_mb(),
    }


def _correlated(rows: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    centres = random.standard_normal((classes, dim)) * 0.15
    mixing = random.standard_normal((dim, dim)) / np.sqrt(dim)
    return (centres[labels] + random.standard_normal((rows, dim))) @ mixing, labels


def _scikit_learn(
    X: np.ndarray, y: np.ndarray, C: float, goal: float
) -> tuple[float, float, float]:
    from scipy.special import log_softmax
    from sklearn.linear_model import LogisticRegression

    for tolerance in (1e-4, 1e-6, 1e-8, 1e-10):
        start = time.perf_counter()
        model = LogisticRegression(C=C, tol=tolerance, max_iter=20_000).fit(X, y)
        seconds = time.perf_counter() - start
        logits = log_softmax(X @ model.coef_.T + model.intercept_, axis=1)
        loss = -C * logits[np.arange(len(y)), y].sum() + 0.5 * (model.coef_**2).sum()
        if loss <= goal * (1 + 1e-6):
            break
    return seconds, float(loss), tolerance


def bootstrap(small: bool) -> dict[str, Any]:
    """Macro AUROC with its interval; as many images per patient as NIH's test split has."""
    from sklearn.metrics import roc_auc_score

    from dinorad_rt.metrics.by_patient import RankingByPatient
    from dinorad_rt.metrics.intervals import bootstrap_draws, patient_counts

    images, labels, patients = (2_500, 15, 280) if small else (25_000, 15, 2_800)
    resamples, timed = (500, 5) if small else (10_000, 20)
    random = np.random.default_rng(0)
    who = np.sort(random.integers(patients, size=images))
    who[:patients] = np.arange(patients)
    shares = np.geomspace(0.2, 0.005, labels)  # from frequent to rare, as in NIH
    hot = random.random((images, labels)) < shares
    scores = random.random((images, labels)) + 0.3 * hot

    def ours(count: int = resamples) -> np.ndarray:
        rankings = [RankingByPatient(hot[:, c], scores[:, c], who, patients) for c in range(labels)]

        def macro(counts: np.ndarray) -> np.ndarray:
            return np.mean([ranking(counts)[:1] for ranking in rankings], axis=0)

        width = max(ranking.steps for ranking in rankings)
        return bootstrap_draws(macro, patients, resamples=count, seed=0, width=width)[1][0]

    rows_of = [np.flatnonzero(who == patient) for patient in range(patients)]

    def scikit_learn() -> np.ndarray:
        (counts,) = (next(patient_counts(patients, resamples=timed, seed=0)),)
        found = []
        for row in counts[:timed]:
            rows = np.concatenate([rows_of[p] for p in np.repeat(np.arange(patients), row)])
            found.append(roc_auc_score(hot[rows], scores[rows]))
        return np.asarray(found)

    ours(10), scikit_learn()
    start = time.perf_counter()
    draws = ours()
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    expected = scikit_learn()
    each = (time.perf_counter() - start) / len(expected)
    return {
        "what": f"{resamples} resamples of {patients} patients, {images} x {labels} labels",
        "ours_s": seconds,
        "theirs_s": each * resamples,
        "theirs": f"roc_auc_score in a loop, extrapolated from {len(expected)} resamples",
        "ratio": each * resamples / seconds,
        "difference": float(np.abs(draws[: len(expected)] - expected).max()),
        "difference_is": "largest of any resample's macro AUROC",
        "ours_computes": "average precision as well",
        "peak_rss_mb": peak_rss_mb(),
    }


_PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "heads-1": partial(heads, outputs=1),
    "heads-3": partial(heads, outputs=3),
    "heads-15": partial(heads, outputs=15),
    "mlknn": mlknn,
    "logistic": logistic,
    "bootstrap": bootstrap,
}

if __name__ == "__main__":
    main()
