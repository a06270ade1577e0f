"""What is asked of two runs, and what is answered: numbers, Holm's correction, a verdict in words.

Shared by classification (`compare`) and segmentation (`compare_cases`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dinorad_rt.metrics.comparisons import Difference, equivalence_test, holm
from dinorad_rt.metrics.intervals import LEVEL, RESAMPLES
from dinorad_rt.metrics.segmentation import VOLUME_METRICS
from dinorad_rt.metrics.specs import difference_interval, measured_interval, spec_of
from dinorad_rt.words import count_of

MARGIN = 0.02
HD95_MARGIN = 1.0
"""In the unit of the distances: a millimetre, or a pixel where no spacing is known."""
_PERMUTED_VALUES = 50_000_000
"""Permutations times samples times classes; beyond it fewer permutations are drawn."""


@dataclass(frozen=True)
class Question:
    """What is compared.

    Attributes:
        metric: one of those that `metrics.report` names, or a metric of volumes, such as dice.
        class_name: of a metric of one class; None for all classes.
        margin: largest difference that does not matter.
        resamples, seed: of bootstrap and permutations.
        unit: of the metric: mm or px; empty for one without unit.
        judged: what one sample is called.
    """

    metric: str = "auroc"
    class_name: str | None = None
    margin: float = MARGIN
    resamples: int = RESAMPLES
    seed: int = 0
    unit: str = ""
    judged: str = "image"

    @property
    def margin_words(self) -> str:
        """The margin with its unit: `±0.02`, `±1 mm`."""
        return f"±{self.margin:g} {self.unit}".rstrip()

    def permutations(self, values: int) -> int:
        """Permutations of so many values each."""
        return int(min(self.resamples, max(999, _PERMUTED_VALUES // max(values, 1))))


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same samples; differences are second minus first.

    Attributes:
        first, second: names of the runs.
        value_first, value_second: of the metric.
        difference, low, high: with its 95 % interval by patient; None if undefined.
        p_value: two-sided, paired bootstrap.
        p_holm: the same, corrected for all pairs.
        p_delong: where the metric is one class's AUROC; else None.
        p_permutation: where the metric is an AUROC, the accuracy or of volumes; else None.
        equivalent: the difference surely lies inside the margin.
        p_equivalence: of the two one-sided tests.
        n, n_patients: images (or volumes) and patients.
        verdict: in words.
        metric, class_name, margin, unit: of the question.
        unpaired: volumes that have a value in one of the runs only.
    """

    first: str
    second: str
    value_first: float | None
    value_second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    p_delong: float | None
    p_permutation: float | None
    equivalent: bool | None
    p_equivalence: float | None
    n: int
    n_patients: int
    verdict: str = ""
    metric: str = "auroc"
    class_name: str | None = None
    margin: float = MARGIN
    unit: str = ""
    unpaired: int = 0

    @property
    def differs(self) -> bool:
        """A difference is shown: the corrected p-value and the interval agree on it."""
        if self.low is None or self.high is None or self.p_holm is None:
            return False
        return self.p_holm < 1 - LEVEL and (self.low > 0 or self.high < 0)

    @property
    def is_open(self) -> bool:
        """Neither a difference nor equivalence is shown, though both are defined."""
        return self.difference is not None and not (self.differs or self.equivalent)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def comparison_of(
    found: Difference,
    names: tuple[str, str],
    values: tuple[float, float],
    question: Question,
    sizes: tuple[int, int],
    **others: Any,
) -> Comparison:
    """One pair, before Holm's correction and its verdict.

    Args:
        found: second minus first.
        names, values: of the first and the second run.
        question: what was asked.
        sizes: samples and patients.
        others: further fields, such as `p_permutation`.
    """
    same = None
    if not np.isnan(found.draws).all():
        same = equivalence_test(found.draws, question.margin)
    fields = {"p_holm": None, "p_delong": None, "p_permutation": None} | others
    return Comparison(
        first=names[0],
        second=names[1],
        value_first=plain(values[0]),
        value_second=plain(values[1]),
        difference=plain(found.value),
        low=plain(found.low),
        high=plain(found.high),
        p_value=plain(found.p_value),
        equivalent=None if same is None else same.equivalent,
        p_equivalence=None if same is None else same.p_value,
        n=sizes[0],
        n_patients=sizes[1],
        metric=question.metric,
        class_name=question.class_name,
        margin=question.margin,
        unit=question.unit,
        **fields,
    )


def corrected(found: Sequence[Comparison], question: Question) -> list[Comparison]:
    """All pairs of one question with Holm's correction and verdicts."""
    p_values = holm(np.array([np.nan if c.p_value is None else c.p_value for c in found]))
    told = [replace(c, p_holm=plain(p)) for c, p in zip(found, p_values, strict=True)]
    return [replace(c, verdict=verdict(c, question, len(found))) for c in told]


def verdict(found: Comparison, question: Question, pairs: int) -> str:
    """One comparison in a sentence."""
    spec = spec_of(question.metric)
    what = f"mean {spec.title}" if question.metric in VOLUME_METRICS else spec.title
    if question.class_name:
        what += f" of {question.class_name}"
    if found.difference is None or found.low is None or found.high is None:
        return f"{what} of {found.first} and {found.second} cannot be compared: it is undefined."
    what += f" in {question.unit}" if question.unit else ""
    p_value = found.p_holm if found.p_holm is not None else 1.0
    p_text = f"p {_p(found.p_value)}"
    if pairs > 1:
        p_text += f" (after Holm's correction for {pairs} pairs {_p(p_value)})"
    second, first = (
        measured_interval(question.metric, value, None, None)
        for value in (found.value_second, found.value_first)
    )
    difference = difference_interval(question.metric, found.difference, found.low, found.high)
    numbers = (
        f"{what} {second} against {first}, difference {difference}, {p_text}, on the same "
        f"{count_of(found.n, question.judged)} of {count_of(found.n_patients, 'patient')}"
    )
    if found.unpaired:
        numbers += f" ({found.unpaired} of them with a value in one run only)"
    if found.differs:
        higher = found.difference > 0
        better = higher != spec.lower_is_better
        word = "better" if better else "worse"
        return f"{found.second} is {word} than {found.first}: {numbers}{_doubt(found)}."
    if found.equivalent:
        return (
            f"{found.second} and {found.first} are equivalent within "
            f"{question.margin_words}: {numbers}."
        )
    return (
        f"No difference is shown between {found.second} and {found.first}, nor that they are "
        f"equivalent within {question.margin_words}: {numbers}."
    )


def _doubt(found: Comparison) -> str:
    """Of a difference: whether the permutation test, exact for few patients, shows none."""
    if found.p_permutation is None or found.p_permutation < 1 - LEVEL:
        return ""
    return f"; the permutation test does not confirm it (p {_p(found.p_permutation)})"


def plain(value: float) -> float | None:
    """NaN as None."""
    return None if np.isnan(value) else float(value)


def _p(value: float | None) -> str:
    if value is None:
        return "undefined"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
