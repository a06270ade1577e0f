"""Averaged weights: an exponential moving average of what is trained. Imported late: torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class Ema:
    """Averages of parameters; early steps count fully, so that short runs do not lag.

    The decay of step t is min(decay, (1 + t) / (10 + t)), as in TensorFlow's moving average.

    Attributes:
        averages: one per parameter, FP32.
        updates: steps so far.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self.averages = [p.detach().clone() for p in self._parameters]
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(self.averages, [p.detach() for p in self._parameters], 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the place of the parameters for a while."""
        kept = [p.detach().clone() for p in self._parameters]
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
