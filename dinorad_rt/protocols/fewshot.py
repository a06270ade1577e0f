"""Few-shot: a head that sees few patients (or images) per class, on seeded repeats.

Validation never becomes training data. Where the head has something to choose, it chooses on as
few validation shots as it was trained on, or on the whole split if asked to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinorad_rt.errors import ProtocolError
from dinorad_rt.metrics.report import one_vs_rest
from dinorad_rt.progress import Stages, unseen
from dinorad_rt.protocols.heads import head_input, train_heads
from dinorad_rt.protocols.knn import KNNClassifier, votes_of
from dinorad_rt.protocols.linear import LinearSettings
from dinorad_rt.protocols.linear_probe import scores_of, targets_of
from dinorad_rt.protocols.logistic import LogisticSettings, chosen_logistic, features_of
from dinorad_rt.protocols.selection import choose, with_validation
from dinorad_rt.protocols.settings import AbstractSettings
from dinorad_rt.protocols.shots import (
    By,
    random_subset,
    served,
    study_subset,
    unit_of,
    units_per_class,
)

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.truth import Truth
    from dinorad_rt.reports.results import Results

SHOTS = (1, 2, 4, 8, 16)
HeadName = Literal["knn", "linear", "logistic"]


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(AbstractSettings):
    """Settings of `few-shot`.

    Attributes:
        shots: per class; None for 1, 2, 4, 8, 16 as far as they fit.
        by: a shot is a patient with all images, or an image.
        subsets: drawn by seed, or as the study's code takes them.
        repeats: seeded draws; the study's subsets know one only.
        head: what is trained.
        validation: rows that C or the head is chosen on: as many shots as were trained on, or the
            whole split. Never trained on.
        k: neighbours of the knn head, as far as there are so many.
        resamples: fewer than elsewhere: each of shots x repeats is a set of scores of its own, and
            10,000 resamples of 25,000 images with 15 labels take half a minute for each.
        device: where the products run, such as cpu or cuda.
    """

    shots: tuple[int, ...] | None = None
    by: By = "patient"
    subsets: Literal["random", "study"] = "random"
    repeats: int = 5
    head: HeadName = "logistic"
    validation: Literal["shots", "full"] = "shots"
    k: int = 5
    resamples: int = 2_000
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.shots is None or min(self.shots, default=0) >= 1, "shots", "from 1")
        self.require(self.repeats >= 1, "repeats", "at least 1")
        self.require(self.k >= 1, "k", "at least 1")
        self.require(
            self.subsets == "random" or self.repeats == 1,
            "repeats",
            "1 with --set subsets=study, which knows no chance",
        )

    @classmethod
    def preset(cls, name: str) -> FewShotSettings:
        """The study trains its linear grid on one fixed subset; DINOv2 votes on drawn images."""
        if name == "study":
            return cls(
                preset_name=name, subsets="study", repeats=1, head="linear", validation="full"
            )
        if name == "dinov2":
            return cls(preset_name=name, by="image", head="knn")
        return cls(preset_name=name)

    @property
    def reads(self) -> tuple[int | None, bool]:
        """What the head reads."""
        if self.head == "linear":
            return LinearSettings.preset(self.preset_name).reads
        return 1, False

    def check(self, truth: Truth) -> None:
        """Refuse more shots than the training split has patients, or images."""
        self.fitting(truth.hot("train"), truth.patients["train"], truth)

    def fitting(
        self, hot: np.ndarray, patients: np.ndarray, truth: Truth | DatasetInfo
    ) -> tuple[int, ...]:
        """The numbers of shots that training rows can serve.

        Raises:
            ProtocolError: an asked number that they cannot.
        """
        if self.subsets == "study" and truth.task != "multilabel":
            most, what = len(hot), f"{len(hot)} training images in all"
        else:
            counts = units_per_class(hot, patients, self.by)
            names = {c: truth.class_names[c] for c in np.flatnonzero(counts)}
            # a rare finding gives what it has; classes that exclude each other must all serve
            pick = max if truth.task == "multilabel" else min
            limit = pick(names, key=lambda c: counts[c], default=None)
            most = 0 if limit is None else int(counts[limit])
            what = f"{most} {self.by}s of {'' if limit is None else names[limit]} in train"
        if self.shots is None:
            return served(SHOTS, most)
        if max(self.shots) > most:
            raise ProtocolError(
                f"{max(self.shots)} shots per class were asked for, but there are only {what}.",
                f"Use --shots with values up to {most}.",
            )
        return tuple(sorted(set(self.shots)))

    def deviations(self, truth: Truth) -> list[str]:
        """Where the study's code, its text and this run differ from each other."""
        if self.preset_name == "dinov2":
            return ["dinov2: its number of tries is 1 by default; here there are several."]
        if self.preset_name != "study":
            return []
        found = [
            "study: in its linear script the whole val split joins the few-shot training set; "
            "here it never does.",
            "study: the head is chosen on the whole val split, many times larger than the shots.",
            "study: one subset, no repeats, so its published curves have no spread.",
        ]
        if truth.task != "multilabel":
            found.append(
                "study: for this kind of set its code takes N images in all, evenly spaced, "
                "although its help says N for each class."
            )
        return found


