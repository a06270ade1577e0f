"""From what the exporter writes to the graph that is shipped: constant shapes, one copy of each
weight, names that say where a node comes from, nothing about this machine.

Imported late: it needs onnx and onnxscript.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir


def simplify(model: ir.Model) -> None:
    """Clean a model in place.

    Args:
        model: from `torch.onnx.export(..., optimize=False)`; weights stay where they are in memory.
    """
    import onnx_ir.passes.common as common
    from onnxscript import optimizer

    _transpose_weights(model)
    optimizer.fold_constants(model, input_size_limit=1024, output_size_limit=4096)
    _freeze_reshapes(model)
    common.RemoveUnusedNodesPass()(model)
    _share_small_constants(model)
    _join_transposes(model)
    _drop_identities(model)
    common.RemoveUnusedNodesPass()(model)
    name_nodes(model)
    _forget_origin(model)
    common.ShapeInferencePass()(model)


def _freeze_reshapes(model: ir.Model) -> None:
    """Give every Reshape with one unknown side a constant target: 0 copies the batch, -1 infers."""
    for node in list(model.graph):
        if node.op_type != "Reshape" or node.inputs[1] is None:
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None or result.shape is None:
            continue
        target = _constant_shape(source.shape, result.shape)
        if target is not None:
            value = _initializer(model, np.array(target, np.int64), "shape")
            node.replace_input_with(1, value)
            node.attributes.pop("allowzero", None)


def _constant_shape(source: ir.Shape | None, result: ir.Shape) -> list[int] | None:
    sides = [side if isinstance(side, int) else None for side in result]
    if sides.count(None) > 1 or 0 in sides:
        return None
    if None not in sides:
        return [side for side in sides if side is not None]
    place = sides.index(None)
    same = source is not None and len(source) > place and source[place] == result[place]
    return [(0 if same else -1) if side is None else side for side in sides]


def _initializer(model: ir.Model, array: np.ndarray, prefix: str) -> ir.Value:
    """A small constant, shared by all that need the same one."""
    name = f"{prefix}.{array.dtype}.{'x'.join(map(str, array.reshape(-1).tolist()))}"
    known = model.graph.initializers.get(name)
    if known is not None:
        return known
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value


def _share_small_constants(model: ir.Model) -> None:
    """Small constants that the exporter or the folding made: equal ones become one."""
    for node in list(model.graph):
        if node.op_type == "Constant":
            tensor = ir.convenience.get_const_tensor(node.outputs[0])
            if tensor is not None:
                _share(model, node.outputs[0], tensor)
                model.graph.remove(node, safe=True)
    for name, value in list(model.graph.initializers.items()):
        if name.startswith("val_") and value.const_value is not None:
            _share(model, value, value.const_value)


def _share(model: ir.Model, value: ir.Value, tensor: Any) -> None:
    array = tensor.numpy()
    if array.size <= 8 and array.dtype in (np.int64, np.float32):
        side = "x".join(map(str, array.shape))
        shared = _initializer(model, array, f"constant.{side}" if side else "constant")
    elif value.is_initializer():
        return
    else:
        shared = ir.Value(
            name=f"constant.{value.name}",
            shape=tensor.shape,
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        model.graph.register_initializer(shared)
    ir.convenience.replace_all_uses_with(value, shared)


def _transpose_weights(model: ir.Model) -> None:
    """Store each weight in the order in which it is used; the turn is made while writing."""
    turned: dict[tuple[str, tuple[int, ...]], ir.Value] = {}
    for node in list(model.graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or not weight.is_initializer() or weight.name is None:
            continue
        order = tuple(node.attributes["perm"].as_ints())
        key = (weight.name, order)
        if key not in turned:
            only_here = all(user.op_type == "Transpose" for user, _ in weight.uses())
            name = weight.name if only_here else f"{weight.name}.transposed"
            turned[key] = _turned(model, weight, order, name)
        ir.convenience.replace_all_uses_with(node.outputs[0], turned[key])
        model.graph.remove(node, safe=True)


def _turned(model: ir.Model, weight: ir.Value, order: tuple[int, ...], name: str) -> ir.Value:
    source: Any = weight.const_value
    shape = ir.Shape([source.shape[axis] for axis in order])

    def turn() -> Any:
        return ir.Tensor(np.ascontiguousarray(source.numpy().transpose(order)), dtype=source.dtype)

    lazy = ir.LazyTensor(turn, dtype=source.dtype, shape=shape, name=name)
    if name == weight.name:
        weight.name = f"{name}.original"
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(source.dtype), const_value=lazy)
    model.graph.register_initializer(value)
    return value


def _join_transposes(model: ir.Model) -> None:
    """Two Transposes in a row become one, also with a Cast between them."""
    for node in list(model.graph):
        cast, before = None, _producer(node) if node.op_type == "Transpose" else None
        if before is not None and before.op_type == "Cast" and len(before.outputs[0].uses()) == 1:
            cast, before = before, _producer(before)
        if before is None or before.op_type != "Transpose":
            continue
        first = before.attributes["perm"].as_ints()
        second = node.attributes["perm"].as_ints()
        node.attributes["perm"] = ir.AttrInt64s("perm", [first[axis] for axis in second])
        (cast or node).replace_input_with(0, before.inputs[0])
        if cast is not None:
            cast.outputs[0].shape = None


def _producer(node: ir.Node) -> ir.Node | None:
    source = node.inputs[0]
    return None if source is None else source.producer()


def _drop_identities(model: ir.Model) -> None:
    """Nodes that give their input back: Identity, Cast to the same type, Reshape to the same."""
    outputs = set(model.graph.outputs)
    for node in list(model.graph):
        source = node.inputs[0] if node.inputs else None
        if source is None or not _is_identity(node, source):
            continue
        result = node.outputs[0]
        if result in outputs:
            if source.is_initializer() or source in model.graph.inputs or source in outputs:
                continue
            name, result.name = result.name, f"{result.name}.dropped"
            source.name = name
            _replace_output(model, result, source)
        ir.convenience.replace_all_uses_with(result, source)
        model.graph.remove(node, safe=True)


def _replace_output(model: ir.Model, old: ir.Value, new: ir.Value) -> None:
    for index, value in enumerate(model.graph.outputs):
        if value is old:
            model.graph.outputs[index] = new


def _is_identity(node: ir.Node, source: ir.Value) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Cast":
        return source.dtype is not None and source.dtype == node.attributes["to"].as_int()
    return False


def name_nodes(model: ir.Model) -> None:
    """Name nodes and values by module and operator: `blocks.3.attn.q.MatMul`.

    The last value of each block is called `blocks.3.output`, so that a bisection can name the first
    block that goes wrong.
    """
    used: Counter[str] = Counter()
    fixed = {value.name for value in (*model.graph.outputs, *model.graph.inputs)}
    for node in model.graph:
        name = _unique(f"{_scope(node)}{node.op_type}", used)
        node.name = name
        for index, value in enumerate(node.outputs):
            if value.name not in fixed:
                value.name = f"{name}.out{index or ''}"
    for block, value in _last_values(model).items():
        if value.name not in fixed:
            value.name = f"{block}.output"


def _scope(node: ir.Node) -> str:
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if not scopes:
        return ""
    path = [part for part in ast.literal_eval(scopes)[:-1] if part and not part.startswith("_")]
    return f"{path[-1]}." if path else ""


def _unique(name: str, used: Counter[str]) -> str:
    used[name] += 1
    return name if used[name] == 1 else f"{name}_{used[name]}"


def _last_values(model: ir.Model) -> dict[str, ir.Value]:
    """Per block the last value that is made in it."""
    last: dict[str, ir.Value] = {}
    for node in model.graph:
        parts = str(node.name).split(".")
        if "blocks" in parts[:-2]:
            place = parts.index("blocks") + 2
            block = ".".join(parts[:place])
            if len(parts) > place:
                last[block] = node.outputs[0]
    return last


def _forget_origin(model: ir.Model) -> None:
    """Drop stack traces and the like: they carry paths of this machine."""
    clear: Callable[[Any], None] = lambda item: item.metadata_props.clear()  # noqa: E731
    for node in model.graph:
        clear(node)
        node.doc_string = None
        for value in node.outputs:
            clear(value)
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        clear(value)
    clear(model)
    clear(model.graph)
    model.doc_string = None
    model.graph.doc_string = None
