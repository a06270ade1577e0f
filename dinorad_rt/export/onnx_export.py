"""`export_onnx`: backbone → linted ONNX graph that passed parity, in a folder of its own."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import ExportError, NoSpaceError, OutputExistsError
from dinorad_rt.export.manifest import FORMAT, MANIFEST, MODEL, PROGRAM, Graph, write_manifest
from dinorad_rt.export.recipe import Recipe, Typing, load_recipe
from dinorad_rt.files import atomic_folder, claimed_dir, held_lock, sha256_json
from dinorad_rt.optional import version_of
from dinorad_rt.paths import cache_dir
from dinorad_rt.progress import Say, silent
from dinorad_rt.types import Precision

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch.export import ExportedProgram

    from dinorad_rt.backbones.load import Backbone

KIND = "graphs"
GRAPH_VERSION = 2
"""Raised whenever the same request gives another graph than before; part of every key."""
INLINE_LIMIT = 256 * 2**20
"""Weights above this many bytes lie in model.onnx.data; protobuf itself ends at 2 GiB."""


def export_onnx(
    backbone: Backbone,
    *,
    precision: Precision = "fp32",
    dense: bool = False,
    out: Path | None = None,
    keep_fp32: Sequence[str] = (),
    progress: Say | None = None,
) -> Graph:
    """Export a backbone: traced by its recipe, linted, and compared with PyTorch.

    The files get their names only after parity passed. The same request is answered from disk.

    Args:
        backbone: loaded by `load_backbone`.
        precision: written into the graph; `mixed` keeps in FP32 what the recipe names.
        dense: add the patch tokens of the last blocks to the outputs.
        out: an empty or new folder; None for the cache.
        keep_fp32: module paths (`blocks.3.attn`) that a typed graph leaves in FP32.
        progress: told of each step.

    Raises:
        ExportError: the backbone cannot be traced or written.
        LintError: the graph breaks a rule of its recipe.
        ParityError: its numbers are not the backbone's.
        OutputExistsError, NoSpaceError: it cannot be stored at `out`.
    """
    say = progress or silent
    recipe = load_recipe(backbone.spec.family)
    recipe.output_names(dense=dense)
    facts = _request_facts(backbone, recipe, precision, dense=dense, keep_fp32=tuple(keep_fp32))
    key = sha256_json(facts)
    if out is not None:
        return _export_to(Path(out), backbone, recipe, {**facts, "key": key}, say)
    folder = cache_dir(KIND) / key
    with graph_lock(key, say):
        found = cached_graph(key)
        if found is not None:
            say(f"graph of {backbone.spec.name} ({precision}) from the cache")
            return found
        shutil.rmtree(folder, ignore_errors=True)  # damaged: no engine may be built from it
        return _export(folder, backbone, recipe, {**facts, "key": key}, say)


def _export_to(
    out: Path, backbone: Backbone, recipe: Recipe, facts: dict[str, Any], say: Say
) -> Graph:
    with claimed_graph_folder(out, str(facts["key"])) as found:
        if found is None:
            return _export(out, backbone, recipe, facts, say)
        say(f"{out} already holds this graph")
        return found


@contextmanager
def claimed_graph_folder(out: Path, key: str) -> Iterator[Graph | None]:
    """Hold a folder of the user's for one graph; gives the graph of the key if it is there.

    Raises:
        OutputExistsError: it holds something else, or another process writes into it.
    """
    with claimed_dir(out, MANIFEST):
        found = reusable(out, key)
        if found is None and (out / MANIFEST).exists():
            raise OutputExistsError(
                f"{out} holds another graph, or one that was changed.",
                "Choose a new folder with --out, or remove this one.",
            )
        yield found


def reusable(folder: Path, key: str) -> Graph | None:
    """The graph of a key in a folder, or None if it is not there or was changed."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        graph = Graph.open(folder)
    except ExportError:
        return None
    return graph if graph.key == key else None


def cached_graph(key: str) -> Graph | None:
    """The graph of a key in the cache, or None; the cache notes that it was used."""
    from dinorad_rt.engines.inventory import touch

    found = reusable(cache_dir(KIND) / key, key)
    if found is not None:
        touch(found.folder / MANIFEST)
    return found


def _export(
    folder: Path, backbone: Backbone, recipe: Recipe, facts: dict[str, Any], say: Say
) -> Graph:
    """Trace, type, write, lint and compare; the folder appears when all is done."""
    from dinorad_rt.export.parity import check_graph
    from dinorad_rt.export.program import export_program, save_program

    precision, dense = facts["precision"], facts["dense"]
    _check_space(folder, backbone)
    say(f"tracing {backbone.spec.name} at {backbone.image_size} px ({precision})")
    program = export_program(
        backbone, precision=precision, dense=dense, keep_fp32=tuple(facts["keep_fp32"])
    )
    with atomic_folder(folder, MANIFEST) as part:
        say("writing the graph")
        names = recipe.output_names(dense=dense)
        typing = recipe.typing(precision, tuple(facts["keep_fp32"]))
        lint = write_onnx(program, part / MODEL, recipe, typing, names)
        save_program(program, part / PROGRAM)
        parity = check_graph(
            backbone, recipe, program, part / MODEL, precision=precision, dense=dense, say=say
        )
        write_manifest(
            part,
            {
                **facts,
                **_result_facts(backbone, program, names),
                "opset": recipe.opset,
                "lint": lint,
                "parity": parity,
            },
        )
    say(f"parity passed: {folder.name[:12] if folder.parent.name == KIND else folder}")
    return Graph.open(folder, verify=False)


