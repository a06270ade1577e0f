"""Building a TensorRT plan: strongly typed network, one optimisation profile per bucket.

A plan file is code: it is written to our own cache and loaded from nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import BuildError
from dinorad_rt.files import atomic_path, held_lock, sha256_json, space_errors_named
from dinorad_rt.paths import cache_dir
from dinorad_rt.progress import Say, silent
from dinorad_rt.runners.base import Plan
from dinorad_rt.runners.tensorrt_flavour import Flavour, Journal, logger
from dinorad_rt.runners.tensorrt_proof import (
    check_products,
    engine_types,
    network_types,
    refuse_turing,
)

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

PLAN_FILE = "engine.plan"
GRAPH_FILE = "model.onnx"
INPUT = "pixel_values"
_EVERY_SECONDS = 2.0


def build_plan_file(
    flavour: Flavour, graph: Graph, plan: Plan, folder: Path, say: Say | None = None
) -> dict[str, Any]:
    """Build the engine of a graph into `folder` and give the proof of its precision.

    Works in a thread of its own: on the main thread the library's calls back into Python would take
    an interruption and drop it. So it ends the build after the step at hand.

    Args:
        flavour: which of the two packages builds.
        graph: from `export_onnx`.
        plan: with the settings of `runners.tensorrt.plan`.
        folder: gets `engine.plan`, and for a stripped engine the graph's files.
        say: told about the builder's phases.

    Raises:
        BuildError: the package refuses the graph, or would not keep its precision.
        ExportError: the graph reads weights from outside its folder.
        NoSpaceError: the disk is full.
    """
    monitor = _monitor(flavour.load(), say or silent)
    with ThreadPoolExecutor(1, thread_name_prefix=flavour.name) as pool:
        try:
            return pool.submit(_build, flavour, graph, plan, folder, monitor).result()
        except BaseException:
            monitor.stopped = True
            raise


def _build(
    flavour: Flavour, graph: Graph, plan: Plan, folder: Path, monitor: Any
) -> dict[str, Any]:
    from dinorad_rt.export.manifest import check_external_data

    trt = flavour.load()
    log, journal = logger(flavour)
    journal.take()
    check_external_data(graph.path, allowed=[path.name for path in graph.folder.iterdir()])
    builder = _builder(trt, log, journal)
    network = builder.create_network(_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph.path)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise _refused(flavour, graph, "; ".join(reasons) or journal.take())
    proof = network_types(network)
    check_products(graph, plan, proof["matrix_products"])
    refuse_turing(plan, _target(plan), proof["matrix_products"])
    config = _config(trt, builder, graph, plan)
    config.progress_monitor = monitor
    with timing_cache(flavour, plan, config):
        blob = builder.build_serialized_network(network, config)
        if blob is None:
            raise _refused(flavour, graph, journal.take())
    with space_errors_named(folder / PLAN_FILE), (folder / PLAN_FILE).open("wb") as handle:
        handle.write(blob)
    if "STRIP_PLAN" in plan.settings["flags"]:
        place_graph(graph.path, folder)
    if not plan.device.get("cross_built"):
        proof["inspector"] = _inspect(flavour, graph, plan, blob)
    return proof


def place_graph(source: Path, folder: Path) -> None:
    """Put an ONNX file and its external data into `folder`, linked where the disk allows."""
    from dinorad_rt.engines.cache import place_file

    place_file(source, folder, GRAPH_FILE)
    for name in sorted(external_files(source)):
        place_file(source.parent / name, folder, name)


def external_files(path: Path) -> set[str]:
    """Names of the files that hold an ONNX file's large weights."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    model = onnx.load(str(path), load_external_data=False)
    return {
        entry.value
        for tensor in model.graph.initializer
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }


