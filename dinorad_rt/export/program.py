"""Backbone → `torch.export` program: traced once, folded, typed; what ONNX and PyTorch both run.

A program on disk (`model.pt2`) is code to PyTorch: its loader unpickles and evaluates expressions.
`load_program` refuses archives that hold more than tensors and a plain graph.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import ExportError
from dinorad_rt.files import steady_file
from dinorad_rt.types import Precision
from dinorad_rt.words import error_line

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from dinorad_rt.backbones.load import Backbone
    from dinorad_rt.export.recipe import Typing

TRACE_BATCH = 2
"""PyTorch takes 0 and 1 for special cases; a batch of 2 stands for every other."""
MAX_BATCH = 65536
_SHAPE = re.compile(
    r"(?:Symbol|Integer|Mul|Add|Pow|FloorDiv|CleanDiv|Mod|Max|Min|True|positive|nonnegative|integer"
    r"|s\d+|\d+|[()',=+*/ -])*"
)
"""Expressions of a symbolic batch; the loader evaluates them."""


def export_program(
    backbone: Backbone,
    *,
    precision: Precision = "fp32",
    dense: bool = False,
    keep_fp32: tuple[str, ...] = (),
) -> ExportedProgram:
    """Trace the embedding graph of a backbone and type it.

    Args:
        backbone: loaded by `load_backbone`; its weights are shared where they stay unchanged.
        precision: fp32, fp16, bf16 or mixed.
        dense: add the patch tokens of the last blocks.
        keep_fp32: module paths (`blocks.3`, `blocks.3.attn`) to leave in FP32.

    Raises:
        ExportError: the module cannot be traced, or a weight does not fit the type.
    """
    from dinorad_rt.export.graphs.build import traced_module
    from dinorad_rt.export.recipe import load_recipe

    recipe = load_recipe(backbone.spec.family)
    recipe.output_names(dense=dense)
    module = traced_module(backbone, recipe, dense=dense)
    typing = recipe.typing(precision, keep_fp32)
    program = trace_program(module, backbone.input_shape, typing, backbone.spec.name)
    _check_kept(program, precision, keep_fp32)
    return program


def trace_program(
    module: nn.Module, input_shape: Sequence[int], typing: Typing, name: str
) -> ExportedProgram:
    """Trace a module, fold its constants and type it.

    Args:
        module: in eval mode; takes pixel_values (batch, *input_shape), gives a tuple.
        input_shape: (3, H, W) of images, (1, D, H, W) of patches of volumes.
        typing: from `Recipe.typing`.
        name: of the model, for errors.

    Raises:
        ExportError: the module cannot be traced, or a weight does not fit the type.
    """
    import torch

    from dinorad_rt.export.constants import drop_training, fold_batch_norms, fold_constants
    from dinorad_rt.export.precision import apply_typing

    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    try:
        program = torch.export.export(
            module,
            (torch.zeros(TRACE_BATCH, *input_shape),),
            dynamic_shapes={"pixel_values": {0: batch}},
        )
    except Exception as error:  # the tracer raises whatever the model's code or a guard raises
        raise ExportError(
            f"{name} cannot be traced at {size_words(input_shape)}: {error_line(error)}",
            "Export another backbone (dinorad-rt list models), or report this one to us.",
        ) from error
    drop_training(program)
    fold_constants(program)
    fold_batch_norms(program)
    apply_typing(program, typing)
    _forget_origin(program)
    return program


def size_words(input_shape: Sequence[int]) -> str:
    """`224 px` of square images, `32 x 48 x 32` of others."""
    sides = input_shape[1:]
    if len(sides) == 2 and sides[0] == sides[1]:
        return f"{sides[0]} px"
    return " x ".join(map(str, sides))


def _check_kept(program: ExportedProgram, precision: Precision, keep_fp32: tuple[str, ...]) -> None:
    """Refuse `keep_fp32` where everything is FP32 anyway, and modules that do not exist."""
    from dinorad_rt.export.precision import scope_of
    from dinorad_rt.export.sites import site_of

    if not keep_fp32:
        return
    if precision == "fp32":
        raise ExportError(
            f"{', '.join(keep_fp32)} cannot be kept in FP32 in an FP32 graph: all of it is.",
            "Leave out --keep-fp32, or add --precision mixed.",
        )
    scopes = [scope_of(node).removeprefix("backbone.") for node in program.graph.nodes]
    unknown = [
        name
        for name in keep_fp32
        if not any(f"{scope}.".startswith(f"{name}.") for scope in scopes)
    ]
    if unknown:
        sites = dict.fromkeys(filter(None, map(site_of, scopes)))
        raise ExportError(
            f"The backbone has no {', '.join(unknown)}.", f"--keep-fp32 takes: {', '.join(sites)}"
        )


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a program without example inputs and without paths of this machine."""
    import torch

    with steady_file(path) as file:
        torch.export.save(program, file)


def load_program(path: Path) -> ExportedProgram:
    """Read a program that holds tensors and a plain graph, nothing that runs on loading.

    Raises:
        ExportError: the archive holds pickled objects, guards, or expressions of another kind.
    """
    import torch

    found = _suspicious_part(path)
    if found:
        raise ExportError(
            f"{path.name} holds {found}. PyTorch would run it on loading, so it was not loaded.",
            "Export the graph again on this machine: dinorad-rt export",
        )
    with warnings.catch_warnings():  # PyTorch 2.11 warns of its own way of reading
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.export.load(path)


def _suspicious_part(path: Path) -> str | None:
    """What in a program's archive could run code on loading, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2]
                if name.startswith("data/sample_inputs/") and entry.file_size:
                    return "pickled example inputs"
                if name.endswith("_config.json"):
                    if _has_pickle(json.loads(archive.read(entry))):
                        return "pickled tensors"
                elif name.startswith("models/"):
                    found = _suspicious_graph(json.loads(archive.read(entry)))
                    if found:
                        return found
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        return f"no readable program ({error_line(error)})"
    return None


def _has_pickle(document: Any) -> bool:
    payloads = document.get("config", {}).values()
    return any(
        payload.get("use_pickle") is not False
        or not str(payload.get("path_name", "")).startswith(("weight_", "tensor_"))
        for payload in payloads
    )


def _suspicious_graph(document: Any) -> str | None:
    if document.get("guards_code"):
        return "guards, which are code"
    pending = [document]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            expression = item.get("expr_str")
            if expression is not None and not _SHAPE.fullmatch(str(expression)):
                return f"the expression {str(expression)[:40]!r}"
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return None


def _forget_origin(program: ExportedProgram) -> None:
    """Drop example inputs and stack traces: they carry paths of this machine."""
    anonymous: Any = program  # some versions of PyTorch do not declare that None is allowed
    anonymous.example_inputs = None
    for node in program.graph.nodes:
        for key in ("stack_trace", "source_fn_stack", "from_node"):
            node.meta.pop(key, None)
