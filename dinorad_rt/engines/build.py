"""`get_or_build`: the cached engine of a graph, or a new one behind the parity gate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dinorad_rt.engines.cache import (
    build_lock,
    built_engine,
    engine_key,
    find_engine,
    key_parts,
    new_engine_folder,
    share_files,
    write_manifest,
)
from dinorad_rt.engines.gate import check_engine
from dinorad_rt.engines.inventory import touch
from dinorad_rt.engines.manifest import MANIFEST, Engine
from dinorad_rt.engines.memory import check_memory
from dinorad_rt.engines.proof import check_proof
from dinorad_rt.engines.structure import structure_digest
from dinorad_rt.errors import ParityError
from dinorad_rt.files import write_json
from dinorad_rt.progress import Say, silent
from dinorad_rt.runners.base import Backend, Plan
from dinorad_rt.runners.registry import open_runner, require_backend

if TYPE_CHECKING:
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph

__all__ = ["get_or_build", "open_runner"]


def get_or_build(
    graph: Graph, *, backend: str, profile: Profile, progress: Say | None = None
) -> Engine:
    """The engine of a graph on this machine, from the cache or built now.

    A new engine is compared with its graph before it gets its name: cosine, relative L2,
    finiteness, and that a row depends neither on its neighbours nor on padding.

    Args:
        graph: from `export_onnx` or `Graph.open`.
        backend: a name of `list_backends()`; for `auto` ask `choose_backend` first.
        profile: from `load_profile`.
        progress: told in words what happens.

    Raises:
        BackendMissingError: the backend cannot be used here.
        EngineError: it does not keep the graph's precision, or the profile does not fit.
        NoMemoryError: the memory that is free does not suffice.
        BuildError: the backend refused the graph.
        ParityError: the engine's numbers differ from the graph's; nothing is cached.
        CacheError: the cached engine is damaged.
        NoSpaceError: the disk is full.
    """
    say = progress or silent
    module = require_backend(backend)
    plan = module.plan(graph, profile)
    for note in plan.notes:
        say(note)
    parts = key_parts(graph, plan)
    key = engine_key(parts)
    found = find_engine(key)
    if found is None:
        with build_lock(key, say):
            found = find_engine(key) or _build(module, graph, plan, parts, say)
    else:
        say(f"engine {key[:12]} taken from the cache")
        touch(found.folder / MANIFEST)
    return found


def _build(module: Backend, graph: Graph, plan: Plan, parts: dict[str, Any], say: Say) -> Engine:
    key = engine_key(parts)
    check_memory(graph, plan)
    say(f"building the {plan.backend} engine of {graph.model} ({plan.precision})")
    with new_engine_folder(key) as folder:
        start = time.perf_counter()
        proof = module.build(graph, plan, folder, say=say)
        seconds = time.perf_counter() - start
        facts = build_facts(graph, plan, parts) | {
            "key": key,
            "proof": proof,
            "products": check_proof(graph, plan.backend, proof),
            "build_seconds": round(seconds, 3),
        }
        engine = write_manifest(folder, facts)
        say("comparing the engine with its graph")
        start = time.perf_counter()
        facts["parity"] = checked_parity(graph, engine, module, plan, say)
        facts["parity"]["seconds"] = round(time.perf_counter() - start, 3)
        write_json(folder / MANIFEST, {**engine.manifest, **facts})
        share_files(engine)
    return built_engine(key)


def checked_parity(
    graph: Graph, engine: Engine, module: Backend, plan: Plan, say: Say
) -> dict[str, Any]:
    """The gate; what fails it is bisected, and the error names the block."""
    try:
        return check_engine(graph, engine)
    except ParityError as error:
        from dinorad_rt.engines.locate import locate_in_engine

        say("the gate failed; looking for the block")
        located = locate_in_engine(graph, module, plan)
        if located is None:
            raise
        fix = error.fix
        if located.site is not None and graph.precision != "fp32":
            fix = f"Keep that block in FP32: --precision mixed --keep-fp32 {located.site}. {fix}"
        problem = error.problem.removesuffix(".")
        raise ParityError(f"{problem}; {located.words()}.", fix) from error


def build_facts(graph: Graph, plan: Plan, parts: dict[str, Any]) -> dict[str, Any]:
    """What the manifest of an engine says of graph, plan and device."""
    weights = graph.manifest.get("weights")
    said = ("normalisation", "weights_notes")
    return {
        "model": graph.model,
        "weights": weights if isinstance(weights, dict) else {"sha256": weights},
        "weights_kind": graph.weights_kind,
        **{name: graph.manifest[name] for name in said if name in graph.manifest},
        "precision": plan.precision,
        "graph_sha256": graph.sha256,
        "recipe": parts["recipe"],
        "structure": structure_digest(graph.path) if graph.path.is_file() else None,
        "backend": plan.backend,
        "backend_version": plan.version,
        "batch": plan.batch,
        "input_shape": list(graph.input_shape),
        "outputs": {name: list(shape) for name, shape in graph.outputs.items()},
        "settings": dict(plan.settings),
        "device": dict(plan.device),
    }
