"""`dinorad-rt build`: a graph becomes an engine of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, warn


def build(
    model: options.Model = "vits14",
    weights: options.Weights = "hub",
    image_size: options.ImageSize = None,
    precision: options.PrecisionChoice = "auto",
    backend: options.Backend = "auto",
    profile: options.ProfileName = "default",
    graph: Annotated[
        Path | None, typer.Option(help="A folder written by export, instead of --model.")
    ] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Build an engine behind the parity gate, or say which cached one fits.

    An engine belongs to this machine: its backend's version, its processor or GPU, and its graph
    are part of its key. Another machine builds its own from the same graph.
    """
    from dinorad_rt.pipeline import EngineRequest, build_engine, graph_for

    if graph is not None:
        from dinorad_rt.export.manifest import Graph

        source = Graph.open(graph)
    else:
        request = EngineRequest(
            model=model,
            weights=weights,
            image_size=image_size,
            precision=precision,
            backend=backend,
            seed=seed,
        )
        source = graph_for(request, say=note)
    engine = build_engine(source, backend=backend, profile=profile, say=note)
    if source.weights_kind == "random":
        warn("weights: random. This engine is for tests; its embeddings mean nothing.")
    if as_json:
        print_json(engine.manifest)
        return
    from dinorad_rt.reports.table import key_value_table, print_table

    facts = {
        "engine": str(engine.folder),
        "backend": f"{engine.backend} {engine.manifest.get('backend_version', '')}".strip(),
        "model": engine.model,
        "precision": engine.precision,
        "batch": str(engine.batch),
        "key": engine.key,
    }
    print_table(key_value_table("Engine", facts))
