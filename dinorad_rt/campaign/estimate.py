"""How long the rest of a study will take, from what its finished cells took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dinorad_rt.campaign.cells import Cell
from dinorad_rt.words import duration

COMPUTED_S = 1.0
"""An embedding step shorter than this found everything in the cache and tells no rate."""


@dataclass(frozen=True)
class Estimate:
    """Seconds to go.

    Attributes:
        seconds: of the steps that have a measured rate.
        unknown: steps without one.
    """

    seconds: float
    unknown: int

    def __str__(self) -> str:
        if self.unknown and not self.seconds:
            return "how long is known after the first cells"
        steps = "one step" if self.unknown == 1 else f"{self.unknown} steps"
        more = f", and {steps} of a kind not measured yet" if self.unknown else ""
        return f"about {duration(self.seconds)}{more}"


def estimate(
    cells: Sequence[Cell],
    done: Iterable[tuple[Cell, Mapping[str, Any]]],
    cached: Iterable[tuple[str, ...]] = (),
) -> Estimate:
    """Time of cells that are still to run.

    Engines take as long as those built so far, embeddings the measured seconds per image of the
    same model (of all models, if it is new), protocols the measured seconds per image.

    Args:
        cells: to run, in order.
        done: finished cells with `seconds`, `engine_s` and `embed_s`.
        cached: sets of embeddings that are there already.
    """
    done = list(done)
    engines: dict[str, float] = {}
    embeds: dict[str, list[float]] = {}
    judged: dict[str, list[float]] = {}
    embedded = set(cached)
    for cell, took in done:
        engines[cell.model] = max(engines.get(cell.model, 0.0), took["engine_s"])
        if took["embed_s"] > COMPUTED_S and cell.embeds not in embedded:
            embeds.setdefault(cell.model, []).append(took["embed_s"] / max(cell.images, 1))
        embedded.add(cell.embeds)
        rest = took["seconds"] - took["engine_s"] - took["embed_s"]
        judged.setdefault(cell.evaluation.protocol, []).append(rest / max(cell.images, 1))
    steps: list[float | None] = []
    built = set(engines)
    for cell in cells:
        if cell.model not in built:
            steps.append(_mean(list(engines.values())))
            built.add(cell.model)
        if cell.embeds not in embedded:
            rate = _mean(embeds.get(cell.model) or [x for rates in embeds.values() for x in rates])
            steps.append(None if rate is None else rate * cell.images)
            embedded.add(cell.embeds)
        rate = _mean(judged.get(cell.evaluation.protocol, []))
        steps.append(None if rate is None else rate * cell.images)
    known = [step for step in steps if step is not None]
    return Estimate(sum(known), len(steps) - len(known))


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
