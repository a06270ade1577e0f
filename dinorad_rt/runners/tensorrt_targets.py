"""Engines for GPUs that are not here: built and proven now, compared with their graph there.

any machine      build_for_targets   plan file, manifest with `parity: not run, needs the GPU`
the GPU machine  admit_engine        the gate; then an engine of that machine's cache
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.engines.build import build_facts as engine_facts
from dinorad_rt.engines.cache import (
    build_lock,
    built_engine,
    engine_key,
    find_engine,
    key_parts,
    new_engine_folder,
    place_file,
    write_manifest,
)
from dinorad_rt.engines.gate import check_engine
from dinorad_rt.engines.manifest import MANIFEST, Engine
from dinorad_rt.errors import BackendMissingError, EngineError, OutputExistsError
from dinorad_rt.files import atomic_folder, write_json
from dinorad_rt.machine import gpu_facts
from dinorad_rt.progress import Say, silent
from dinorad_rt.runners.base import Plan
from dinorad_rt.runners.tensorrt import NOT_RUN, TensorRTBackend
from dinorad_rt.runners.tensorrt_flavour import (
    RTX,
    TENSORRT,
    Flavour,
    check_target,
    local_target,
)

if TYPE_CHECKING:
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph


@dataclass(frozen=True)
class TargetEngine:
    """An engine for one GPU generation.

    Attributes:
        target: such as "sm89".
        engine: in the cache; refused at load until `admit_engine` ran on such a GPU.
        seconds: that the build took, from the manifest if it was cached.
        size: bytes of the engine's files.
        cached: it was there already.
        copy: the folder to ship, if one was asked for.
    """

    target: str
    engine: Engine
    seconds: float
    size: int
    cached: bool
    copy: Path | None = None


def build_for_targets(
    graph: Graph,
    profile: Profile,
    targets: Sequence[str],
    folder: Path | None = None,
    *,
    backend: str = RTX.name,
    progress: Say | None = None,
) -> list[TargetEngine]:
    """Build a graph for named GPU generations, on a machine with or without a GPU.

    Every target is checked before the first build. The precision is proven from the types of the
    parsed network; the comparison of numbers needs the GPU, so it is left to `admit_engine`.

    Args:
        graph: from `export_onnx` or `Graph.open`.
        profile: from `load_profile`; each bucket becomes an optimisation profile.
        targets: such as "sm80", "sm89", "sm120" (also "8.9"); doubles count once.
        folder: where copies to ship go, one sub-folder per target; None for the cache alone.
        backend: `tensorrt-rtx`; `tensorrt` cannot do this.
        progress: told in words what happens.

    Returns:
        One entry per target, in the order given.

    Raises:
        EngineError: the backend cannot build for another GPU, a target that it does not know, or
            a precision that a target does not have.
        BackendMissingError: the backend is not installed.
        BuildError: the graph is refused, or its precision would not be kept.
        OutputExistsError: a folder to ship is there already and holds another engine.
        NoSpaceError: the disk is full.
    """
    say = progress or silent
    flavour = _crossing(backend)
    module = TensorRTBackend(flavour)
    named = list(dict.fromkeys(check_target(flavour, text) for text in targets))
    if not named:
        raise EngineError(
            "No target was named.", f"Name one or more with --targets: {', '.join(flavour.targets)}"
        )
    device = {"kind": "cuda", "cross_built": True}
    plans = {target: module.plan_for(graph, profile, target, device) for target in named}
    return [_one(module, graph, plan, folder, say) for plan in plans.values()]


def open_shipped(folder: Path) -> Engine:
    """An engine that may be admitted, if it is for the GPU that is here.

    Raises:
        EngineError: no engine, or of a backend whose engines stay on the machine that built them.
        CacheError: it is damaged.
    """
    fix = (
        f"Engines of {RTX.name} can be admitted: folders that dinorad-rt build --backend "
        f"{RTX.name} --targets sm89 --out DIR wrote, for the generation of this GPU."
    )
    if not (folder / MANIFEST).is_file():
        raise EngineError(f"{folder} holds no engine: it has no {MANIFEST}.", fix)
    engine = Engine.open(folder)
    if engine.backend.replace("_", "-") != RTX.name:
        raise EngineError(
            f"An engine of {engine.backend} belongs to the machine that built it: it cannot be "
            "admitted elsewhere.",
            fix,
        )
    return engine


def admit_engine(graph: Graph, folder: Path, *, progress: Say | None = None) -> Engine:
    """Run the gate on an engine that was built for this GPU elsewhere, and take it in.

    The engine keeps its files; it gets this machine's key, the gate's numbers, and a place in this
    machine's cache, where `get_or_build` finds it.

    Args:
        graph: the graph that it was built from.
        folder: with `engine.json` and the plan, from a source that you trust: a plan is code.
        progress: told in words what happens.

    Raises:
        EngineError: it is for another GPU, another version, or another graph.
        BackendMissingError: its backend cannot run here.
        CacheError: a file is not what the manifest says.
        ParityError: its numbers differ from the graph's; nothing is cached.
    """
    say = progress or silent
    source = open_shipped(folder)
    source.verify()
    plan = _native_plan(source, graph)
    parts = key_parts(graph, plan)
    key = engine_key(parts)
    with build_lock(key, say):
        found = find_engine(key)
        if found is not None:
            return found
        with new_engine_folder(key) as part:
            for name in source.files:
                place_file(source.file(name), part, name)
            kept = {name: source.manifest[name] for name in ("proof", "build_seconds")}
            facts = {**engine_facts(graph, plan, parts), "key": key, **kept}
            facts["built_elsewhere"] = source.key
            engine = write_manifest(part, facts)
            say("comparing the engine with its graph")
            facts["parity"] = check_engine(graph, engine)
            write_json(part / MANIFEST, {**engine.manifest, **facts})
    return built_engine(key)


def _one(
    module: TensorRTBackend, graph: Graph, plan: Plan, folder: Path | None, say: Say
) -> TargetEngine:
    target = str(plan.device["target"])
    parts = key_parts(graph, plan)
    key = engine_key(parts)
    with build_lock(key, say):
        cached = find_engine(key) is not None
        if not cached:
            _build(module, graph, plan, parts, say)
    engine = built_engine(key)
    say(f"{target}: {engine.bytes_on_disk / 2**20:.1f} MiB" + (", from the cache" * cached))
    name = f"{graph.model}-{plan.precision}-{target}"
    return TargetEngine(
        target=target,
        engine=engine,
        seconds=float(engine.manifest["build_seconds"]),
        size=engine.bytes_on_disk,
        cached=cached,
        copy=None if folder is None else _copy(engine, folder / name),
    )


def _build(
    module: TensorRTBackend, graph: Graph, plan: Plan, parts: dict[str, Any], say: Say
) -> None:
    key = engine_key(parts)
    say(f"{plan.device['target']}: building {graph.model} ({plan.precision})")
    with new_engine_folder(key) as folder:
        start = time.perf_counter()
        proof = module.build(graph, plan, folder, say=say)
        facts = {
            **engine_facts(graph, plan, parts),
            "key": key,
            "proof": proof,
            "build_seconds": round(time.perf_counter() - start, 3),
            "parity": NOT_RUN,
        }
        write_manifest(folder, facts)


def _copy(engine: Engine, target: Path) -> Path:
    if target.exists():
        if Engine.open(target).key == engine.key:
            return target
        raise OutputExistsError(
            f"{target} holds another engine.", "Choose another folder with --out, or remove it."
        )
    with atomic_folder(target) as part:
        for name in (*engine.files, MANIFEST):
            place_file(engine.folder / name, part, name)
    return target


def _native_plan(source: Engine, graph: Graph) -> Plan:
    """The plan under which an engine from elsewhere is one of this machine.

    Raises:
        EngineError: it is for another GPU, version or graph.
        BackendMissingError: its backend cannot run here.
    """
    flavour = _crossing(source.backend)
    state = TensorRTBackend(flavour).is_available()
    if not state.can_run:
        raise BackendMissingError(
            f"The engine cannot run here: {state.reason}.",
            "Take it to a machine with the GPU that it is for."
            if state.can_build
            else f"Install it: {state.install}",
        )
    here, target = local_target(), source.manifest.get("device", {}).get("target")
    facts = {
        "GPU": (target, here),
        "version": (source.manifest["backend_version"], state.version),
        "graph": (source.graph_sha256, graph.sha256),
    }
    for what, (theirs, ours) in facts.items():
        if theirs != ours:
            raise EngineError(
                f"The engine is for the {what} {theirs}; here is {ours}.",
                "Build it for this machine: dinorad-rt build --backend tensorrt-rtx",
            )
    return Plan(
        backend=source.backend,
        version=str(source.manifest["backend_version"]),
        precision=source.precision,
        batch=source.batch,
        settings=source.settings,
        device={"kind": "cuda", **gpu_facts(), "target": here},
    )


def _crossing(backend: str) -> Flavour:
    name = backend.replace("_", "-")
    if name == RTX.name:
        if RTX.version is None:
            raise BackendMissingError(
                f"The package {RTX.module} is not installed.", f"Install it: {RTX.install}"
            )
        return RTX
    why = "it times kernels on the GPU itself" if name == TENSORRT.name else "it has no targets"
    raise EngineError(
        f"The backend {backend} cannot build for a GPU that is not here: {why}.",
        f"Use --backend {RTX.name}, or build on the machine with the GPU.",
    )
