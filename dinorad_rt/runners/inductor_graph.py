"""What Inductor does not do by itself to a program for a GPU. Imported late: it needs torch."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

_LINEAR = torch.ops.aten.linear.default
_CONVOLUTION = torch.ops.aten.conv2d.default
_USUAL: dict[str, Any] = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
"""What a convolution takes after its bias, and what it means to leave it out."""
_ALIGNMENT = 8
"""Elements of FP16 or BF16 that tensor cores read at once: rows of matrices are padded to it."""


def suit_gpu(module: GraphModule) -> None:
    """Apply every rewrite of this file, in place; the function stays the same.

    Args:
        module: from `ExportedProgram.module()`: weights are attributes.
    """
    patches_as_products(module)
    merge_parallel_linears(module)


def patches_as_products(module: GraphModule) -> int:
    """Compute convolutions whose windows do not overlap as matrix products, in place.

    The patch embedding is such a one. As a product its columns are padded with zeros to a multiple
    of 8, so that tensor cores can read them (3 · 14 · 14 = 588 is none).

    Args:
        module: from `ExportedProgram.module()`.

    Returns:
        How many there were.
    """
    found = [node for node in module.graph.nodes if _is_patch_embedding(module, node)]
    for index, node in enumerate(found):
        _patches_as_product(module, node, f"patches_{index}")
    _clean(module)
    return len(found)


def _is_patch_embedding(module: GraphModule, node: Node) -> bool:
    if node.op != "call_function" or node.target is not _CONVOLUTION:
        return False
    weight = node.args[1]
    if not _is_weight(weight):
        return False
    given = {**_USUAL, **dict(zip(_USUAL, node.args[3:], strict=False)), **node.kwargs}
    window, sides = tuple(_tensor(module, weight).shape[2:]), _value(node.args[0]).shape[2:]
    whole = all(side % length == 0 for side, length in zip(sides, window, strict=True))
    plain = not any(given["padding"]) and set(given["dilation"]) == {1} and given["groups"] == 1
    return whole and plain and tuple(given["stride"]) == window and min(window) > 1


def _patches_as_product(module: GraphModule, node: Node, name: str) -> None:
    aten, graph = torch.ops.aten, module.graph
    kernel = _tensor(module, node.args[1])
    width, channels, high, wide = kernel.shape
    batch, _, height, length = _value(node.args[0]).shape
    rows, columns, inner = height // high, length // wide, channels * high * wide
    missing = -inner % _ALIGNMENT
    matrix = torch.nn.functional.pad(kernel.flatten(1), (0, missing))
    with graph.inserting_before(node):
        split = [batch, channels, rows, high, columns, wide]
        x = graph.call_function(aten.view.default, (node.args[0], split))
        x = graph.call_function(aten.permute.default, (x, [0, 2, 4, 1, 3, 5]))
        x = graph.call_function(aten.reshape.default, (x, [batch, rows * columns, inner]))
        x = graph.call_function(aten.constant_pad_nd.default, (x, [0, missing]))
        arguments: list[Any] = [x, _attribute(module, f"{name}_weight", [matrix])]
        bias = (*node.args, None, None)[2]
        if bias is not None:
            arguments.append(bias)
        x = graph.call_function(_LINEAR, tuple(arguments))
        x = graph.call_function(aten.transpose.int, (x, 1, 2))
        x = graph.call_function(aten.reshape.default, (x, [batch, width, rows, columns]))
        x.meta = dict(node.meta)
    node.replace_all_uses_with(x)


def merge_parallel_linears(module: GraphModule) -> int:
    """Compute linear layers of one input as one product, in place.

    Query, key and value are three products of `dim` columns, each too narrow to fill a large GPU;
    side by side they are one of `3 · dim`. Every column is computed as before.

    Args:
        module: from `ExportedProgram.module()`: weights are attributes.

    Returns:
        How many products were saved.
    """
    groups: dict[tuple[Any, ...], list[Node]] = defaultdict(list)
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target is _LINEAR:
            weight, bias = node.args[1], (*node.args, None)[2]
            if _is_weight(weight) and (bias is None or _is_weight(bias)):
                groups[node.args[0], _tensor(module, weight).dtype].append(node)
    saved = 0
    for nodes in groups.values():
        if len(nodes) > 1:
            _merge(module, nodes, f"merged_{saved}")
            saved += len(nodes) - 1
    _clean(module)
    return saved


def _merge(module: GraphModule, nodes: list[Node], name: str) -> None:
    graph, first = module.graph, nodes[0]
    parts = [(*node.args, None)[1:3] for node in nodes]
    weights = [_tensor(module, weight) for weight, _ in parts]
    zeros = [weight.new_zeros(len(weight)) for weight in weights]
    biases = [
        zero if bias is None else _tensor(module, bias)
        for zero, (_, bias) in zip(zeros, parts, strict=True)
    ]
    with graph.inserting_before(first):
        arguments: list[Any] = [first.args[0], _attribute(module, f"{name}_weight", weights)]
        if any(bias is not None for _, bias in parts):
            arguments.append(_attribute(module, f"{name}_bias", biases))
        whole = graph.call_function(_LINEAR, tuple(arguments))
        start = 0
        for node, weight in zip(nodes, weights, strict=True):
            end = start + len(weight)
            part = graph.call_function(torch.ops.aten.slice.Tensor, (whole, -1, start, end))
            part.meta, start = dict(node.meta), end
            node.replace_all_uses_with(part)


def _attribute(module: GraphModule, name: str, parts: list[torch.Tensor]) -> Node:
    module.register_parameter(name, nn.Parameter(torch.cat(parts), requires_grad=False))
    return module.graph.get_attr(name)


def _is_weight(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "get_attr"


def _tensor(module: GraphModule, node: Any) -> torch.Tensor:
    found: Any = module
    for name in str(node.target).split("."):
        found = getattr(found, name)
    tensor: torch.Tensor = found.detach()
    return tensor


def _value(node: Any) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"]
    return value


def _clean(module: GraphModule) -> None:
    """Drop what nothing uses any more, weights included."""
    module.graph.eliminate_dead_code()
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_parameters() if name not in used]:
        owner, _, last = name.rpartition(".")
        delattr(module.get_submodule(owner), last)
    module.graph.lint()
    module.recompile()
