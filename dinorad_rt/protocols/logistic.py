"""Logistic regression on frozen embeddings: C chosen on validation, refitted on train and val.

DINOv2 sweeps 45 values of C with cuML (facebookresearch/dinov2 `log_regression.py`); the study
does not use it. Multi-label tasks are one problem per label; multi-class tasks are one softmax, or
one problem per class.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from dinorad_rt.embeddings.table import joined
from dinorad_rt.errors import ProtocolError
from dinorad_rt.progress import Progress, Stages, uncounted, unseen
from dinorad_rt.protocols.knn import votes_of
from dinorad_rt.protocols.logistic_path import Fit, Link, fit_path
from dinorad_rt.protocols.selection import SelectBy, check_metric, choose, with_validation
from dinorad_rt.protocols.settings import AbstractSettings

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.truth import Truth
    from dinorad_rt.reports.results import Results
    from dinorad_rt.types import Task

CS = tuple(float(C) for C in 10 ** np.linspace(-6, 5, 45))
Scheme = Literal["multinomial", "one-vs-rest"]
Features = Literal["cls", "cls+patch_mean"]


@dataclass(frozen=True, kw_only=True)
class LogisticSettings(AbstractSettings):
    """Settings of `logistic`.

    Attributes:
        Cs: inverse strengths of the penalty, all tried on validation.
        scheme: of multi-class tasks: one softmax, or one problem per class.
        features: the last block's class token, alone or with the mean of its patch tokens.
        select_by: metric on validation that chooses C; the smaller C of equals.
        device: where the products run, such as cpu or cuda.
    """

    Cs: tuple[float, ...] = CS
    scheme: Scheme = "multinomial"
    features: Features = "cls"
    select_by: SelectBy = "auroc"
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(len(self.Cs) > 0 and min(self.Cs, default=0) > 0, "Cs", "numbers above 0")

    @classmethod
    def preset(cls, name: str) -> LogisticSettings:
        """DINOv2 chooses by accuracy."""
        return cls(preset_name=name, select_by="accuracy" if name == "dinov2" else "auroc")

    @property
    def reads(self) -> tuple[int | None, bool]:
        """The last class token, and the patch mean if asked for."""
        return 1, self.features == "cls+patch_mean"

    def check(self, truth: Truth) -> None:
        """Refuse a metric that the task does not have, and training rows of one class only."""
        check_metric(self.select_by, truth.task)
        check_two_classes(truth)

    def deviations(self, truth: Truth) -> list[str]:
        """Where DINOv2's own code does otherwise."""
        if self.preset_name == "study":
            return ["study: reports no logistic regression; its code inherits DINOv2's script."]
        if self.preset_name == "dinov2" and not truth.count("val"):
            return [
                "dinov2: without a val split its code sets 10 % of the images apart; here a fifth "
                "or so of the patients is."
            ]
        return []


@dataclass(frozen=True)
class _Outputs:
    """Which problems a set of labels makes.

    Attributes:
        columns: classes that have an output of their own.
        link: of the outputs.
        constant: (classes,) score of a class without an output.
        exclusive: an image shows one class.
    """

    columns: np.ndarray
    link: Link
    constant: np.ndarray
    exclusive: bool


def _outputs(y: np.ndarray, num_classes: int | None, scheme: Scheme) -> _Outputs:
    labels = votes_of(y, num_classes)
    total = labels.sum(axis=0)
    columns = np.flatnonzero((total > 0) & (total < len(labels)))
    if y.ndim == 2:
        return _Outputs(columns, "sigmoid", (total + 1) / (len(labels) + 2), False)
    constant = (total == len(labels)).astype(float)
    if labels.shape[1] == 2:
        return _Outputs(columns[-1:], "sigmoid", constant, True)
    link: Link = "softmax" if scheme == "multinomial" else "sigmoid"
    return _Outputs(columns, link, constant, True)


