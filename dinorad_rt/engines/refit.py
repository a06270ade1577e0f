"""`refit_engine`: other weights of the same architecture into a cached engine, without a build.

A fine-tuned or merged checkpoint has the same graph but for its weights. Whatever a backend did to
the graph stays; only constants are exchanged, and the gate compares the result with its new graph
as it does after a build.

    openvino                  constants of the stored model are replaced
    pytorch                   the program's weights are exchanged
    tensorrt, tensorrt-rtx    NVIDIA's refitter, for engines built with `refittable`; needs a GPU
    onnxruntime, inductor     not possible: see `UNSUPPORTED`
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.build import build_facts, checked_parity
from dinorad_rt.engines.cache import (
    build_lock,
    built_engine,
    engine_key,
    find_engine,
    key_parts,
    list_engines,
    new_engine_folder,
    share_files,
    write_manifest,
)
from dinorad_rt.engines.manifest import MANIFEST, Engine
from dinorad_rt.engines.proof import check_proof
from dinorad_rt.engines.structure import structure_digest
from dinorad_rt.errors import EngineError
from dinorad_rt.files import space_errors_named, write_json
from dinorad_rt.progress import Say, silent
from dinorad_rt.runners.registry import require_backend

if TYPE_CHECKING:
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.runners.base import Plan

Swap = Callable[[Engine, "Graph", "Plan", Path], dict[str, Any]]
UNSUPPORTED = {
    "onnxruntime": "it stores weights in the order of its own kernels, and that order is not "
    "documented",
    "inductor": "it packs weights into the compiled code",
}


def refit_engine(
    graph: Graph, *, backend: str, profile: Profile, progress: Say | None = None
) -> Engine:
    """The engine of a graph, made from a cached engine of the same structure.

    Its key is the one that a build would have given it.

    Args:
        graph: with the new weights.
        backend: a name of `list_backends()`.
        profile: as the cached engine was built with.
        progress: told in words what happens.

    Raises:
        EngineError: the backend cannot exchange weights, or no cached engine has the structure.
        ParityError: the engine's numbers differ from the graph's; nothing is cached.
    """
    say = progress or silent
    module = require_backend(backend)
    plan = module.plan(graph, profile)
    if plan.backend in UNSUPPORTED:
        raise EngineError(
            f"{plan.backend} cannot exchange an engine's weights: {UNSUPPORTED[plan.backend]}.",
            "Build a new engine: dinorad-rt build without --refit",
        )
    parts = key_parts(graph, plan)
    key = engine_key(parts)
    with build_lock(key, say):
        found = find_engine(key)
        if found is not None:
            say(f"engine {key[:12]} taken from the cache")
            return found
        base = _base(graph, plan)
        say(f"taking the weights of {graph.model} into engine {base.key[:12]}")
        with new_engine_folder(key) as folder:
            start = time.perf_counter()
            proof = _SWAPS[plan.backend](base, graph, plan, folder)
            seconds = time.perf_counter() - start
            facts = build_facts(graph, plan, parts) | {
                "key": key,
                "proof": proof,
                "products": check_proof(graph, plan.backend, proof),
                "build_seconds": base.manifest.get("build_seconds"),
                "refit": {"base": base.key, "seconds": round(seconds, 3)},
            }
            engine = write_manifest(folder, facts)
            say("comparing the engine with its graph")
            facts["parity"] = checked_parity(graph, engine, module, plan, say)
            write_json(folder / MANIFEST, {**engine.manifest, **facts})
            share_files(engine)
    return built_engine(key)


def _base(graph: Graph, plan: Plan) -> Engine:
    """A cached engine that differs from the wanted one in its weights only.

    Raises:
        EngineError: there is none.
    """
    wanted = {
        "structure": structure_digest(graph.path),
        "backend": plan.backend,
        "backend_version": plan.version,
        "precision": plan.precision,
        "batch": plan.batch,
        "settings": dict(plan.settings),
        "device": dict(plan.device),
    }
    built_first = sorted(list_engines(), key=lambda engine: "refit" in engine.manifest)
    for engine in built_first:  # TensorRT before 10.14 cannot refit what was refitted
        if all(engine.manifest.get(name) == value for name, value in _plain(wanted).items()):
            engine.verify()
            return engine
    raise EngineError(
        f"No cached {plan.backend} engine has the structure of this graph of {graph.model} with "
        "this profile, so there is none to take its weights into.",
        "Build it: dinorad-rt build without --refit",
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def _swap_openvino(base: Engine, graph: Graph, plan: Plan, folder: Path) -> dict[str, Any]:
    """Replace every constant of the stored model that is a weight of the graph.

    Its types follow from structure, settings and device, which are the base's, so its proof holds;
    but for INT8, where signs of values decide. Proving compiles, a quarter of a refit's time.
    """
    import openvino

    from dinorad_rt.runners.openvino import prove

    weights = _weights(graph.path)
    core = openvino.Core()
    model = core.read_model(base.file("model.xml"))
    used = set()
    for node in model.get_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Constant" or name not in weights:
            continue
        element, shape = node.get_element_type(), list(node.get_output_shape(0))
        array = weights[name]
        if list(array.shape) != shape:
            continue
        tensor = openvino.Tensor(np.ascontiguousarray(array), openvino.Shape(shape), element)
        fresh = openvino.op.Constant(tensor)
        fresh.set_friendly_name(name)
        node.output(0).replace(fresh.output(0))
        used.add(name)
    missing = sorted(set(weights) - used)
    if missing:
        raise EngineError(
            f"OpenVINO has transformed {len(missing)} weights of this engine ({missing[0]}, ...), "
            "so they cannot be exchanged.",
            "Build a new engine: dinorad-rt build without --refit",
        )
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    if graph.precision == "int8":
        return prove(core, model, graph, plan)
    return dict(base.manifest["proof"])


def _swap_pytorch(base: Engine, graph: Graph, plan: Plan, folder: Path) -> dict[str, Any]:
    """Exchange the weights of the stored program."""
    from dinorad_rt.export.program import load_program, save_program

    old = load_program(base.file("model.pt2"))
    new = load_program(graph.program_path)
    for store in ("state_dict", "constants"):
        mine, theirs = getattr(old, store), getattr(new, store)
        if {k: (v.shape, v.dtype) for k, v in mine.items()} != {
            k: (v.shape, v.dtype) for k, v in theirs.items()
        }:
            raise EngineError(
                f"The program of {graph.model} has other weights than the cached engine.",
                "Build a new engine: dinorad-rt build without --refit",
            )
        mine |= theirs
    save_program(old, folder / "model.pt2")
    return dict(base.manifest["proof"])


def _swap_tensorrt(base: Engine, graph: Graph, plan: Plan, folder: Path) -> dict[str, Any]:
    """NVIDIA's refitter on the plan file, then a new plan file.

    A stripped plan stays as it is: it takes the weights of the graph beside it when it is loaded.
    """
    from dinorad_rt.engines.cache import place_file
    from dinorad_rt.runners.tensorrt_build import GRAPH_FILE, PLAN_FILE, place_graph
    from dinorad_rt.runners.tensorrt_flavour import RTX, TENSORRT
    from dinorad_rt.runners.tensorrt_refit import plan_of, refit_weights
    from dinorad_rt.runners.tensorrt_runner import load_plan

    if "REFIT" not in plan.settings.get("flags", ()):
        raise EngineError(
            f"The {plan.backend} engine was not built refittable: its weights are fixed.",
            "Set refittable = true under [options.tensorrt] in the profile, and build it once.",
        )
    if GRAPH_FILE in base.files:
        place_file(base.file(PLAN_FILE), folder, PLAN_FILE)
        place_graph(graph.path, folder)
    else:
        flavour = RTX if plan.backend == RTX.name else TENSORRT
        engine = load_plan(flavour, base.file(PLAN_FILE).read_bytes())
        refit_weights(flavour, engine, graph.path)
        with space_errors_named(folder / PLAN_FILE):
            (folder / PLAN_FILE).write_bytes(plan_of(flavour, engine))
    return dict(base.manifest["proof"])


_SWAPS: dict[str, Swap] = {
    "openvino": _swap_openvino,
    "pytorch": _swap_pytorch,
    "tensorrt": _swap_tensorrt,
    "tensorrt-rtx": _swap_tensorrt,
}


def _weights(path: Path) -> dict[str, np.ndarray]:
    """Weights of an ONNX file by name; BF16 as the bits that numpy has no type for."""
    import onnx
    from onnx import numpy_helper

    from dinorad_rt.engines.structure import is_weight

    found = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        if is_weight(tensor):
            array = numpy_helper.to_array(tensor)
            wide = tensor.data_type == onnx.TensorProto.BFLOAT16
            found[tensor.name] = array.view(np.uint16) if wide else array
    return found
