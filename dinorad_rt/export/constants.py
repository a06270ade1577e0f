"""Arithmetic on weights alone is done once, in the traced program, before it is typed.

`drop_training` removes what only training needs, and writing in place.
`fold_constants` computes what depends on no input (standardised weights, gathered position biases);
`fold_batch_norms` puts a batch norm into the convolution before it. Both store the result under the
name of a weight that it replaces, so that the program's signature stays as it was.

Imported late: it needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

_BATCH_NORM = "aten.batch_norm.default"
_CONVOLUTIONS = ("aten.conv2d.default", "aten.conv2d.padding")


class Weights:
    """The tensors of a program by the placeholder that stands for them."""

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        self._state: dict[str, Any] = program.state_dict
        self._constants: dict[str, Any] = program.constants
        self._names: dict[str, str] = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and node.op == "placeholder" and node.name in self._names

    def name(self, node: Node) -> str:
        """The name of a weight, such as `blocks.0.norm1.weight`."""
        return self._names[node.name]

    def get(self, node: Node) -> torch.Tensor:
        """The tensor of a placeholder."""
        value: torch.Tensor = self._store(node)[self.name(node)].detach()
        return value

    def set(self, node: Node, value: torch.Tensor) -> None:
        """Replace the tensor of a placeholder; its shape and type may change."""
        store, name = self._store(node), self.name(node)
        parameter = isinstance(store[name], torch.nn.Parameter)
        store[name] = torch.nn.Parameter(value, requires_grad=False) if parameter else value
        mode = node.meta["val"].fake_mode
        node.meta["val"] = mode.from_tensor(value, static_shapes=True)

    def _store(self, node: Node) -> dict[str, Any]:
        return self._state if self.name(node) in self._state else self._constants


def drop_training(program: ExportedProgram) -> None:
    """Remove dropout, and replace calls that write in place by those that do not.

    The tracer has already seen to it that nobody reads a tensor from before it was overwritten.
    """
    for node in list(program.graph.nodes):
        parts = str(node.target).split(".")
        if parts[0] != "aten":
            continue
        if parts[1] in ("dropout", "dropout_", "alpha_dropout", "feature_dropout"):
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
        elif parts[1].endswith("_") and not parts[1].startswith("_"):
            packet = getattr(torch.ops.aten, parts[1][:-1], None)
            if packet is not None and parts[2] in packet.overloads():
                node.target = getattr(packet, parts[2])
    _clean(program)


def fold_constants(program: ExportedProgram) -> int:
    """Compute every result that depends on weights only and meets an input afterwards.

    Returns:
        How many results took the place of a weight.
    """
    weights = Weights(program)
    constant = _constant_nodes(program, weights)
    folded = 0
    for node in [item for item in constant if item not in weights]:
        if not isinstance(node.meta.get("val"), torch.Tensor) or all(
            user in constant for user in node.users
        ):
            continue
        home = _own_weight(node, constant, weights)
        if home is not None:
            weights.set(home, _evaluate(node, weights).contiguous().clone())
            node.replace_all_uses_with(home)
            folded += 1
    _clean(program)
    return folded


def fold_batch_norms(program: ExportedProgram) -> int:
    """Put each batch norm that directly follows a convolution into it.

    Returns:
        How many were folded.

    Source: w' = w·γ/√(σ²+ε), b' = β + (b − μ)·γ/√(σ²+ε).
    """
    weights = Weights(program)
    norms = [node for node in program.graph.nodes if str(node.target) == _BATCH_NORM]
    foldable = [node for node in norms if _is_foldable(node, weights)]
    for node in foldable:
        _fold_batch_norm(node, weights)
    _clean(program)
    return len(foldable)


def _is_foldable(norm: Node, weights: Weights) -> bool:
    """Whether the norm is the only user of a convolution, and both own their weights."""
    conv: Any = norm.args[0]
    if str(conv.target) not in _CONVOLUTIONS or len(conv.users) > 1:
        return False
    owned: list[Any] = [conv.args[1], *norm.args[1:5]]
    owned += [item for item in conv.args[2:3] if item is not None]
    return all(item in weights and len(item.users) == 1 for item in owned)


def _fold_batch_norm(norm: Node, weights: Weights) -> None:
    """The norm's bias becomes the convolution's; its other weights are no longer used."""
    operands: Any = norm.args
    conv, home = operands[0], operands[2]
    gamma, beta, mean, variance = (weights.get(item).double() for item in operands[1:5])
    scale = gamma / torch.sqrt(variance + float(operands[7]))
    kernel, bias = conv.args[1], (conv.args[2] if len(conv.args) > 2 else None)
    shift = -mean if bias is None else weights.get(bias).double() - mean
    weights.set(kernel, (weights.get(kernel).double() * scale[:, None, None, None]).float())
    weights.set(home, (beta + shift * scale).float())
    conv.args = (conv.args[0], kernel, home, *conv.args[3:])
    norm.replace_all_uses_with(conv)
    norm.graph.erase_node(norm)


def _constant_nodes(program: ExportedProgram, weights: Weights) -> dict[Node, None]:
    """Weights and the calls on nothing else, in the order of the graph."""
    constant: dict[Node, None] = {}
    for node in program.graph.nodes:
        inputs = node.all_input_nodes
        call = node.op == "call_function" and inputs and all(item in constant for item in inputs)
        if node in weights or call:
            constant[node] = None
    return constant


def _own_weight(node: Node, constant: dict[Node, None], weights: Weights) -> Node | None:
    """A weight that is used for this result alone: its name can hold the result."""
    pending, seen = [node], set()
    while pending:
        item = pending.pop()
        if item in seen:
            continue
        seen.add(item)
        if item in weights and _leads_only_to(item, node, constant):
            return item
        pending.extend(item.all_input_nodes)
    return None


def _leads_only_to(weight: Node, result: Node, constant: dict[Node, None]) -> bool:
    pending, seen = list(weight.users), set()
    while pending:
        item = pending.pop()
        if item is result or item in seen:
            continue
        if item not in constant:
            return False
        seen.add(item)
        pending.extend(item.users)
    return True


def _evaluate(node: Node, weights: Weights) -> torch.Tensor:
    known: dict[Node, Any] = {}

    def value(item: Node) -> Any:
        if item not in known:
            if item in weights:
                known[item] = weights.get(item)
            else:
                target: Any = item.target
                known[item] = target(*map_arg(item.args, value), **map_arg(item.kwargs, value))
        return known[item]

    with torch.no_grad():
        result: torch.Tensor = value(node)
    return result


def _clean(program: ExportedProgram) -> None:
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
