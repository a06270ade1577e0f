"""PyTorch Inductor, ahead of time: the graph's program compiled into one `.pt2` package.

The batch is fixed when the program is compiled. On the processor the compiled code is for this
instruction set and this number of threads.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import BuildError, EngineError, NoSpaceError
from dinorad_rt.files import space_errors_named
from dinorad_rt.machine import cpu_precisions, gpu_facts, has_gpu, torch_has_gpu, usable_cores
from dinorad_rt.optional import is_installed, version_of
from dinorad_rt.progress import Say
from dinorad_rt.runners.base import AbstractRunner, Availability, Plan
from dinorad_rt.runners.inductor_runner import PACKAGE, InductorCudaRunner, InductorRunner, quiet
from dinorad_rt.runners.precision import (
    PRECISION_OF,
    PROGRAM_PRECISIONS,
    cpu_device,
    keeps_fp32,
    low_type,
    refuse_precision,
    unproven,
)
from dinorad_rt.words import error_line

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph

NAME = "inductor"
_DEFAULTS: dict[str, Any] = {
    "device": "auto",
    "max_autotune": True,
    "cuda_graphs": True,
    "tensor_memory": False,
}
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "convolution", "conv2d")
_ATTENTION = "scaled_dot_product_attention"
_STREAMS = 2


def is_available() -> Availability:
    """Wherever PyTorch and a C++ compiler are."""
    installed = is_installed("torch")
    compiler = _compiler() is not None
    reason = "" if compiler else "no C++ compiler (g++ or clang++) was found"
    devices = (("cuda",) if has_gpu() else ()) + ("cpu",)
    return Availability(
        backend=NAME,
        can_build=installed and compiler,
        can_run=installed,
        version=version_of("torch"),
        devices=devices if installed else (),
        reason=reason if installed else "the package torch is not installed",
        install="pip install torch" if not installed else "apt install g++ (or set CXX)",
        precisions=(PROGRAM_PRECISIONS if has_gpu() else cpu_precisions()) if installed else (),
    )


def plan(graph: Graph, profile: Profile) -> Plan:
    """Fix device, batch and threads.

    Options of the profile: `device` (auto, cpu, cuda), `max_autotune` (default true: products are
    timed and the fastest form is kept), `cuda_graphs`, `tensor_memory` (default false: on Hopper
    and later also time products that fetch through the tensor memory accelerator).

    Raises:
        EngineError: a device that is not here, an unknown option, or an INT8 graph.
    """
    options = _options(profile)
    cuda = torch_has_gpu()
    device = str(options["device"])
    if device == "auto":
        device = "cuda" if cuda else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not cuda):
        raise EngineError(
            f"Inductor cannot run on {device!r} here.", "Use device = 'cpu' in the profile."
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
            "streams": (profile.streams or _STREAMS) if device == "cuda" else 1,
            "max_autotune": bool(options["max_autotune"]),
            "cuda_graphs": bool(options["cuda_graphs"]),
            "matrix_type": low,
            **({"tensor_memory": bool(options["tensor_memory"])} if device == "cuda" else {}),
        },
        device=cpu_device() if device == "cpu" else {"kind": "cuda", **gpu_facts()},
        notes=(note,) if slow else (),
    )


def build(graph: Graph, plan: Plan, folder: Path, *, say: Say | None = None) -> dict[str, Any]:
    """Compile the graph's program for this machine; read the types of its matrix products.

    Raises:
        BuildError: Inductor refuses the program, or its types are not as asked for.
        NoSpaceError: the disk is full.
    """
    import torch

    program = _program(graph, plan)
    proof = _products(program)
    low = str(plan.settings["matrix_type"])
    allowed = {low, "float32"} if keeps_fp32(graph) else {low}
    if low not in proof or not set(proof) <= allowed:
        raise unproven(NAME, graph, low, proof)
    if say is not None:
        tuned = " and times kernels" if plan.settings["max_autotune"] else ""
        say(f"Inductor compiles{tuned}: minutes for a large model, once")
    try:
        with quiet(), space_errors_named(folder / PACKAGE):
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(folder / PACKAGE),
                inductor_configs=_configuration(plan.settings),
            )
    except NoSpaceError:
        raise
    except Exception as error:  # the compiler raises whatever its passes or the tool chain raise
        raise BuildError(
            f"Inductor {plan.version} cannot compile the graph of {graph.model}: "
            f"{error_line(error)}",
            "Choose another backend: dinorad-rt list backends",
        ) from error
    return {"matrix_products": proof}


def load(engine: Engine) -> AbstractRunner:
    """The runner of an Inductor engine."""
    if engine.settings["device"] == "cpu":
        return InductorRunner(engine)
    return InductorCudaRunner(engine)


def _program(graph: Graph, plan: Plan) -> Any:
    """The graph's program on the engine's device, with the batch fixed."""
    import torch

    from dinorad_rt.export.program import load_program
    from dinorad_rt.runners.inductor_graph import suit_gpu

    if not graph.program_path.is_file():
        raise BuildError(
            f"The graph of {graph.model} holds no {graph.program_path.name}.",
            "Export it again: dinorad-rt export",
        )
    program = load_program(graph.program_path)
    device = str(plan.settings["device"])
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    example = torch.zeros((plan.batch, *graph.input_shape), device=device)
    try:
        fixed = torch.export.export(program.module(), (example,))
        if device == "cpu":
            return fixed
        suited = fixed.module()
        suit_gpu(suited)
        return torch.export.export(suited, (example,))
    except Exception as error:  # a guard of the program, in whatever class it raises
        raise BuildError(
            f"The program of {graph.model} takes no batch of {plan.batch}: {error_line(error)}",
            "Choose another batch in the profile.",
        ) from error


def _products(program: Any) -> dict[str, int]:
    """Matrix products of a program by the type of their first matrix; attention counts as two."""
    counts: Counter[str] = Counter()
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        if name not in _PRODUCTS and not name.startswith(_ATTENTION):
            continue
        tensors = [item.meta["val"] for item in node.args if hasattr(item, "meta")]
        kinds = [str(value.dtype).removeprefix("torch.") for value in tensors if value.ndim >= 2]
        if kinds:
            counts[kinds[0]] += 2 if name.startswith(_ATTENTION) else 1
    return dict(counts)


def _configuration(settings: Mapping[str, Any]) -> dict[str, Any]:
    tuned = bool(settings["max_autotune"])
    if settings["device"] != "cpu":
        return {
            "max_autotune": tuned,
            "triton.enable_persistent_tma_matmul": bool(settings["tensor_memory"]),
            "aot_inductor.compile_wrapper_opt_level": "O0",  # a CUDA graph replaces what it does
        }
    return {"max_autotune": tuned, "freezing": True, "cpp.threads": int(settings["threads"])}


def _options(profile: Profile) -> dict[str, Any]:
    given = profile.options_for(NAME)
    unknown = sorted(set(given) - set(_DEFAULTS))
    if unknown:
        raise EngineError(
            f"The profile {profile.name} gives {NAME} the options {', '.join(unknown)}.",
            f"Allowed are: {', '.join(_DEFAULTS)}.",
        )
    return _DEFAULTS | given


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(
        (path for name in (named, "g++", "clang++") if name and (path := shutil.which(name))), None
    )
