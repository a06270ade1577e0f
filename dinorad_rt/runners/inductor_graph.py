"""What Inductor does not do by itself to a program for a GPU. Imported late: it needs torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

_LINEAR = torch.ops.aten.linear.default


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
                kind = _tensor(module, weight).dtype, bias is None
                groups[(node.args[0], *kind)].append(node)
    saved = 0
    for nodes in groups.values():
        if len(nodes) > 1:
            _merge(module, nodes, f"merged_{saved}")
            saved += len(nodes) - 1
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    module.delete_all_unused_submodules()
    return saved


def _merge(module: GraphModule, nodes: list[Node], name: str) -> None:
    graph, first = module.graph, nodes[0]
    parts = [(*node.args, None)[1:3] for node in nodes]
    weights = [_tensor(module, weight) for weight, _ in parts]
    biases = [_tensor(module, bias) for _, bias in parts if bias is not None]
    with graph.inserting_before(first):
        arguments = [first.args[0], _attribute(module, f"{name}_weight", weights)]
        if biases:
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


@contextmanager
def attention_kernels(wanted: str) -> Iterator[None]:
    """Which fused attention a program gets that is compiled in the block.

    Args:
        wanted: `cudnn` (then flash, then the others where it cannot), `flash`, or `default` for
            PyTorch's own choice.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if wanted == "default":
        yield
        return
    flash, cudnn = SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION
    order = [cudnn, flash] if wanted == "cudnn" else [flash]
    rest = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel([*order, *rest], set_priority=True):
        yield
