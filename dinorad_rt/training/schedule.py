"""Learning rates as a pure function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from dinorad_rt.training.settings import TrainSettings


def lr_factor(step: int, total: int, settings: TrainSettings) -> float:
    """Share of the learning rate at a step, counted from 0.

    Linear warm-up, then a constant or a half cosine to `final_lr` (SGDR, arXiv 1608.03983).

    Args:
        step: of the optimiser.
        total: steps of the whole run.
        settings: warm-up and schedule.
    """
    rising = round(settings.warmup * total)
    if step < rising:
        return (step + 1) / rising
    if settings.schedule == "constant":
        return 1.0
    share = min(1.0, (step - rising) / max(1, total - rising))
    return settings.final_lr + (1.0 - settings.final_lr) * 0.5 * (1.0 + math.cos(math.pi * share))