class LogisticClassifier:
    """L2 logistic regression, in scikit-learn's manner and with its objective.

    Args:
        C: inverse strength of the penalty.
        scheme: multinomial or one-vs-rest, for class indices of more than two classes.
        num_classes: number of classes; None takes those that `fit` sees.
        device: where the products run.

    After `fit`: `coef_` (outputs, dim), `intercept_` (outputs,), `loss_`, the objective.
    """

    coef_: np.ndarray
    intercept_: np.ndarray
    loss_: float
    _outputs: _Outputs
    _fit: Fit | None

    def __init__(
        self,
        C: float = 1.0,
        *,
        scheme: Scheme = "multinomial",
        num_classes: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.C = C
        self.scheme = scheme
        self.num_classes = num_classes
        self.device = device

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Find the optimum.

        Args:
            X: (samples, dim) embeddings.
            y: (samples,) class indices, or (samples, labels) 0/1 for multi-label.
        """
        return self.fit_path(X, y, [self.C])[0]

    def fit_path(
        self, X: np.ndarray, y: np.ndarray, Cs: Sequence[float], progress: Progress = uncounted
    ) -> list[Self]:
        """One fitted classifier per C, ascending; the last one is this object."""
        outputs = _outputs(y, self.num_classes, self.scheme)
        targets = votes_of(y, self.num_classes)[:, outputs.columns]
        ordered = sorted(Cs)
        fits: list[Fit | None] = [None] * len(ordered)
        if len(outputs.columns):
            fits = list(
                fit_path(
                    X,
                    targets,
                    ordered,
                    link=outputs.link,
                    device=self.device,
                    progress=progress,
                )
            )
        classes = len(outputs.constant)
        models = [
            type(self)(C, scheme=self.scheme, num_classes=classes, device=self.device)
            for C in ordered[:-1]
        ]
        for model, C, fit in zip([*models, self], ordered, fits, strict=True):
            model.C, model._outputs, model._fit = C, outputs, fit
            if fit is not None:
                model.coef_, model.intercept_, model.loss_ = fit.coef.T, fit.intercept, fit.loss
        return [*models, self]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Scores (samples, classes) in [0, 1]; rows sum to one unless the task is multi-label.

        A class that no or every training image shows has a constant score.
        """
        outputs = self._outputs
        scores = np.tile(outputs.constant, (len(X), 1))
        if self._fit is None:
            return scores
        probability = _probability(self._fit.logits(X), outputs.link)
        if outputs.exclusive and scores.shape[1] == 2:
            return np.hstack([1 - probability, probability])
        if outputs.exclusive:
            probability /= probability.sum(axis=1, keepdims=True)
        scores[:, outputs.columns] = probability
        return scores

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class index with the highest score, or (samples, labels) 0/1 for multi-label."""
        from dinorad_rt.metrics.decisions import predicted_labels

        task: Task = "multiclass" if self._outputs.exclusive else "multilabel"
        return predicted_labels(self.predict_proba(X), task)


def _probability(logits: np.ndarray, link: Link) -> np.ndarray:
    from scipy.special import expit, softmax

    return np.asarray(softmax(logits, axis=1) if link == "softmax" else expit(logits))


def evaluate_logistic(
    train: EmbeddingTable,
    val: EmbeddingTable,
    test: EmbeddingTable,
    dataset: DatasetInfo,
    settings: LogisticSettings,
    *,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    stages: Stages = unseen,
) -> Results:
    """Choose C on validation, refit on train and val, look at test once.

    Args: as for `evaluate_knn`. Without a val split one is cut from train by patient.

    Raises:
        ProtocolError: the metric that chooses is undefined on validation.
    """
    from dinorad_rt.protocols.judge import judge
    from dinorad_rt.reports.results import Predictions

    start = time.perf_counter()
    fitting, choosing, notes = with_validation(train, val, dataset, seed)
    with stages("fitting each C", "values of C") as progress:
        model, values = chosen_logistic(fitting, choosing, dataset, settings, progress)
    swept = time.perf_counter() - start
    everything = joined([train, val])
    with stages("fitting the chosen C", "values of C"):
        model.fit(features_of(everything, settings.features), everything.labels)
    scores = model.predict_proba(features_of(test, settings.features))
    fitted = time.perf_counter() - start
    results = judge(
        "logistic",
        test,
        dataset,
        [Predictions({"C": _short(model.C)}, scores)],
        settings,
        resolved={
            "Cs": sorted(settings.Cs),
            "validation": values,
            "validation_images": len(choosing),
            "chosen_C": model.C,
        },
        chosen={"C": _short(model.C)},
        seed=seed,
        provenance=provenance,
        stages=stages,
    )
    results.timings |= {"sweep_s": swept, "refit_s": fitted - swept}
    results.notes.extend([*notes, *_at_the_edge(model.C, settings)])
    return results


def chosen_logistic(
    fitting: EmbeddingTable,
    choosing: EmbeddingTable,
    dataset: DatasetInfo,
    settings: LogisticSettings,
    progress: Progress = uncounted,
) -> tuple[LogisticClassifier, list[float]]:
    """The classifier with the C that is best on the validation rows, and the value of every C."""
    start = LogisticClassifier(
        scheme=settings.scheme, num_classes=len(dataset.class_names), device=settings.device
    )
    X = features_of(fitting, settings.features)
    models = start.fit_path(X, fitting.labels, settings.Cs, progress)
    rows = features_of(choosing, settings.features)
    scores = [model.predict_proba(rows) for model in models]
    best, values = choose(scores, choosing.labels, dataset.task, settings.select_by)
    return models[best], values


def features_of(table: EmbeddingTable, features: Features) -> np.ndarray:
    """(rows, dim) of a table.

    Raises:
        ProtocolError: the backbone has no patch tokens.
    """
    last = table.cls[:, -1]
    if features == "cls":
        return last
    if table.patch_mean is None:
        raise ProtocolError(
            "This backbone gives no patch tokens, so there is no patch mean.",
            "Leave it out: --set features=cls",
        )
    return np.hstack([last, table.patch_mean])


def check_two_classes(truth: Truth) -> None:
    """Refuse training rows that all have the same labels.

    Raises:
        ProtocolError: nothing could be learned.
    """
    labels = np.concatenate([truth.labels[split] for split in ("train", "val")])
    if (labels == labels[0]).all():
        raise ProtocolError(
            f"All {len(labels)} training images of {truth.name} have the same labels: there is "
            "nothing to learn.",
            "Give the train split images of at least two classes.",
        )


def _short(C: float) -> float:
    """Three digits, to be read."""
    return float(f"{C:.3g}")


def _at_the_edge(C: float, settings: LogisticSettings) -> list[str]:
    if len(settings.Cs) < 3 or min(settings.Cs) < C < max(settings.Cs):
        return []
    return [f"The chosen C = {C:.3g} is at the end of the range: a wider one may do better."]
