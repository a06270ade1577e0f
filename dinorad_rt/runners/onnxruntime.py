"""ONNX Runtime: the processor; with onnxruntime-gpu also its CUDA and TensorRT providers.

The processor has kernels for FP32 and INT8 only: FP16 graphs would be cast to FP32 node by node
and BF16 ones are not implemented, so both are refused. Threads spin between operators in engines
of batch 1 only, of which the shortest time for one image is asked (measured with ViT-S/14 on two
cores: about 15 % less time, with batch 8 2 %): a spinning thread takes what decoding workers need.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import BuildError, NoSpaceError
from dinorad_rt.files import space_errors_named
from dinorad_rt.machine import gpu_facts, usable_cores
from dinorad_rt.optional import is_installed, version_of
from dinorad_rt.progress import Say
from dinorad_rt.runners.base import AbstractRunner, Availability, Plan, Rows, pad_rows
from dinorad_rt.runners.onnxruntime_providers import (
    INPUT,
    check_device,
    cuda_is_here,
    session_providers,
)
from dinorad_rt.runners.precision import (
    cpu_device,
    low_type,
    matrix_types,
    refuse_precision,
    unproven,
)
from dinorad_rt.runners.tensorrt_build import place_graph
from dinorad_rt.runners.threaded import AbstractThreadedRunner

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph

NAME = "onnxruntime"
_MODEL = "model.onnx"
_CPU_PRECISIONS = ("fp32", "int8")
_CUDA_PRECISIONS = ("fp32", "bf16", "fp16")


def is_available() -> Availability:
    """ONNX Runtime runs wherever one of its wheels is installed."""
    installed = is_installed("onnxruntime")
    devices = (("cuda",) if cuda_is_here() else ()) + ("cpu",)
    return Availability(
        backend=NAME,
        can_build=installed,
        can_run=installed,
        version=_version(),
        devices=devices if installed else (),
        reason="" if installed else "the package onnxruntime is not installed",
        install="pip install onnxruntime",
        precisions=(_CUDA_PRECISIONS if cuda_is_here() else _CPU_PRECISIONS) if installed else (),
    )


def plan(graph: Graph, profile: Profile) -> Plan:
    """Fix provider and threads.

    Options of the profile: `device`, one of cpu, cuda and tensorrt (default: cuda where it can
    run).

    Raises:
        EngineError: the provider is not here, or has no kernels for the graph's type.
    """
    device = str(profile.options_for(NAME).get("device", "cuda" if cuda_is_here() else "cpu"))
    check_device(device)
    low = low_type(graph)
    refuse_precision(NAME, graph, low, _CPU_PRECISIONS if device == "cpu" else _CUDA_PRECISIONS)
    return Plan(
        backend=NAME,
        version=_version() or "",
        precision=graph.precision,
        batch=profile.batch,
        settings={
            "device": device,
            "streams": profile.streams or 1,
            "threads": profile.threads or usable_cores(),
            "spins": device == "cpu" and profile.batch == 1,
            "matrix_type": low,
        },
        device=cpu_device() if device == "cpu" else {"kind": "cuda", **gpu_facts()},
    )


def build(graph: Graph, plan: Plan, folder: Path, *, say: Say | None = None) -> dict[str, Any]:
    """Optimise the graph for this machine and store it, so that loading does not do it again.

    Raises:
        BuildError: ONNX Runtime refuses the graph, or its types are not what was asked for.
        NoSpaceError: the disk is full.
    """
    low = str(plan.settings["matrix_type"])
    found = matrix_types(graph.path)
    if low not in found or (low == "float32" and set(found) != {low}):
        raise unproven(NAME, graph, low, found)
    try:
        providers = session_providers(plan.settings, folder, plan.batch, graph.input_shape)
        if plan.settings["device"] == "tensorrt":  # compiles from the graph itself
            place_graph(graph.path, folder)
            _session(folder / _MODEL, plan.settings, providers)
        else:
            with space_errors_named(folder / _MODEL):
                _session(graph.path, plan.settings, providers, optimised=folder / _MODEL)
    except NoSpaceError:
        raise
    except Exception as error:  # ONNX Runtime raises a class per status, all plain Exceptions
        raise BuildError(
            f"ONNX Runtime {plan.version} refused the graph of {graph.model}: {error}",
            "Choose another backend: dinorad-rt list backends",
        ) from error
    kept = matrix_types(folder / _MODEL)
    if low not in kept:
        raise unproven(NAME, graph, low, kept)
    return {"weights": kept}


def load(engine: Engine) -> AbstractRunner:
    """The runner of an ONNX Runtime engine."""
    return ONNXRuntimeRunner(engine)


class ONNXRuntimeRunner(AbstractThreadedRunner):
    """A session and as many calling threads as streams; the tail runs without padding.

    Only the TensorRT provider knows one shape, so there it is padded.
    """

    backend = NAME

    def __init__(self, engine: Engine) -> None:
        self._settings = engine.settings
        super().__init__(engine, workers=int(self._settings["streams"]))
        self._path = engine.file(_MODEL)
        self._session: Any = None

    def _activate(self) -> None:
        providers = session_providers(
            self._settings, self._path.parent, self.batch, self.input_shape
        )
        self._session = _session(self._path, self._settings, providers)

    def _prepare_thread(self) -> None:
        """A session needs nothing per thread."""

    def _unload(self) -> None:
        self._session = None

    def _resident(self) -> Callable[[], object]:
        import onnxruntime

        device = "cpu" if self._settings["device"] == "cpu" else "cuda"
        binding = self._session.io_binding()

        def zeros(shape: tuple[int, ...]) -> Any:
            values = np.zeros((self.batch, *shape), np.float32)
            return onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0)

        binding.bind_ortvalue_input(INPUT, zeros(self.input_shape))
        for name, shape in self.outputs.items():
            binding.bind_ortvalue_output(name, zeros(shape))

        def call() -> None:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return call

    def _run(self, chunk: np.ndarray) -> Rows:
        names = list(self.outputs)
        rows = pad_rows(chunk, self.batch) if self._settings["device"] == "tensorrt" else chunk
        values = self._session.run(names, {INPUT: rows})
        return dict(zip(names, values, strict=True))


def _session(path: Path, settings: Any, providers: list[Any], optimised: Path | None = None) -> Any:
    """A session; with `optimised` the graph is optimised and written there, else it already is."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = max(1, int(settings["threads"]) // int(settings["streams"]))
    options.inter_op_num_threads = 1
    spins = "1" if settings.get("spins") else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spins)
    cuda = settings["device"] != "cpu"
    if cuda:  # a node without a CUDA kernel is an error, not a silent trip to the processor
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.graph_optimization_level = levels.ORT_DISABLE_ALL
    if optimised is not None:
        level = levels.ORT_ENABLE_EXTENDED if cuda else levels.ORT_ENABLE_ALL
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(optimised)
        entry = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{entry}_file_name", f"{optimised.stem}.bin")
        options.add_session_config_entry(f"{entry}_min_size_in_bytes", "1024")
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _version() -> str | None:
    gpu = version_of("onnxruntime-gpu")
    return f"{gpu} (gpu)" if gpu else version_of("onnxruntime")
