"""Which block is to blame when an engine is not its graph.

The backend builds a second engine from the same graph with the value of each block among its
outputs; the first block that leaves the limits is named. More outputs can change what a backend
fuses: if no block leaves the limits then, that is said.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.manifest import FORMAT, Engine
from dinorad_rt.engines.reference import probe_images
from dinorad_rt.errors import DinoradError
from dinorad_rt.export.recipe import load_recipe

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.export.sites import Located, Sites
    from dinorad_rt.runners.base import Backend, Plan

PROGRAM_BACKENDS = ("pytorch", "inductor")
"""They run the graph's program, not its ONNX file."""


def locate_in_engine(graph: Graph, backend: Backend, plan: Plan) -> Located | None:
    """The first block of an engine that leaves the limits of its graph.

    Returns:
        None where the backend refuses a graph with more outputs.
    """
    from dinorad_rt.export.sites import first_difference, onnx_sites

    recipe = load_recipe(str(graph.manifest["recipe"]["family"]))
    images = probe_images(graph.input_shape)[: recipe.images]
    wanted = onnx_sites(graph.path, images, typed=graph.precision not in ("fp32", "int8"))
    try:
        found = _engine_sites(graph, backend, plan, wanted, images)
    except DinoradError:
        return None
    limit = recipe.build_limits(graph.precision).relative_l2
    return first_difference(wanted, found, limit, f"the {plan.backend} engine")


def _engine_sites(
    graph: Graph, backend: Backend, plan: Plan, wanted: Sites, images: np.ndarray
) -> Sites:
    with tempfile.TemporaryDirectory(prefix="dinorad-rt-") as root:
        tapped, engine_folder = Path(root) / "graph", Path(root) / "engine"
        tapped.mkdir()
        engine_folder.mkdir()
        names = _tap(graph, tapped, by_program=plan.backend in PROGRAM_BACKENDS)
        outputs = graph.manifest["outputs"] | {
            name: list(wanted[site].shape[1:]) for name, site in names.items() if site in wanted
        }
        more = replace(graph, folder=tapped, manifest=graph.manifest | {"outputs": outputs})
        backend.build(more, plan, engine_folder)
        engine = _engine(more, plan, engine_folder)
        with backend.load(engine) as runner:
            rows = runner.infer(images)
    return {site: rows[name] for name, site in names.items() if name in rows}


def _tap(graph: Graph, folder: Path, *, by_program: bool) -> dict[str, str]:
    """Write the graph with more outputs; output name → site."""
    from dinorad_rt.export.sites import TAP, tap_onnx

    if by_program:
        from dinorad_rt.export.program import load_program, save_program
        from dinorad_rt.export.sites import tap_program

        program = load_program(graph.program_path)
        names = tap_program(program)
        save_program(program, folder / graph.program_path.name)
    else:
        names = tap_onnx(graph.path, folder / graph.path.name, typed=False)
    return {name: name.removeprefix(TAP) for name in names}


def _engine(graph: Graph, plan: Plan, folder: Path) -> Engine:
    files = {path.name: {"sha256": "", "bytes": path.stat().st_size} for path in folder.iterdir()}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "key": "bisection",
        "backend": plan.backend,
        "backend_version": plan.version,
        "precision": plan.precision,
        "batch": plan.batch,
        "input_shape": list(graph.input_shape),
        "outputs": {name: list(shape) for name, shape in graph.outputs.items()},
        "graph_sha256": graph.sha256,
        "model": graph.model,
        "weights": {},
        "weights_kind": graph.weights_kind,
        "settings": dict(plan.settings),
        "device": dict(plan.device),
        "files": files,
    }
    return Engine(folder, manifest)
