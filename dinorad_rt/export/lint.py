"""Rules that a graph must keep so that every backend runs it well; read from its recipe.

Imported late: it needs onnx_ir.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from dinorad_rt.errors import LintError
from dinorad_rt.export.recipe import Recipe, Typing

LEAST_OPSET = 20
_MATRIX = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_BETWEEN = ("Cast", "Add")
_LOW = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_ROLES = {
    "normalisation": (
        "LayerNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "BatchNormalization",
        "RMSNormalization",
    ),
    "softmax": ("Softmax",),
    "pooling": ("ReduceMean", "GlobalAveragePool"),
}
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def lint_graph(
    model: ir.Model,
    recipe: Recipe,
    typing: Typing,
    *,
    outputs: Iterable[str],
    weights: int,
) -> dict[str, Any]:
    """Check a graph against its recipe.

    Args:
        model: with shapes and types of every value.
        recipe: of the family.
        typing: of the precision that was asked for.
        outputs: expected names in their order.
        weights: elements in the program's weights; the graph may hold no more.

    Returns:
        Facts for the manifest: `operators`, `matrix_products` (type → count), `weights`.

    Raises:
        LintError: with every broken rule.
    """
    faults = [
        *_interface_faults(model, list(outputs)),
        *_operator_faults(model, recipe),
        *_weight_faults(model, weights),
        *(_attention_faults(model) if recipe.attention else ()),
        *_type_faults(model, typing),
    ]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults[:20])
        more = f"\n  and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise LintError(
            f"The exported graph breaks {len(faults)} rule(s) of export/{recipe.family}.toml:\n"
            f"{listed}{more}",
            "Nothing was written. Report this backbone to us, or register it under 'cnn'.",
        )
    operators = Counter(node.op_type for node in model.graph)
    return {
        "operators": dict(sorted(operators.items())),
        "matrix_products": {kind.name: n for kind, n in _matrix_types(model).items()},
        "weights": sum(_size(value) for value in model.graph.initializers.values()),
    }


def _interface_faults(model: ir.Model, names: list[str]) -> list[str]:
    faults = []
    opset = model.opset_imports.get("", 0)
    if opset < LEAST_OPSET:
        faults.append(f"opset {opset}, must be at least {LEAST_OPSET}")
    others = set(model.opset_imports) - {""}
    if others and any(node.domain for node in model.graph):
        faults.append(f"operators of other domains: {', '.join(sorted(others))}")
    if [value.name for value in model.graph.inputs] != ["pixel_values"]:
        faults.append(f"inputs {[value.name for value in model.graph.inputs]}")
    if [value.name for value in model.graph.outputs] != names:
        faults.append(f"outputs {[value.name for value in model.graph.outputs]}, not {names}")
    for value in (*model.graph.inputs, *model.graph.outputs):
        sides = list(value.shape) if value.shape is not None else []
        symbolic = bool(sides) and not isinstance(sides[0], int)
        if not symbolic or not all(isinstance(side, int) for side in sides[1:]):
            faults.append(f"{value.name} has the shape {value.shape}; only the batch may vary")
        if value.dtype != ir.DataType.FLOAT:
            faults.append(f"{value.name} is {value.dtype}, not FLOAT")
    return faults


def _operator_faults(model: ir.Model, recipe: Recipe) -> list[str]:
    counts = Counter(node.op_type for node in model.graph)
    faults = [f"{counts[name]} x {name}, none allowed" for name in recipe.forbidden if counts[name]]
    faults += [
        f"{counts[name]} x {name}, at most {most} allowed"
        for name, most in recipe.at_most.items()
        if counts[name] > most
    ]
    for node in model.graph:
        target = node.inputs[1] if node.op_type == "Reshape" else None
        if target is not None and target.const_value is None:
            faults.append(f"{node.name}: its target shape is computed, not constant")
    return faults


def _is_one_value(value: ir.Value) -> bool:
    """True for short vectors that repeat one number: a zero bias that a translation adds (one per
    convolution with standardised weights) is no copy of anything."""
    tensor = value.const_value
    if tensor is None or len(tensor.shape) != 1 or not 1 < _size(value) <= 8192:
        return False
    numbers = tensor.numpy()
    return bool((numbers == numbers[0]).all())


def _weight_faults(model: ir.Model, weights: int) -> list[str]:
    """One copy of each weight, stored as it is used."""
    faults = []
    held = sum(
        _size(value) for value in model.graph.initializers.values() if not _is_one_value(value)
    )
    allowance = 4096 + weights // 1000
    if held > weights + allowance:
        faults.append(f"{held} elements of weights for {weights} in the model: copies")
    for node in model.graph:
        source = node.inputs[0] if node.op_type in ("Transpose", "Cast") else None
        if source is not None and source.is_initializer() and _size(source) > 4096:
            faults.append(f"{node.name}: {node.op_type} of a weight, to be stored that way")
    return faults


def _attention_faults(model: ir.Model) -> list[str]:
    """MatMul, Softmax, MatMul with at most casts and an additive bias between."""
    faults = []
    for node in model.graph:
        if node.op_type != "Softmax":
            continue
        before = _skip_back(node.inputs[0])
        after = {_skip_forward(user).op_type for user, _ in node.outputs[0].uses()}
        if before != "MatMul" or after != {"MatMul"}:
            faults.append(f"{node.name} stands between {before} and {', '.join(sorted(after))}")
    return faults


def _skip_back(value: ir.Value | None) -> str:
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in _BETWEEN:
        sources = [item for item in node.inputs if item is not None and item.producer()]
        if not sources:
            return node.op_type
        node = sources[0].producer()
    return node.op_type if node is not None else "nothing"


def _skip_forward(node: ir.Node) -> ir.Node:
    while node.op_type == "Cast":
        users = [user for user, _ in node.outputs[0].uses()]
        if len(users) != 1:
            return node
        node = users[0]
    return node


def _type_faults(model: ir.Model, typing: Typing) -> list[str]:
    """The types that stand in the graph are the ones that were asked for."""
    faults = []
    wanted = ir.DataType.FLOAT if typing.low is None else _LOW[typing.low]
    allowed = {wanted, ir.DataType.FLOAT}
    for node in model.graph:
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.dtype in _FLOATS and value.dtype not in allowed:
                faults.append(f"{node.name} works in {value.dtype}")
    found = _matrix_types(model)
    may_keep = bool(typing.fp32_scopes or typing.fp32_operators)
    if found.get(wanted, 0) == 0 or (not may_keep and set(found) != {wanted}):
        types = {kind.name: count for kind, count in found.items()}
        faults.append(f"matrix products are {types}, not all {wanted.name}")
    for role in typing.fp32_roles & _ROLES.keys():
        for node in model.graph:
            kind = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
            if node.op_type in _ROLES[role] and kind != ir.DataType.FLOAT:
                faults.append(f"{node.name} works in {kind}, the recipe keeps {role} in FP32")
    return faults


def _matrix_types(model: ir.Model) -> dict[ir.DataType, int]:
    kinds = [
        node.inputs[0].dtype
        for node in model.graph
        if node.op_type in _MATRIX and node.inputs[0] is not None
    ]
    return dict(Counter(kind for kind in kinds if kind is not None))


def matrix_nodes(graph: Any) -> list[str]:
    """Names of the matrix products of an ONNX graph (protobuf)."""
    return [node.name for node in graph.node if node.op_type in _MATRIX]


def _size(value: ir.Value) -> int:
    size = 1
    for side in value.shape or ():
        size *= side if isinstance(side, int) else 1
    return size
