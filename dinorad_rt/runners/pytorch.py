"""PyTorch eager: the reference that every other backend is compared with.

Runs the graph's own exported program, so precision, folding and numerics are those of the graph.
It keeps FP16 and BF16 on every processor; where the hardware has no such arithmetic, the results
are the same and only the speed suffers, which `plan` says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import BuildError, EngineError
from dinorad_rt.machine import cpu_precisions, gpu_facts, has_gpu, torch_has_gpu, usable_cores
from dinorad_rt.optional import is_installed, version_of
from dinorad_rt.progress import Say
from dinorad_rt.runners.base import AbstractRunner, Availability, Plan, Rows, pad_rows
from dinorad_rt.runners.gpu_errors import gpu_errors_named
from dinorad_rt.runners.precision import (
    PRECISION_OF,
    PROGRAM_PRECISIONS,
    cpu_device,
    low_type,
    refuse_precision,
    unproven,
)
from dinorad_rt.runners.threaded import AbstractThreadedRunner

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph

NAME = "pytorch"
_PROGRAM = "model.pt2"


def is_available() -> Availability:
    """PyTorch is always installed: backbones are loaded with it."""
    installed = is_installed("torch")
    devices = (("cuda",) if has_gpu() else ()) + ("cpu",)
    return Availability(
        backend=NAME,
        can_build=installed,
        can_run=installed,
        version=version_of("torch"),
        devices=devices if installed else (),
        reason="" if installed else "the package torch is not installed",
        install="pip install torch",
        precisions=(PROGRAM_PRECISIONS if has_gpu() else cpu_precisions()) if installed else (),
    )


def plan(graph: Graph, profile: Profile) -> Plan:
    """Fix device and threads.

    Options of the profile: `device`, `cpu` or `cuda` (default: cuda where PyTorch sees one).

    Raises:
        EngineError: a device that is not here, or an INT8 graph.
    """
    cuda = torch_has_gpu()
    device = str(profile.options_for(NAME).get("device", "cuda" if cuda else "cpu"))
    if device not in ("cpu", "cuda") or (device == "cuda" and not cuda):
        raise EngineError(
            f"PyTorch cannot run on {device!r} here.", "Use device = 'cpu' in the profile."
        )
    low = low_type(graph)
    refuse_precision(NAME, graph, low, PROGRAM_PRECISIONS)
    slow = device == "cpu" and PRECISION_OF[low] not in cpu_precisions()
    note = f"this processor has no {PRECISION_OF[low]} arithmetic: PyTorch emulates it, slowly"
    return Plan(
        backend=NAME,
        version=version_of("torch") or "",
        precision=graph.precision,
        batch=profile.batch,
        settings={
            "device": device,
            "threads": profile.threads or usable_cores(),
            "matrix_type": low,
        },
        device=cpu_device() if device == "cpu" else {"kind": "cuda", **gpu_facts()},
        notes=(note,) if slow else (),
    )


def build(graph: Graph, plan: Plan, folder: Path, *, say: Say | None = None) -> dict[str, Any]:
    """Store the exported program beside its manifest and read the types of its weights.

    Raises:
        BuildError: there is no program, it cannot be read, or its types are not as asked for.
    """
    from dinorad_rt.engines.cache import place_file
    from dinorad_rt.export.program import load_program

    if not graph.program_path.is_file():
        raise BuildError(
            f"The graph of {graph.model} holds no {graph.program_path.name}.",
            "Export it again: dinorad-rt export",
        )
    place_file(graph.program_path, folder, _PROGRAM)
    program = load_program(folder / _PROGRAM)
    counts: dict[str, int] = {}
    for tensor in program.state_dict.values():
        if tensor.is_floating_point() and tensor.ndim >= 2:
            name = str(tensor.dtype).removeprefix("torch.")
            counts[name] = counts.get(name, 0) + 1
    low = str(plan.settings["matrix_type"])
    if low not in counts:
        raise unproven(NAME, graph, low, counts)
    return {"weights": counts}


def load(engine: Engine) -> AbstractRunner:
    """The runner of a PyTorch engine."""
    return PyTorchRunner(engine)


class PyTorchRunner(AbstractThreadedRunner):
    """The exported program, run without gradients in one worker thread.

    In FP16 and BF16 another batch takes other kernels that round differently (1e-3 relative on
    DeiT-tiny), so the tail is padded: an image's embedding does not depend on the batch's size.
    """

    backend = NAME

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, workers=1)
        self._path = engine.file(_PROGRAM)
        self._device = str(engine.settings["device"])
        self._threads = int(engine.settings["threads"])
        self._exact = engine.precision == "fp32"
        self._least_rows = 1 if self._exact else engine.batch
        self._module: Any = None

    def _activate(self) -> None:
        from dinorad_rt.export.program import load_program

        program: Any = load_program(self._path)
        if self._exact:
            self._least_rows = _smallest_batch(program)
        if self._device != "cpu":
            from torch.export.passes import move_to_device_pass

            with gpu_errors_named():
                program = move_to_device_pass(program, self._device)
        self._module = program.module()

    def _prepare_thread(self) -> None:
        import torch

        torch.set_num_threads(self._threads)

    def _unload(self) -> None:
        self._module = None

    def _resident(self) -> Callable[[], object]:
        import torch

        pixels = torch.zeros((self.batch, *self.input_shape), device=self._device)

        def run() -> None:
            with torch.inference_mode():
                self._module(pixels)
            if self._device != "cpu":
                torch.cuda.synchronize()

        return lambda: self._in_worker(run)

    def _run(self, chunk: np.ndarray) -> Rows:
        import torch

        rows = pad_rows(chunk, max(self._least_rows, len(chunk)))
        with gpu_errors_named(), torch.inference_mode():
            values = self._module(torch.from_numpy(rows).to(self._device))
            return {
                name: np.array(value.cpu().numpy(), dtype=np.float32)
                for name, value in zip(self.outputs, values, strict=True)
            }


def _smallest_batch(program: Any) -> int:
    """The least batch that the program takes: 2 where tracing could not exclude a special 1."""
    bounds = [int(constraint.lower) for constraint in program.range_constraints.values()]
    return max([1, *bounds])
