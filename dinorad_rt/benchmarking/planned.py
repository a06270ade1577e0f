"""From the axes of a benchmark to its cells: graphs first, then engines; what cannot be is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dinorad_rt.benchmarking.cell import MODES, Cell
from dinorad_rt.benchmarking.pace import BUILD_SHARE, GRAPH_SHARE, TimeLimit
from dinorad_rt.benchmarking.work import multiply_adds
from dinorad_rt.engines.cache import engine_key, find_engine, key_parts
from dinorad_rt.engines.profile import Profile, load_profile
from dinorad_rt.errors import CacheError, DinoradError, EngineError, ExportError, ParityError
from dinorad_rt.pipeline import EngineRequest, dataset_for, graph_for
from dinorad_rt.progress import Say
from dinorad_rt.runners.precision import INT8_BACKENDS, refuse_int8
from dinorad_rt.runners.registry import require_backend
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.benchmarking.sweep import SweepPlan
    from dinorad_rt.export.manifest import Graph

Skipped = list[dict[str, str]]


@dataclass(frozen=True)
class PlannedCell:
    """A cell that can be built here, as far as its backend knows before it tries.

    Attributes:
        cell: without its engine.
        graph: that the engine is built from.
        macs: multiply-adds of one image.
        device: kind of the device that it runs on.
        key: of its engine.
    """

    cell: Cell
    graph: Graph
    macs: int
    device: str
    key: str


def planned_cells(
    plan: SweepPlan, limit: TimeLimit, skipped: Skipped, say: Say
) -> list[PlannedCell]:
    """Export every graph and plan every engine.

    Args:
        plan: what to measure.
        limit: after a quarter of it nothing is exported any more.
        skipped: gets what is left out, with its reason.
        say: told each step.
    """
    return [
        planned
        for graph in _graphs(plan, limit, skipped, say)
        for planned in _cells_of_graph(plan, graph, skipped, say)
    ]


def built_rows(
    planned: list[PlannedCell], limit: TimeLimit, skipped: Skipped, say: Say
) -> Iterator[dict[str, Any]]:
    """Build, or find in the cache, the engine of each cell; the fastest cells come first.

    Args:
        planned: the cells.
        limit: after half of it nothing is built any more.
        skipped: gets what was not built, with its reason.
        say: told each step.

    Yields:
        Facts of each cell with its engine, without measurements.
    """
    by_cost = sorted(planned, key=lambda item: item.macs * item.cell.batch)
    for number, item in enumerate(by_cost, start=1):
        if not (limit.has_room(share=BUILD_SHARE) or _is_cached(item.key)):
            skipped.append({**words_of(item.cell), "reason": f"not built: {limit.reason()}"})
            continue
        say(f"cell {number} of {len(planned)}: {describe(item.cell)}")
        row = _built(item, skipped, say)
        if row is not None:
            yield row


def told_engines(planned: list[PlannedCell]) -> str:
    """`24 engines, 20 of them to be built`: fewer than cells, some of which share one."""
    keys = {item.key for item in planned}
    missing = sum(not _is_cached(key) for key in keys)
    return f"{count_of(len(keys), 'engine')}, {missing} of them to be built"


def describe(cell: Cell) -> str:
    """A cell in one line."""
    return (
        f"{cell.model} {cell.image_size} px, {cell.backend} {cell.precision}, "
        f"batch {cell.batch}, {cell.mode.replace('_', ' ')}"
    )


def profile_of(cell: Cell) -> Profile:
    """The profile that a cell is built with: one stream for latency, the backend's choice else."""
    base = load_profile("latency" if cell.mode == "latency" else "throughput")
    streams = 1 if cell.mode == "latency" else base.streams
    return Profile(
        name=f"bench-{cell.mode}",
        batch=cell.batch,
        streams=streams,
        threads=base.threads,
        options=base.options,
    )


def words_of(cell: Cell) -> dict[str, str]:
    """A cell as it stands among what was left out."""
    return {key: str(value) for key, value in cell.as_dict().items()}


