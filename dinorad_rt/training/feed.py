"""`Feed`: the batches of every epoch, made here or ahead by processes. Imported late: torch.

    plans of batches ─► processes that make them ─► /dev/shm ─► (pinned memory) ─► the device

A batch is a function of its plan alone, so that who makes it changes no number. The processes are
forked: what they draw from (an image bank of gigabytes) is shared with them and copied nowhere,
and need not be pickled. Where processes cannot be forked safely there are none.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dinorad_rt.errors import DinoradError, TrainingError
from dinorad_rt.machine import usable_cores
from dinorad_rt.progress import Say, silent
from dinorad_rt.words import count_of, verb_of

MOST = 8
"""Processes beside one GPU."""
AHEAD = 2
"""Batches that each process makes ahead."""
SHARED = Path("/dev/shm")
"""Where batches lie on their way. Containers give it 64 MiB; a write beyond kills the writer."""
_FEWER = "Training goes on where it was with the same command and --workers 0, or a smaller number."

Make = Callable[[Any], Any]


class Feed:
    """Makes batches of a training job; its processes live from epoch to epoch.

    Args:
        make: the plan of a batch → the batch, tensors in a mapping.
        nbytes: the plan of a batch → its bytes, at least.
        workers: processes, as the user asked; None to choose by the device.
        say: told of the processes, once.
    """

    def __init__(
        self,
        make: Make,
        nbytes: Callable[[Any], int],
        *,
        workers: int | None = None,
        say: Say = silent,
    ) -> None:
        self._make, self._nbytes = _Made(make), nbytes
        self._asked, self._say = workers, say
        self._told: int | None = None
        self._plans: list[Any] = []
        self._loader: DataLoader[Any] | None = None

    def batches(self, plans: Sequence[Any], device: torch.device) -> Iterator[Any]:
        """The batches of some plans, in their order.

        Args:
            plans: of an epoch, or of what is left of it.
            device: where they will go.

        Raises:
            TrainingError: the processes cannot be started.
            DinoradError: what `make` raises.
        """
        self._plans[:] = plans
        for batch in _started(self._loader_for(device)):
            if isinstance(batch, DinoradError):
                raise batch
            yield batch

    def close(self) -> None:
        """End the processes."""
        alive = getattr(self._loader, "_iterator", None)
        if alive is not None:  # a traceback may hold it for long, and them with it
            alive._shutdown_workers()
        self._loader = None

    def _loader_for(self, device: torch.device) -> DataLoader[Any]:
        count = self._processes(device)
        if self._loader is None or self._loader.num_workers != count:
            self.close()
            several: dict[str, Any] = {}
            if count:
                several = {
                    "persistent_workers": True,
                    "prefetch_factor": AHEAD,
                    "multiprocessing_context": "fork",
                    "worker_init_fn": _silenced,
                }
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # more processes than cores: as asked
                self._loader = DataLoader(
                    self._make,
                    batch_size=None,
                    sampler=self._plans,
                    collate_fn=_as_it_is,
                    num_workers=count,
                    pin_memory=device.type == "cuda",
                    **several,
                )
        return self._loader

    def _processes(self, device: torch.device) -> int:
        """How many make batches; 0 for none beside this one."""
        wanted = min(processes_for(self._asked, device), len(self._plans))
        if not wanted:
            return 0
        largest = max(map(self._nbytes, self._plans))
        free = shared_memory()
        count = min(wanted, processes_that_fit(free, largest))
        if count != self._told:
            self._told = count
            self._say(_words(count, wanted, largest, free))
        return count


def processes_for(asked: int | None, device: torch.device) -> int:
    """Processes that make batches: as asked, else as many as a GPU leaves cores for.

    On a processor the model takes all cores, and batches are made between its steps. Training
    processes of one machine share its cores.
    """
    if not hasattr(os, "fork") or sys.platform == "darwin":
        return 0
    if asked is not None:
        return asked
    if device.type == "cpu":
        return 0
    return max(0, min(MOST, usable_cores() // _beside() - 1))


def processes_that_fit(free: int, largest: int) -> int:
    """Processes whose batches fit into half of this process's share of the shared memory.

    Args:
        free: bytes of it.
        largest: bytes of a batch.
    """
    batches = free // 2 // _beside() // max(1, largest)
    return max(0, (batches - AHEAD) // AHEAD)


def shared_memory() -> int:
    """Free bytes of shared memory; 0 where there is none."""
    try:
        found = os.statvfs(SHARED)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


@contextmanager
def deaths_named() -> Iterator[None]:
    """Inside, the death of a process that makes batches is an error that says what to do.

    Raises:
        TrainingError: PyTorch tells it wherever the main process happens to be.
    """
    try:
        yield
    except RuntimeError as error:
        told = str(error)
        if not told.startswith("DataLoader worker (pid"):
            raise
        signalled = re.search(r"by signal: ([\w ]+)", told)
        how = f" ({signalled[1]})" if signalled else ""
        raise TrainingError(
            f"A process that makes training images ahead has died{how}. Most often memory is full, "
            f"or {SHARED} of a container.",
            _FEWER,
        ) from error


class _Made(Dataset[Any]):
    """Batches by their plans, for a DataLoader."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def __getitem__(self, plan: Any) -> Any:
        """The batch, or the error of ours: in a process it would lose its parts on the way.

        One thread: sums over an image differ in their last bits with the number of threads.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._make(plan)
        except DinoradError as error:
            return error
        finally:
            torch.set_num_threads(threads)


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's iterator; processes that it starts never hear of Ctrl-C.

    They end when this one closes the loader, or is gone.
    """
    if not loader.num_workers:
        return iter(loader)
    held = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        with warnings.catch_warnings():
            # threads of a progress bar: Python warns of any fork beside threads from 3.12 on
            warnings.simplefilter("ignore", DeprecationWarning)
            return iter(loader)
    except OSError as error:
        raise TrainingError(
            f"Processes that make training images ahead cannot be started: {error.strerror}.",
            _FEWER,
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _silenced(_: int) -> None:
    """Let a process write to nowhere: the terminal is the main process's."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115
    for stream in (1, 2):
        os.dup2(nowhere.fileno(), stream)
    sys.stdout = sys.stderr = nowhere


def _words(count: int, wanted: int, largest: int, free: int) -> str:
    """What is said of the processes."""
    make = verb_of(count, "makes", "make")
    if count == wanted:
        return f"{count_of(count, 'process')} {make} training images ahead"
    return (
        f"{count or 'no'} instead of {count_of(wanted, 'process')} {make} training images ahead: a "
        f"batch takes {largest / 2**20:.1f} MiB, and {SHARED} has {free / 2**20:.0f} MiB free "
        "(containers: --shm-size=2g, or --ipc=host)"
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _beside() -> int:
    """Training processes of this machine that share what it has."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
