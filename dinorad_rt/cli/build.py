"""`dinorad-rt build`: a graph becomes an engine of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, warn

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.export.manifest import Graph


def build(
    model: options.Model = "vits14",
    weights: options.Weights = "hub",
    image_size: options.ImageSize = None,
    precision: options.PrecisionChoice = "auto",
    keep_fp32: options.KeepFp32 = None,
    calibration: options.Calibration = None,
    backend: options.Backend = "auto",
    profile: options.ProfileName = "default",
    graph: Annotated[
        Path | None, typer.Option(help="A folder written by export, instead of --model.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="GPU generations to build for, here or without a GPU: sm80,sm89,sm120."),
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
            keep_fp32=options.names(keep_fp32),
            calibration=calibration,
        )
        source = graph_for(request, say=note)
    if targets is not None:
        _build_for(source, backend, profile, (targets, out, as_json))
        return
    if refit:
        engine = _refit(source, backend, profile)
    else:
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
        "proof": _proof(engine.manifest),
        "batch": str(engine.batch),
        "key": engine.key,
    }
    print_table(key_value_table("Engine", facts))


def _build_for(
    graph: Graph, backend: str, profile: str, wanted: tuple[str, Path | None, bool]
) -> None:
    """Build for named GPU generations and show one row for each."""
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.runners.tensorrt_targets import build_for_targets

    targets, out, as_json = wanted
    built = build_for_targets(
        graph,
        load_profile(profile),
        options.names(targets),
        out,
        backend="tensorrt-rtx" if backend == "auto" else backend,
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


def _refit(graph: Graph, backend: str, profile: str) -> Engine:
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.engines.refit import refit_engine
    from dinorad_rt.errors import EngineError

    if backend == "auto":
        raise EngineError(
            "--refit works on an engine of one backend.", "Name it: --backend openvino"
        )
    return refit_engine(graph, backend=backend, profile=load_profile(profile), progress=note)


def _proof(manifest: dict[str, Any]) -> str:
    """Matrix products by precision, as the backend shows them."""
    from dinorad_rt.engines.proof import proven_products

    proof = manifest.get("proof", {})
    products = ", ".join(f"{count} x {kind}" for kind, count in proven_products(proof).items())
    what = "matrix products" if "matrix_products" in proof else "weights"
    return f"{what}: {products or 'none shown'}"