def _graphs(plan: SweepPlan, limit: TimeLimit, skipped: Skipped, say: Say) -> Iterator[Graph]:
    for model in plan.models:
        for size in plan.image_sizes:
            for precision in plan.precisions:
                request = EngineRequest(
                    model=model,
                    weights=plan.weights,
                    image_size=size,
                    precision=precision,  # type: ignore[arg-type]
                    seed=plan.seed,
                )
                if not limit.has_room(share=GRAPH_SHARE):
                    _leave_out_graph(request, f"not exported: {limit.reason()}", skipped)
                    continue
                graph = _graph(request, plan, skipped, say)
                if graph is not None:
                    yield graph


def _graph(request: EngineRequest, plan: SweepPlan, skipped: Skipped, say: Say) -> Graph | None:
    """The graph of a request, or None and the reason among what was left out."""
    try:
        images = None
        if request.precision == "int8":
            if not set(plan.backends) & set(INT8_BACKENDS):
                refuse_int8(plan.backends[0])
            images = dataset_for(plan.data, say=say)
        return graph_for(request, say=say, calibration=images)
    except (EngineError, ExportError, ParityError) as error:
        say(f"left out: {request.model} {request.precision}: {error.problem}")
        _leave_out_graph(request, error.problem, skipped)
        return None


def _leave_out_graph(request: EngineRequest, reason: str, skipped: Skipped) -> None:
    words = {"model": request.model, "precision": request.precision, "reason": reason}
    size = {"image_size": str(request.image_size)} if request.image_size else {}
    skipped.append(words | size)


def _cells_of_graph(
    plan: SweepPlan, graph: Graph, skipped: Skipped, say: Say
) -> Iterator[PlannedCell]:
    macs = multiply_adds(graph.path)
    for backend in plan.backends:
        for batch in plan.batches:
            for mode in MODES:
                if mode == "end_to_end" and not (plan.end_to_end and batch == max(plan.batches)):
                    continue
                cell = Cell(
                    model=graph.model,
                    backend=backend,
                    precision=graph.precision,
                    image_size=int(graph.input_shape[-1]),
                    batch=batch,
                    mode=mode,
                    engine="",
                    data=str(plan.data or "") if mode == "end_to_end" else "",
                )
                try:
                    engine = require_backend(backend).plan(graph, profile_of(cell))
                except DinoradError as error:
                    _leave_out(cell, error, skipped, say)
                    continue
                kind = str(engine.device.get("kind", "cpu"))
                key = engine_key(key_parts(graph, engine))
                yield PlannedCell(cell, graph, macs, kind, key)


def _built(item: PlannedCell, skipped: Skipped, say: Say) -> dict[str, Any] | None:
    from dinorad_rt.engines.build import get_or_build

    cell, profile = item.cell, profile_of(item.cell)
    try:
        engine = get_or_build(item.graph, backend=cell.backend, profile=profile, progress=say)
    except DinoradError as error:
        _leave_out(cell, error, skipped, say)
        return None
    inspected = engine.manifest.get("proof", {}).get("inspector", {})
    return {
        "cell": replace(cell, engine=str(engine.folder)),
        "device": item.device,
        "macs": item.macs,
        "engine_key": engine.key,
        "graph_sha256": engine.graph_sha256,
        "build_s": engine.manifest["build_seconds"],
        "engine_mb": engine.bytes_on_disk / 1e6,
        "activation_bytes": inspected.get("activation_bytes"),
        "weights": engine.weights_kind,
        "runs": [],
    }


def _leave_out(cell: Cell, error: DinoradError, skipped: Skipped, say: Say) -> None:
    say(f"left out: {describe(cell)}: {error.problem}")
    skipped.append({**words_of(cell), "reason": error.problem})


def _is_cached(key: str) -> bool:
    try:
        return find_engine(key) is not None
    except CacheError:  # damaged: the build says so
        return False