def evaluate_few_shot(
    train: EmbeddingTable,
    val: EmbeddingTable,
    test: EmbeddingTable,
    dataset: DatasetInfo,
    settings: FewShotSettings,
    *,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    stages: Stages = unseen,
) -> Results:
    """Train on few shots, for each number of shots and each repeat; judge the repeats' mean.

    Args: as for `evaluate_knn`. Repeat r draws with `seed + r`. Without a val split one is cut
        from train by patient.

    Raises:
        ProtocolError: more shots than patients, or images.
    """
    from dinorad_rt.protocols.judge import judge
    from dinorad_rt.reports.results import Predictions

    start = time.perf_counter()
    fitting, choosing, notes = with_validation(train, val, dataset, seed)
    hot = one_vs_rest(fitting.labels, len(dataset.class_names))
    shots = settings.fitting(hot, fitting.patients, dataset)
    seeds = [seed + repeat for repeat in range(settings.repeats)]
    predictions: list[Predictions] = []
    sizes: dict[int, list[int]] = {}
    before: list[EmbeddingTable] = []
    with stages("training on few shots", "heads") as progress:
        for count in shots:
            subsets = [_drawn(fitting, count, dataset, settings, own) for own in seeds]
            if settings.shots is None and _same(subsets, before):
                notes.append(f"From {max(sizes)} shots on, every class has given all it has.")
                break
            for own, few in zip(seeds, subsets, strict=True):
                judging = choosing
                if settings.validation == "shots":
                    judging = _drawn(choosing, count, dataset, settings, own)
                scores = _HEADS[settings.head]((few, judging, test), dataset, settings, own)
                predictions.append(Predictions({"shots": count, "repeat": own - seed}, scores))
                progress(len(predictions), len(shots) * len(seeds))
            sizes[count], before = [len(few) for few in subsets], subsets
    trained = time.perf_counter() - start
    results = judge(
        "few-shot",
        test,
        dataset,
        predictions,
        settings,
        resolved={
            "shots": list(sizes),
            "training_images": {str(count): rows for count, rows in sizes.items()},
        },
        seed=seed,
        seeds=seeds,
        provenance=provenance,
        stages=stages,
    )
    results.timings["train_s"] = trained
    results.notes.extend([*notes, *_drawing_notes(hot, fitting, tuple(sizes), dataset, settings)])
    return results


def _drawn(
    table: EmbeddingTable, shots: int, dataset: DatasetInfo, settings: FewShotSettings, seed: int
) -> EmbeddingTable:
    """The rows of a subset."""
    hot = one_vs_rest(table.labels, len(dataset.class_names))
    if settings.subsets == "study":
        by_class = dataset.task == "multilabel"
        return table.take(study_subset(hot, table.patients, shots, by_class=by_class))
    return table.take(random_subset(hot, table.patients, shots, by=settings.by, seed=seed))


def _same(subsets: list[EmbeddingTable], before: list[EmbeddingTable]) -> bool:
    """True if every repeat drew the rows that it drew for fewer shots."""
    return bool(before) and all(
        np.array_equal(now.sample_ids, then.sample_ids)
        for now, then in zip(subsets, before, strict=True)
    )


Parts = tuple["EmbeddingTable", "EmbeddingTable", "EmbeddingTable"]


def _knn(parts: Parts, dataset: DatasetInfo, settings: FewShotSettings, seed: int) -> np.ndarray:
    few, _, test = parts
    classes = len(dataset.class_names)
    model = KNNClassifier(min(settings.k, len(few)), num_classes=classes, device=settings.device)
    return model.fit(few.cls[:, -1], few.labels).predict_proba(test.cls[:, -1])


def _logistic(
    parts: Parts, dataset: DatasetInfo, settings: FewShotSettings, seed: int
) -> np.ndarray:
    few, choosing, test = parts
    own = LogisticSettings.preset(settings.preset_name).changed({"device": settings.device})
    model, _ = chosen_logistic(few, choosing, dataset, own)
    return model.predict_proba(features_of(test, own.features))


def _linear(parts: Parts, dataset: DatasetInfo, settings: FewShotSettings, seed: int) -> np.ndarray:
    few, choosing, test = parts
    own = LinearSettings.preset(settings.preset_name).changed({"device": settings.device})
    heads, _ = own.heads(few)
    blocks = max(head.blocks for head in heads)
    trained = train_heads(
        head_input(few, blocks),
        targets_of(votes_of(few.labels, len(dataset.class_names)), dataset.task),
        heads,
        own.plan(len(few), seed),
        dim=few.cls.shape[2],
        task=dataset.task,
    )

    def scores(index: int, table: EmbeddingTable) -> np.ndarray:
        logits = trained.logits(index, head_input(table, blocks))
        return scores_of(logits, dataset.task, own.activation)

    candidates = [scores(i, choosing) for i in range(len(heads))]
    best, _ = choose(candidates, choosing.labels, dataset.task, own.select_by)
    return scores(best, test)


_HEADS: dict[str, Callable[[Parts, DatasetInfo, FewShotSettings, int], np.ndarray]] = {
    "knn": _knn,
    "linear": _linear,
    "logistic": _logistic,
}


def _drawing_notes(
    hot: np.ndarray,
    table: EmbeddingTable,
    shots: tuple[int, ...],
    dataset: DatasetInfo,
    settings: FewShotSettings,
) -> list[str]:
    """Classes that cannot give as many shots as the others, and who is drawn for none."""
    if settings.subsets == "study" and dataset.task != "multilabel":
        return []
    counts = units_per_class(hot, table.patients, settings.by)
    units = unit_of(table.patients, settings.by)
    every, showing = len(np.unique(units)), len(np.unique(units[hot.any(axis=1)]))
    notes = []
    if showing < every:
        notes.append(
            f"{every - showing} of {every} training {settings.by}s show none of the classes: shots "
            "are drawn for a class, so no head has seen one of them."
        )
    short = [
        f"{name} ({count})"
        for name, count in zip(dataset.class_names, counts, strict=True)
        if count < max(shots)
    ]
    if short:
        notes.append(
            f"Fewer than {max(shots)} training {settings.by}s, so all they have: "
            f"{', '.join(short)}."
        )
    return notes
