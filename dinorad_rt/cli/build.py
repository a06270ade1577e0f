"""`dinorad-rt build`: a graph becomes an engine of this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, warn
from dinorad_rt.cli.groups import (
    EngineOptions,
    GraphOptions,
    ModelOptions,
    check_engine,
    engine_request,
    grouped,
)

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.export.manifest import Graph


@grouped
def build(
    *,
    model: ModelOptions,
    numbers: GraphOptions,
    engine: EngineOptions,
    graph: Annotated[
        Path | None, typer.Option(help="A folder written by export, instead of --model.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="GPU generations to build for, here or without a GPU: sm80,sm89,sm120.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --targets: folder for one engine per target.")
    ] = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Put these weights into a cached engine of the same architecture: no build.",
        ),
    ] = False,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Build an engine behind the parity gate, or say which cached one fits.

    An engine belongs to this machine: its backend's version, its processor or GPU, and its graph
    are part of its key. Another machine builds its own from the same graph.
    """
    from dinorad_rt.pipeline import build_engine, graph_for

    if targets is None:
        check_engine(engine)
    elif engine.backend == "auto":
        engine = replace(engine, backend="tensorrt-rtx")
    if graph is not None:
        from dinorad_rt.export.manifest import Graph

        source = Graph.open(graph)
    else:
        source = graph_for(engine_request(model, numbers, engine, seed=seed), say=note)
    if targets is not None:
        _build_for(source, engine, (targets, out, as_json))
        return
    if refit:
        built = _refit(source, engine)
    else:
        built = build_engine(source, backend=engine.backend, profile=engine.profile, say=note)
    if source.weights_kind == "random":
        warn("weights: random. This engine is for tests; its embeddings mean nothing.")
    if as_json:
        print_json(built.manifest)
        return
    from dinorad_rt.reports.table import key_value_table, print_table

    facts = {
        "engine": str(built.folder),
        "backend": f"{built.backend} {built.manifest.get('backend_version', '')}".strip(),
        "model": built.model,
        "precision": built.precision,
        "proof": _proof(built.manifest),
        "batch": str(built.batch),
        "key": built.key,
    }
    print_table(key_value_table("Engine", facts))


def _build_for(graph: Graph, engine: EngineOptions, wanted: tuple[str, Path | None, bool]) -> None:
    """Build for named GPU generations and show one row for each."""
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.runners.tensorrt_targets import build_for_targets

    targets, out, as_json = wanted
    built = build_for_targets(
        graph,
        load_profile(engine.profile),
        options.names(targets),
        out,
        backend=engine.backend,
        progress=note,
    )
    if as_json:
        print_json({"engines": [entry.engine.manifest for entry in built]})
        return
    from dinorad_rt.reports.table import print_table, rows_table

    rows = [
        {
            "target": entry.target,
            "MB": f"{entry.engine.bytes_on_disk / 1e6:.1f}",
            "seconds": f"{entry.engine.manifest.get('build_seconds', 0):.1f}",
            "proof": _proof(entry.engine.manifest),
            "key": entry.engine.key[:16],
        }
        for entry in built
    ]
    print_table(rows_table(f"{graph.model}, {graph.precision}", rows))


def _refit(graph: Graph, engine: EngineOptions) -> Engine:
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.engines.refit import refit_engine
    from dinorad_rt.errors import EngineError

    if engine.backend == "auto":
        raise EngineError(
            "--refit works on an engine of one backend.", "Name it: --backend openvino"
        )
    profile = load_profile(engine.profile)
    return refit_engine(graph, backend=engine.backend, profile=profile, progress=note)


def _proof(manifest: dict[str, Any]) -> str:
    """Matrix products by precision, as the backend shows them."""
    from dinorad_rt.engines.proof import proven_products

    proof = manifest.get("proof", {})
    products = ", ".join(f"{count} x {kind}" for kind, count in proven_products(proof).items())
    what = "matrix products" if "matrix_products" in proof else "weights"
    return f"{what}: {products or 'none shown'}"
