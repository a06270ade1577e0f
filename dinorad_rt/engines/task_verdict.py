"""The verdict of a task gate: a paired difference and an agreement against their limits, in words.

Source of the limits: ARCHITECTURE.md, the parity gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dinorad_rt.metrics.intervals import FEW_PATIENTS

Verdict = Literal["passed", "failed", "undecided"]
AUROC_LIMIT = 0.002
"""The interval of the AUROC's difference must lie inside ± this."""
DICE_LIMIT = 0.002
"""The same for the Dice of a segmenter."""
LEAST_AGREEMENT = 0.995
LEAST_PATIENTS = FEW_PATIENTS
LEAST_OF_CLASS = 10
"""With fewer test patients, in all or of a class, a bootstrap interval is too narrow to trust."""


@dataclass(frozen=True)
class Judgement:
    """What every task gate finds.

    Attributes:
        verdict: `undecided` where the data cannot tell.
        reason: of the verdict, in words.
        difference: of the metric, engine minus reference; low, high: its 95 % interval by patient.
        agreement: share of equal answers, 0 to 1, with its interval likewise.
    """

    verdict: Verdict
    reason: str
    difference: float
    low: float
    high: float
    agreement: float
    agreement_low: float
    agreement_high: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is undefined is None."""
        return _plain(asdict(self))


def verdict_of(
    numbers: Mapping[str, Any], limit: tuple[str, float], judged: str, shortage: str
) -> tuple[Verdict, str]:
    """Both limits in words; what fails outweighs what cannot be decided.

    Args:
        numbers: `low`, `high`, `agreement` and `agreement_high`.
        limit: the metric, and how far its difference may reach.
        judged: what the agreement is a share of.
        shortage: what of the data does not suffice; may be empty.
    """
    failed, open_ = [], []
    low, high = numbers["low"], numbers["high"]
    metric, margin = limit
    if np.isnan(low):
        open_.append(f"the {metric} has no value or no interval on these images")
    elif low > margin or high < -margin:
        failed.append(f"the {metric} differs by more than {margin:g}")
    elif low < -margin or high > margin:
        open_.append(f"the interval of the {metric}'s difference reaches beyond ±{margin:g}")
    if numbers["agreement"] < LEAST_AGREEMENT:
        surely = numbers["agreement_high"] < LEAST_AGREEMENT
        (failed if surely else open_).append(
            f"the same class for {numbers['agreement']:.2%} of the {judged}, {LEAST_AGREEMENT:.1%} "
            "wanted"
        )
    if shortage:
        open_.append(f"too few patients: {shortage}")
    if failed:
        return "failed", "; ".join(failed)
    if open_:
        return "undecided", "; ".join(open_)
    return "passed", "the difference lies inside the limits"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values for JSON; what is undefined is None."""
    return {
        key: None if isinstance(value, float) and np.isnan(value) else value
        for key, value in values.items()
    }
