"""`fit`: the one training loop, for every job.

    batches ─► optimiser step (`stepper`) ... epoch's end: validate ─► best.safetensors, last.pt

A run that was interrupted goes on by the same call and, on a CPU, ends with the same bits: the
state is saved between two steps, and what is random in a step is a function of seed, epoch, step
and process. Imported late: torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dinorad_rt.errors import DivergedError, TrainingError
from dinorad_rt.files import sha256_json
from dinorad_rt.progress import Progress, Say, silent
from dinorad_rt.training.feed import deaths_named
from dinorad_rt.training.guards import diverged, refuse_other_run
from dinorad_rt.training.history import EpochRecord, History
from dinorad_rt.training.job import AbstractJob, Batch
from dinorad_rt.training.parallel import Workers
from dinorad_rt.training.run_folder import claimed_run, read_best, write_best, write_run
from dinorad_rt.training.schedule import lr_factor
from dinorad_rt.training.seeds import seed_of
from dinorad_rt.training.settings import TrainSettings
from dinorad_rt.training.state import (
    Position,
    load_trained,
    read_state,
    restore,
    save_state,
    trained_tensors,
)
from dinorad_rt.training.stepper import Stepper

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SETTLING = 64
"""Batches from which averaged weights get their batch statistics, at the end of an epoch."""
CHECK_EVERY = 10
"""Optimiser steps between two looks at the losses: each look waits for the GPU."""


def fit(
    job: AbstractJob,
    settings: TrainSettings,
    out: Path,
    *,
    say: Say = silent,
    progress: Progress | None = None,
    tensorboard: bool = False,
    claimed: bool = False,
    begun: Callable[[], None] | None = None,
) -> History:
    """Train a job into a run folder; go on if it holds the same run, interrupted.

    Afterwards the job's module has the weights of the best epoch and is in eval mode.

    Args:
        job: module, data and loss.
        settings: how.
        out: run folder.
        say: told of decisions and of each epoch.
        progress: called with (steps done, steps in all).
        tensorboard: also write event files under `out`/tensorboard.
        claimed: the caller is the only writer of `out` already, see `claimed_run`.
        begun: called once the folder is known to be this run's, in the main process.

    Raises:
        OutputExistsError: the folder holds something else, or another run.
        DivergedError: the loss became NaN or infinite; best.safetensors and last.pt are kept.
        DeviceMemoryError: out of memory; the message says what was found to fit.
        TrainingError: parameters that should be trained get no gradient, or a process that makes
            batches was killed.
    """
    loop = _Loop(job, settings, Path(out), (say, progress), tensorboard=tensorboard)
    loop.begun = begun
    with nullcontext() if claimed or not loop.workers.is_main else claimed_run(loop.out):
        return loop.run()


class _Loop:
    def __init__(
        self,
        job: AbstractJob,
        settings: TrainSettings,
        out: Path,
        told: tuple[Say, Progress | None],
        *,
        tensorboard: bool,
    ) -> None:
        self.job, self.settings, self.out = job, settings, out
        self.workers = Workers(settings.device)
        self.say, self.progress = told if self.workers.is_main else (silent, None)
        self.facts = job.facts()
        self.question = sha256_json(
            {
                "job": self.facts,
                "settings": settings.question(),
                "processes": self.workers.world,
            }
        )
        self.per_epoch = job.num_batches() // self.workers.world
        if not self.per_epoch:
            raise TrainingError(
                f"{job.num_batches()} training batches do not give each of "
                f"{self.workers.world} processes one.",
                "Use fewer processes, or a smaller --batch-size.",
            )
        self.steps_per_epoch = math.ceil(self.per_epoch / settings.accumulate)
        self.total = self.steps_per_epoch * settings.epochs
        if settings.steps is not None:
            self.total = min(self.total, settings.steps)
        self.at, self.history = Position(), History()
        self.pending: list[dict[str, torch.Tensor]] = []
        self.tensorboard = tensorboard
        self.begun: Callable[[], None] | None = None

    def run(self) -> History:
        """Train from where the run stands to its end."""
        self.stepper = Stepper(self.job, self.settings, self.workers)
        state = self._claim()
        if state is not None:
            self.at, self.history = restore(state, self.stepper)
            where = f"epoch {self.at.epoch + 1}, step {self.at.step} of {self.total}"
            self.say(f"going on with the run in {self.out.name}: {where}")
        if self.workers.is_main:
            self._write_run()  # an earlier one may have been stopped between last.pt and train.json
        with self._events() as events, deaths_named():
            try:
                while not self.history.stopped:
                    began = time.perf_counter()
                    self._train_epoch()
                    self._end_epoch(began, events)
            finally:
                self.job.end_batches()
        load_trained(self.job.module, read_best(self.out), "best.safetensors")
        self.job.module.eval()
        return self.history

    def _claim(self) -> dict[str, Any] | None:
        """The run folder, new or ours; the state in it, if there is one."""
        if self.workers.is_main:
            refuse_other_run(self.out, self.question, self._run_facts())
            if self.begun is not None:
                self.begun()
        self.workers.wait()
        return read_state(self.out, self.workers.device)

    def _train_epoch(self) -> None:
        """Steps from the present position to the epoch's end."""
        self.job.train_mode()
        at, settings = self.at, self.settings
        at.sums = at.sums or {}
        saved = time.monotonic()
        for batches in self._groups():
            factor = lr_factor(at.step, self.total, settings)
            self.pending.append(self.stepper.step(batches, factor, self._seed_of))
            at.step, at.batch = at.step + 1, at.batch + len(batches)
            if at.step % CHECK_EVERY == 0 or at.step == self.total:
                self._look()
            if time.monotonic() - saved > settings.save_minutes * 60 and settings.save_minutes:
                self._look()
                self._refuse_broken_weights()
                self._save()
                saved = time.monotonic()
            if self.progress is not None:
                self.progress(at.step, self.total)
            if at.step >= self.total:
                break
        self._look()

    def _groups(self) -> Iterator[list[Batch]]:
        """This process's batches, as many at once as one optimiser step takes."""
        world, at = self.workers.world, self.at
        start = at.batch * world + self.workers.rank
        batches = self.job.train_batches(at.epoch, self.settings.seed, start, world)
        mine = islice(batches, self.per_epoch - at.batch)
        while group := list(islice(mine, self.settings.accumulate)):
            yield group

    def _settling_batches(self) -> Iterator[Batch]:
        """The epoch's first batches once more, which tell batch norms their statistics."""
        world, rank = self.workers.world, self.workers.rank
        batches = self.job.train_batches(self.at.epoch, self.settings.seed, rank, world)
        return islice(batches, min(SETTLING, self.per_epoch))

    def _seed_of(self, index: int) -> int:
        """Of what is random in the forward pass of a step's n-th batch, such as dropout."""
        return seed_of(self.settings.seed, self.at.epoch, self.at.batch + index, self.workers.rank)

    def _look(self) -> None:
        """Take the losses from the device; stop if one is no number.

        Raises:
            DivergedError: nothing of these steps was saved.
        """
        assert self.at.sums is not None
        for found in self.pending:
            values = {name: float(value) for name, value in found.items()}
            if not math.isfinite(values["loss"]):
                raise self._diverged(values["loss"], len(self.history.losses))
            self.history.losses.append(values["loss"])
            for name, value in values.items():
                self.at.sums[name] = self.at.sums.get(name, 0.0) + value
        self.pending.clear()

    def _refuse_broken_weights(self) -> None:
        """The last step's loss was finite, but its gradient need not have been."""
        if not self.stepper.weights_are_finite():
            raise self._diverged(float("nan"), len(self.history.losses) - 1)

    def _diverged(self, loss: float, before: int, where: str = "loss") -> DivergedError:
        """The error for a loss that is no number, found after so many steps."""
        place = (self.at.epoch, max(0, before), self.total)
        return diverged(loss, place, self.settings, self._kept(), where=where)

    def _kept(self) -> str:
        """In words, what a run that ends now leaves behind."""
        best = self.history.best
        if best is None:
            return "No epoch was finished, so there is no checkpoint."
        metric = self.job.selection.metric
        value = best.metrics[metric]
        return f"The best checkpoint is that of epoch {best.epoch} ({metric} {value:.4f})."

    def _end_epoch(self, began: float, events: SummaryWriter | None) -> None:
        """Validate, keep the best, save the state, decide whether to go on."""
        job, at, settings = self.job, self.at, self.settings
        self._refuse_broken_weights()
        self.stepper.settle(self._settling_batches)
        metrics = self._validate()
        if not math.isfinite(loss := metrics.get("loss", 0.0)):
            # finite weights may still give answers that are no numbers, and any metric of these
            raise self._diverged(loss, len(self.history.losses) - 1, "validation loss")
        count = at.step - (self.history.epochs[-1].step if self.history.epochs else 0)
        means = {name: value / count for name, value in (at.sums or {}).items()}
        before = self.history.best
        record = EpochRecord(
            epoch=at.epoch + 1,
            step=at.step,
            loss=means.pop("loss"),
            parts=means,
            lr=settings.lr * lr_factor(at.step - 1, self.total, settings),
            metrics=metrics,
            best=job.selection.better(metrics, before.metrics if before else None),
            seconds=time.perf_counter() - began,
        )
        self.history.epochs.append(record)
        self.at = Position(epoch=at.epoch + 1, step=at.step)
        if at.step >= self.total or record.epoch >= settings.epochs:
            self.history.stopped = "finished"
        elif settings.patience and self.history.epochs_since_best() >= settings.patience:
            self.history.stopped = "patience"
        if self.workers.is_main:
            if record.best:
                with self.stepper.judged_weights():
                    write_best(self.out, trained_tensors(job.module), record.epoch)
            self._save()
            self._write_run()
            if events is not None:
                _write_events(events, record)
        self.workers.wait()
        self.say(_line(record, settings, job.selection.metric))

    def _validate(self) -> dict[str, float]:
        with self.stepper.evaluating():
            metrics: dict[str, float] = self.workers.agreed(self.job.validate())
        return metrics

    def _save(self) -> None:
        if self.workers.is_main:
            save_state(self.out, self.question, self.at, self.history, self.stepper)

    def _run_facts(self) -> dict[str, Any]:
        return {
            "question": self.question,
            **self.facts,
            "settings": self.settings.as_dict(),
            "processes": self.workers.world,
        }

    def _write_run(self) -> None:
        from dinorad_rt.machine import machine_facts

        trained = sum(p.numel() for p in self.stepper.trained)
        everything = sum(p.numel() for p in self.job.module.parameters())
        write_run(
            self.out,
            {
                **self._run_facts(),
                "device": self.workers.device.type,
                "parameters": {"trained": trained, "all": everything},
                "selection": vars(self.job.selection),
                "history": self.history.as_dict(),
                "machine": machine_facts(),
            },
        )

    def _events(self) -> Any:
        if not (self.tensorboard and self.workers.is_main):
            return nullcontext()
        from dinorad_rt.optional import require

        require("tensorboard", "writing TensorBoard logs")
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.out / "tensorboard"))


def _line(record: EpochRecord, settings: TrainSettings, selecting: str) -> str:
    names = [selecting, *(name for name in record.metrics if name not in (selecting, "epoch"))]
    metrics = "  ".join(f"{name} {record.metrics[name]:.4f}" for name in names)
    mark = "  (best so far)" if record.best else ""
    return (
        f"epoch {record.epoch}/{settings.epochs}  loss {record.loss:.4f}  val {metrics}  "
        f"{record.seconds:.1f} s{mark}"
    )


def _write_events(events: SummaryWriter, record: EpochRecord) -> None:
    values = {"train/loss": record.loss, "train/lr": record.lr}
    values |= {f"train/{name}": value for name, value in record.parts.items()}
    values |= {f"val/{name}": value for name, value in record.metrics.items()}
    for name, value in values.items():
        events.add_scalar(name, value, record.step)
    events.flush()