def write_onnx(
    program: ExportedProgram,
    path: Path,
    recipe: Recipe,
    typing: Typing,
    names: Sequence[str],
) -> dict[str, Any]:
    """Translate a program, clean it, check it against its recipe and write it.

    Returns:
        What `lint_graph` found.

    Raises:
        ExportError: a call has no ONNX form.
        LintError: the graph breaks a rule.
    """
    from dinorad_rt.export.lint import lint_graph
    from dinorad_rt.export.simplify import simplify

    model = _translate(program, recipe, typing, names)
    simplify(model)
    weights = sum(tensor.numel() for tensor in program.state_dict.values())
    weights += sum(tensor.numel() for tensor in program.constants.values())
    lint = lint_graph(model, recipe, typing, outputs=names, weights=weights)
    _save(model, path)
    return lint


def _translate(
    program: ExportedProgram, recipe: Recipe, typing: Typing, names: Sequence[str]
) -> ir.Model:
    import torch

    from dinorad_rt.export.translate import translations

    table = translations(softmax_fp32="softmax" in typing.fp32_roles)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=recipe.opset,
                input_names=["pixel_values"],
                output_names=list(names),
                dynamic_shapes={"pixel_values": {0: "batch"}},
                custom_translation_table=table,
            )
    except Exception as error:  # the exporter wraps what it meets in several classes of its own
        cause = error.__cause__ or error
        raise ExportError(
            f"PyTorch cannot translate the graph to ONNX: {type(cause).__name__}: "
            f"{str(cause).strip()[:400]}",
            "Export another backbone (dinorad-rt list models), or report this one to us.",
        ) from error
    assert exported is not None
    model: ir.Model = exported.model
    return model


def _save(model: ir.Model, path: Path) -> None:
    import onnx_ir as ir

    model.producer_name, model.producer_version = "dinorad-rt", None
    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    if size <= INLINE_LIMIT:
        ir.save(model, path)
    else:
        ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=1024)


def _request_facts(
    backbone: Backbone,
    recipe: Recipe,
    precision: Precision,
    *,
    dense: bool,
    keep_fp32: tuple[str, ...],
) -> dict[str, Any]:
    """Everything that decides a graph, in plain values: the content of its key."""
    spec, weights = backbone.spec, backbone.weights
    return {
        "format": FORMAT,
        "graph_version": GRAPH_VERSION,
        "model": spec.name,
        "architecture": spec.architecture,
        "create": dict(spec.create),
        "family": spec.family,
        "position": spec.position,
        "weights": {
            "kind": weights.kind,
            "sha256": weights.sha256,
            "source": weights.source,
            "licence": weights.licence,
        },
        "weights_kind": weights.kind,
        "image_size": backbone.image_size,
        "mean": list(spec.mean),
        "std": list(spec.std),
        **({} if weights.normalisation is None else {"normalisation": weights.normalisation}),
        "precision": precision,
        "dense": dense,
        "keep_fp32": list(keep_fp32),
        "recipe": {"family": recipe.family, "sha256": recipe.digest},
        "versions": {name: version_of(name) for name in ("torch", "timm", "onnx", "onnxscript")},
    }


def _result_facts(
    backbone: Backbone, program: ExportedProgram, names: Sequence[str]
) -> dict[str, Any]:
    output = next(node for node in program.graph.nodes if node.op == "output")
    shapes = [[int(side) for side in node.meta["val"].shape[1:]] for node in output.args[0]]
    return {
        "input_shape": list(backbone.input_shape),
        "outputs": dict(zip(names, shapes, strict=True)),
        "weights_notes": list(backbone.weights.notes),
    }


def _check_space(folder: Path, backbone: Backbone) -> None:
    """Program and graph each hold the weights once."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    weights = sum(p.numel() for p in backbone.module.parameters()) * 4
    needed, free = 2 * weights + 2**24, shutil.disk_usage(existing).free
    if free < needed:
        raise NoSpaceError(
            f"Exporting {backbone.spec.name} takes {needed / 1e9:.1f} GB in {folder}; "
            f"{free / 1e9:.1f} GB are free.",
            "Free some space, or choose another place with --out or DINORAD_RT_CACHE.",
        )


def graph_lock(key: str, say: Say) -> AbstractContextManager[None]:
    """One process per graph: who comes second waits, then finds it exported."""
    told = "another process is exporting this graph; waiting for it"
    return held_lock(cache_dir(KIND) / f"{key}.lock", lambda: say(told))