@contextmanager
def timing_cache(flavour: Flavour, plan: Plan, config: Any) -> Iterator[None]:
    """Give the builder this machine's measured kernels, and keep what it measures now.

    TensorRT only: TensorRT-RTX measures nothing while it builds.
    """
    if flavour.cross:
        yield
        return
    digest = sha256_json({"version": plan.version, "device": dict(plan.device)})[:16]
    path = cache_dir("timing") / f"{flavour.name}-{digest}.bin"
    stored = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(stored)
    if not config.set_timing_cache(cache, False):  # of another GPU or version: start afresh
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    yield
    with held_lock(path.with_name(f"{path.name}.lock"), lambda: None):
        cache = config.get_timing_cache()
        if path.is_file() and path.read_bytes() != stored:  # another build was here meanwhile
            cache.combine(config.create_timing_cache(path.read_bytes()), False)
        with atomic_path(path) as part, part.open("wb") as handle:
            handle.write(cache.serialize())


def _builder(trt: Any, log: Any, journal: Journal) -> Any:
    try:
        return trt.Builder(log)
    except TypeError as error:  # the binding's way to say that the factory gave nothing
        raise BuildError(
            f"{trt.__name__} gives no builder here: {journal.take()}.",
            "Check the GPU and its driver: dinorad-rt doctor",
        ) from error


def _typed(trt: Any) -> int:
    """TensorRT 10 has to be asked for strong typing; 11 knows nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _target(plan: Plan) -> str | None:
    target = plan.device.get("target")
    return None if target is None else str(target)


def _config(trt: Any, builder: Any, graph: Graph, plan: Plan) -> Any:
    settings = plan.settings
    config = builder.create_builder_config()
    config.builder_optimization_level = int(settings["optimization_level"])
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector needs it
    if not settings["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in settings["flags"]:
        config.set_flag(_member(trt.BuilderFlag, str(name), plan))
    if settings["workspace_mib"]:
        size = int(settings["workspace_mib"]) << 20
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    if settings["hardware_compatibility"] != "NONE":
        level = str(settings["hardware_compatibility"])
        config.hardware_compatibility_level = _member(trt.HardwareCompatibilityLevel, level, plan)
    target = _target(plan)
    if target is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_member(trt.ComputeCapability, target.upper(), plan), 0)
    for rows in settings["buckets"]:
        shape = (int(rows), *graph.input_shape)
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, shape, shape, shape)
        config.add_optimization_profile(profile)
    return config


def _member(kind: Any, name: str, plan: Plan) -> Any:
    members = kind.__members__
    if name not in members:
        raise BuildError(
            f"{plan.backend} {plan.version} knows no {kind.__name__} {name}; it has "
            f"{', '.join(members)}.",
            "Leave this option out of the profile, or install another version.",
        )
    return members[name]


def _inspect(flavour: Flavour, graph: Graph, plan: Plan, blob: Any) -> dict[str, Any]:
    """What the built engine itself shows; only where a GPU can load it."""
    trt = flavour.load()
    log, journal = logger(flavour)
    engine = trt.Runtime(log).deserialize_cuda_engine(blob)
    if engine is None:
        raise _refused(flavour, graph, f"it cannot load its own engine: {journal.take()}")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    found = engine_types(text)
    if found:
        check_products(graph, plan, found, fused=True)
    return {
        "layers": int(engine.num_layers),
        "matrix_products": found,
        "activation_bytes": int(engine.device_memory_size_v2),
    }


def _refused(flavour: Flavour, graph: Graph, reason: str) -> BuildError:
    return BuildError(
        f"{flavour.name} {flavour.version} refused the graph of {graph.model} "
        f"({graph.precision}): {reason}",
        "Choose another backend: dinorad-rt list backends",
    )


def _monitor(trt: Any, say: Say) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells how far the build is, at most one line in two seconds; called by many threads.

        Once `stopped` is true it ends the build.
        """

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self._phase, self._done, self._steps = "", 0, 0
            self._lock = threading.Lock()
            self._told = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                if not parent_phase:
                    self._phase, self._done, self._steps = phase_name, 0, num_steps
                self._tell(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                if phase_name == self._phase:
                    self._done = step + 1
                self._tell(phase_name)
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            """Nothing to tell: the outer phase counts its own steps."""

        def _tell(self, phase_name: str) -> None:
            now = time.monotonic()
            if now - self._told >= _EVERY_SECONDS:
                self._told = now
                inner = "" if phase_name == self._phase else f" ({phase_name.lower()})"
                step = min(self._done + 1, self._steps)
                say(f"{self._phase.lower()}: step {step} of {self._steps}{inner}")

    return Monitor()
