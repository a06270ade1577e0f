"""OpenVINO on the processor: a static batch, several streams, precision by the graph's own types.

Measured (ViT-S/14 at 224, BF16): a dynamic batch costs more than half of the speed, so the batch
is fixed and the tail padded. With the hint `f32` OpenVINO keeps the types of a typed graph: BF16
matrix products, FP32 normalisation and softmax, as the recipe says, at the speed of the hint
`bf16`, which would lower those too. With the hint `f16` it computes in BF16 on a processor
without FP16 arithmetic and says nothing, hence the proof after the build.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import BuildError, EngineError
from dinorad_rt.files import space_errors_named
from dinorad_rt.machine import cpu_precisions, usable_cores
from dinorad_rt.optional import is_installed, version_of
from dinorad_rt.progress import Say
from dinorad_rt.runners.base import AbstractRunner, Availability, Plan, Rows
from dinorad_rt.runners.precision import (
    cpu_device,
    keeps_fp32,
    low_type,
    refuse_precision,
    unproven,
)

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph

NAME = "openvino"
_MODEL = "model.xml"
_MATRIX_LAYERS = ("FullyConnected", "MatMul", "Convolution", "ScaledDotProductAttention")
_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "i8"}


def is_available() -> Availability:
    """OpenVINO runs wherever its wheel is installed."""
    installed = is_installed("openvino")
    return Availability(
        backend=NAME,
        can_build=installed,
        can_run=installed,
        version=version_of("openvino"),
        devices=("cpu",) if installed else (),
        reason="" if installed else "the package openvino is not installed",
        install="pip install openvino",
        precisions=(*cpu_precisions(), "int8") if installed else (),
    )


def plan(graph: Graph, profile: Profile) -> Plan:
    """Fix batch, streams and threads.

    Options of the profile: `precision_hint`, `graph` (default: the types of the graph) or `bf16`
    (lowers normalisation and softmax of a BF16 graph too, and what an INT8 graph leaves in FP32).

    Raises:
        EngineError: the processor has no arithmetic for the graph's type.
    """
    low = low_type(graph)
    refuse_precision(NAME, graph, low, (*cpu_precisions(), "int8"))
    threads = profile.threads or usable_cores()
    hint = _hint(profile, graph, low)
    return Plan(
        backend=NAME,
        version=version_of("openvino") or "",
        precision=graph.precision,
        batch=profile.batch,
        settings={
            "streams": min(profile.streams or _streams_for(threads), threads),
            "threads": threads,
            "precision_hint": hint,
            "matrix_type": low,
        },
        device=cpu_device(),
    )


def _hint(profile: Profile, graph: Graph, low: str) -> str:
    """The hint that OpenVINO gets.

    Raises:
        EngineError: an unknown option or value, or a hint that this graph cannot follow.
    """
    options = profile.options_for(NAME)
    unknown = sorted(set(options) - {"precision_hint"})
    wanted = options.get("precision_hint", "graph")
    if unknown or wanted not in ("graph", "bf16"):
        found = ", ".join(unknown) or f"precision_hint = {wanted!r}"
        raise EngineError(
            f"The profile {profile.name} gives {NAME} {found}.",
            "Allowed is: precision_hint = 'graph' or 'bf16'.",
        )
    if wanted == "graph":
        return "f32"
    if low not in ("bfloat16", "int8") or "bf16" not in cpu_precisions():
        raise EngineError(
            f"The profile {profile.name} lowers what a graph leaves in FP32 to BF16; the graph of "
            f"{graph.model} is {graph.precision}.",
            "Use it with --precision bf16 or int8 on a processor with BF16, or leave out "
            "precision_hint.",
        )
    return "bf16"


def build(graph: Graph, plan: Plan, folder: Path, *, say: Say | None = None) -> dict[str, Any]:
    """Freeze the batch, store OpenVINO's form of the graph, and read the types it will run in.

    Raises:
        BuildError: OpenVINO refuses the graph, or would run it in another precision.
        NoSpaceError: the disk is full.
    """
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(graph.path)
        model.reshape({0: [plan.batch, *graph.input_shape]})
        with space_errors_named(folder / _MODEL):
            openvino.save_model(model, folder / _MODEL, compress_to_fp16=False)
        return prove(core, model, graph, plan)
    except RuntimeError as error:
        raise BuildError(
            f"OpenVINO {plan.version} refused the graph of {graph.model}: {error}",
            "Choose another backend: dinorad-rt list backends",
        ) from error


def prove(core: Any, model: Any, graph: Graph, plan: Plan) -> dict[str, Any]:
    """Compile a model and read the types that its matrix products run in.

    Raises:
        BuildError: they are not those of the graph.
    """
    proof = _matrix_types(core.compile_model(model, "CPU", _config(plan.settings)))
    wanted = _TYPES[str(plan.settings["matrix_type"])]
    allowed = {wanted, "f32"} if keeps_fp32(graph) else {wanted}
    if wanted == "i8":  # unsigned where no value is negative, BF16 between by the hint
        proof = {"i8": proof.pop("i8", 0) + proof.pop("u8", 0), **proof}
        allowed |= {str(plan.settings["precision_hint"])}
    if not proof.get(wanted) or not set(proof) <= allowed:
        raise unproven(NAME, graph, wanted, proof)
    return {"matrix_products": proof}


def load(engine: Engine) -> AbstractRunner:
    """The runner of an OpenVINO engine."""
    return OpenVINORunner(engine)


class OpenVINORunner(AbstractRunner):
    """One infer request per stream and one more, so that no stream waits for the caller."""

    backend = NAME

    def __init__(self, engine: Engine) -> None:
        self._settings = engine.settings
        super().__init__(engine, look_ahead=int(self._settings["streams"]) + 1)
        self._path = engine.file(_MODEL)
        self._requests: list[Any] = []
        self._next = 0

    def _activate(self) -> None:
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(self._path), "CPU", _config(self._settings))
        self._requests = [compiled.create_infer_request() for _ in range(self.look_ahead)]
        self._next = 0

    def _release(self) -> None:
        self._requests = []

    def _resident(self) -> Callable[[], object]:
        request = self._requests[0]

        def call() -> None:
            request.start_async()
            request.wait()

        return call

    def _submit(self, chunk: np.ndarray) -> Any:
        request = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        rows = request.get_input_tensor(0).data
        np.copyto(rows[: len(chunk)], chunk)
        rows[len(chunk) :] = 0
        request.start_async()
        return request

    def _collect(self, ticket: Any) -> Rows:
        ticket.wait()
        return {
            name: np.array(ticket.get_tensor(name).data, dtype=np.float32) for name in self.outputs
        }


def _config(settings: Any) -> dict[str, Any]:
    return {
        "NUM_STREAMS": int(settings["streams"]),
        "INFERENCE_NUM_THREADS": int(settings["threads"]),
        "INFERENCE_PRECISION_HINT": str(settings["precision_hint"]),
        "ENABLE_CPU_PINNING": False,  # decoding workers share the cores
    }


def _streams_for(threads: int) -> int:
    """A stream per core on small machines, else one per four cores: weights are shared, but each
    stream holds a batch of activations."""
    return threads if threads <= 4 else max(4, threads // 4)


def _matrix_types(compiled: Any) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for layer in compiled.get_runtime_model().get_ops():
        facts = layer.get_rt_info()
        if str(facts["layerType"].value) in _MATRIX_LAYERS:
            counts[str(facts["runtimePrecision"].value)] += 1
    return dict(counts)
