"""`Stepper`: one optimiser step, with all that it changes. The loop around it is `loop`.

    batches ─► loss (autocast) ─► backward ─► clip ─► optimiser ─► moving averages

What is random in a step is a function of the seed that its caller gives. Imported late: torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from dinorad_rt.errors import TrainingError
from dinorad_rt.training.ema import Ema
from dinorad_rt.training.guards import checkpoint_gradients, refuse_untrained
from dinorad_rt.training.job import AbstractJob, Batch, move
from dinorad_rt.training.memory import is_out_of_memory, memory_error
from dinorad_rt.training.parallel import Workers
from dinorad_rt.training.settings import TrainSettings

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Module, optimiser, gradient scaler and moving averages of one run.

    Attributes:
        module: of the job, on the device.
        optimizer, scaler, ema: what changes with it; all of them belong to a saved state.
        trained: parameters that the optimiser changes.

    Raises:
        TrainingError: no parameter requires a gradient, or the module cannot recompute activations.
    """

    def __init__(self, job: AbstractJob, settings: TrainSettings, workers: Workers) -> None:
        self._job, self._settings, self._workers = job, settings, workers
        self.module = job.module.to(workers.device)
        if settings.gradient_checkpointing:
            checkpoint_gradients(self.module)
        torch.manual_seed(settings.seed)
        groups = [
            {"lr": settings.lr * group.get("lr_scale", 1.0), **group}
            for group in job.parameter_groups()
        ]
        self._scales = [float(group.get("lr_scale", 1.0)) for group in groups]
        self.trained: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        if not self.trained:
            raise TrainingError("Nothing is to be trained: no parameter requires a gradient.", "")
        together = [p for group in groups if not group.get("alone") for p in group["params"]]
        self._clipped = [together, *(g["params"] for g in groups if g.pop("alone", False))]
        self.optimizer = _optimizer(groups, settings, workers.device)
        self.scaler = torch.amp.GradScaler(
            workers.device.type, enabled=settings.precision == "fp16"
        )
        self.ema = None if settings.ema is None else Ema(self.trained, settings.ema)
        self._model = workers.wrap(_Loss(job))
        self._untried = True

    def step(
        self, batches: list[Batch], factor: float, seed_of: Callable[[int], int]
    ) -> dict[str, torch.Tensor]:
        """One optimiser step over the mean loss of some batches.

        Args:
            batches: as many as are accumulated.
            factor: of every learning rate, by the schedule.
            seed_of: the seed of the n-th of these batches, for dropout and its kin.

        Returns:
            The loss and its parts, scalars on the device, not waited for.

        Raises:
            DeviceMemoryError: out of memory; the message says what was found to fit.
            TrainingError: parameters that should be trained get no gradient.
        """
        for group, scale in zip(self.optimizer.param_groups, self._scales, strict=True):
            group["lr"] = self._settings.lr * scale * factor
        found: dict[str, torch.Tensor] = {}
        for index, batch in enumerate(batches):
            torch.manual_seed(seed_of(index))
            last = index == len(batches) - 1
            parts = self._backward(move(batch, self._workers.device), len(batches), last=last)
            for name, value in parts.items():
                found[name] = found.get(name, 0.0) + value / len(batches)
        if self._untried:
            refuse_untrained(self.module)
            self._untried = False
        if self._settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            for parameters in self._clipped:
                nn.utils.clip_grad_norm_(parameters, self._settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update()
        return found

    def settle(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Give averaged weights the batch statistics that fit them, before they are judged.

        Args:
            batches: of training; asked for if a batch norm learns its statistics.
        """
        if self.ema is None:
            return
        self._job.train_mode()
        norms = [p for p in self.module.modules() if isinstance(p, BatchNorm) and p.training]
        norms = [norm for norm in norms if norm.track_running_stats]
        self.module.eval()  # no dropout, as where the weights are judged

        def forward() -> None:
            with self._autocast():
                for batch in batches():
                    self._job.loss(move(batch, self._workers.device))

        if norms:
            for norm in norms:
                norm.train()
            self.ema.settle(norms, forward)

    @contextmanager
    def judged_weights(self) -> Iterator[None]:
        """Inside, the module has the weights that are judged and kept: averages if there are."""
        with nullcontext() if self.ema is None else self.ema.applied():
            yield

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, the module is in eval mode with the weights that are judged, no gradients."""
        self.module.eval()
        with torch.no_grad(), self._autocast(), self.judged_weights():
            yield

    def weights_are_finite(self) -> bool:
        """False after a step whose loss was finite and whose gradient was not."""
        return all(bool(torch.isfinite(p).all()) for p in self.trained)

    def _backward(self, batch: Batch, count: int, *, last: bool) -> dict[str, torch.Tensor]:
        """Loss and gradients of one batch; out of memory becomes an error that says what fits."""
        try:
            if last:
                return self._forward_backward(batch, count)
            with self._workers.unjoined(self._model):
                return self._forward_backward(batch, count)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            told = error.with_traceback(None)  # its frames hold the tensors that filled the memory

        def attempt(rows: int) -> None:
            self.optimizer.zero_grad(set_to_none=True)
            self._forward_backward(self._job.shrink(batch, rows), 1)

        raise memory_error(self._settings, attempt) from told

    def _forward_backward(self, batch: Batch, count: int) -> dict[str, torch.Tensor]:
        with self._autocast():
            loss, parts = self._model(batch)
        self.scaler.scale(loss / count).backward()
        return {"loss": loss.detach().float(), **parts}

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES.get(self._settings.precision)
        return torch.autocast(self._workers.device.type, dtype=dtype, enabled=dtype is not None)


class _Loss(nn.Module):
    """The job's loss as a module's forward pass: what several processes join their gradients by."""

    def __init__(self, job: AbstractJob) -> None:
        super().__init__()
        self.module = job.module
        self._job = job

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self._job.loss(batch)


def _optimizer(
    groups: list[dict[str, Any]], settings: TrainSettings, device: torch.device
) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    fused = device.type == "cuda"
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=fused or None)
