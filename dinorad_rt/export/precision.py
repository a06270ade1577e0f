"""Precision written into a traced program, as its recipe says.

Matrix products and what lies between them become FP16 or BF16; normalisation, softmax, products
with weights (LayerScale, rotary tables), residual sums and pooling stay in FP32 where the recipe
keeps them. Casts stand in the graph, so every backend sees the same types, and PyTorch runs them
too. Imported late: it needs torch.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from dinorad_rt.errors import ExportError
from dinorad_rt.export.constants import Weights
from dinorad_rt.export.recipe import Typing

TORCH_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_ATTENTION = "scaled_dot_product_attention"
_CONVOLUTIONS = {f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)}
_MATRIX = {"linear", "matmul", "bmm", "mm", "addmm", "baddbmm", _ATTENTION} | _CONVOLUTIONS
_ROLES = {
    "normalisation": {"layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm"},
    "softmax": {"softmax"},
    "pooling": {"mean", "adaptive_avg_pool2d"},
}
_SUMS = {"add", "sub"}


def apply_typing(program: ExportedProgram, typing: Typing) -> None:
    """Type a program in place.

    Args:
        program: traced in FP32.
        typing: from `Recipe.typing`; nothing happens for FP32.

    Raises:
        ExportError: a weight is too large for the type.
    """
    if typing.low is None:
        return
    _Typist(program, typing).run()


def operator_name(node: Node) -> str:
    """`linear` for `aten.linear.default`; empty for what is no ATen call."""
    parts = str(node.target).split(".")
    return parts[1].strip("_") if parts[0] == "aten" and len(parts) > 1 else ""


def scope_of(node: Node) -> str:
    """Path of the module that a node came from, such as `blocks.3.attn.q`; may be empty."""
    stack = node.meta.get("nn_module_stack") or {}
    last = next(reversed(stack.values()), ("", ""))
    return str(last[0])


class _Typist:
    def __init__(self, program: ExportedProgram, typing: Typing) -> None:
        assert typing.low is not None
        self.program = program
        self.typing = typing
        self.low = TORCH_TYPES[typing.low]
        self.weights = Weights(program)
        self.casts: dict[tuple[Node, torch.dtype], Node] = {}

    def run(self) -> None:
        graph = self.program.graph
        for node in list(graph.nodes):
            if node.op == "call_function":
                wanted = self._type_of(node)
                if wanted is not None:
                    self._cast_inputs(node, wanted)
                self._refresh(node)
            elif node.op == "output":
                self._cast_outputs(node)
        self._convert_weights()
        graph.eliminate_dead_code()
        graph.lint()
        self.program.graph_module.recompile()

    def _type_of(self, node: Node) -> torch.dtype | None:
        """The type that a call wants its floating inputs in; None if any will do."""
        name, keep = operator_name(node), self.typing.fp32_roles
        types = {item.meta["val"].dtype for item in self._floating(node)}
        if name in _MATRIX:
            return torch.float32 if self._stays_fp32(node, name) else self.low
        for role, names in _ROLES.items():
            if name in names:
                return torch.float32 if role in keep else None
        if len(types) < 2:
            return None
        weighted = name == "mul" and any(item in self.weights for item in node.all_input_nodes)
        role = "layer_scale" if weighted else "residual"
        return torch.float32 if role in keep else self.low

    def _stays_fp32(self, node: Node, name: str) -> bool:
        if name == _ATTENTION and "attention" in self.typing.fp32_operators:
            return True
        path = f"{scope_of(node)}."
        return any(path.startswith(f"{scope}.") for scope in self._scopes())

    def _scopes(self) -> tuple[str, ...]:
        return tuple(
            name for scope in self.typing.fp32_scopes for name in (scope, f"backbone.{scope}")
        )

    def _floating(self, node: Node) -> list[Node]:
        values = [(item, item.meta.get("val")) for item in node.all_input_nodes]
        return [
            item for item, value in values if isinstance(value, torch.Tensor) and _is_float(value)
        ]

    def _cast_inputs(self, node: Node, wanted: torch.dtype) -> None:
        wrong = {item for item in self._floating(node) if item.meta["val"].dtype != wanted}
        if wrong:
            node.args = map_arg(node.args, lambda n: self._cast(n, wanted, node, wrong))
            node.kwargs = map_arg(node.kwargs, lambda n: self._cast(n, wanted, node, wrong))

    def _cast_outputs(self, node: Node) -> None:
        """Outputs are FP32; the program's signature follows those that are cast."""
        before: Any = node.args[0]
        self._cast_inputs(node, torch.float32)
        after: Any = node.args[0]
        whole: Any = self.program.module_call_graph[0].signature
        for old, new in zip(before, after, strict=True):
            if old is not new:
                self.program.graph_signature.replace_all_uses(old.name, new.name)
                for argument in whole.outputs:
                    if argument.name == old.name:
                        argument.name = new.name

    def _cast(self, item: Node, wanted: torch.dtype, user: Node, wrong: set[Node]) -> Node:
        if item not in wrong:
            return item
        known = self.casts.get((item, wanted))
        if known is not None:
            return known
        graph = self.program.graph
        with graph.inserting_before(user):
            cast: Node = graph.call_function(
                torch.ops.aten._to_copy.default, (item,), {"dtype": wanted}
            )
        source = user if item.op == "placeholder" or user.op == "output" else item
        cast.meta = {k: v for k, v in source.meta.items() if k in ("nn_module_stack", "torch_fn")}
        cast.meta["val"] = item.meta["val"].to(wanted)
        self.casts[item, wanted] = cast
        return cast

    def _refresh(self, node: Node) -> None:
        """Types of a call's results follow from its inputs; found by a run on sizes alone.

        A run on the traced (symbolic) values would fix the batch to the example's.
        """
        if node.target is operator.getitem:
            source: Any = node.args[0]
            node.meta["val"] = source.meta["val"][node.args[1]]
            return
        floats = self._floating(node)
        if all(item.meta["val"].dtype == torch.float32 for item in floats):
            return
        target: Any = node.target
        with torch.no_grad():
            found = target(*map_arg(node.args, _on_meta), **map_arg(node.kwargs, _on_meta))
        node.meta["val"] = _with_types(node.meta["val"], found)

    def _convert_weights(self) -> None:
        """A weight that is only used in the lower type is stored in it; its casts go."""
        for (item, wanted), cast in self.casts.items():
            if item not in self.weights or set(item.users) != {cast}:
                continue
            value = self.weights.get(item)
            converted = value.to(wanted)
            if bool(torch.isfinite(value).all()) and not bool(torch.isfinite(converted).all()):
                raise ExportError(
                    f"The weight {self.weights.name(item)} reaches {float(value.abs().max()):.3g}, "
                    f"more than {wanted} can hold.",
                    "Use --precision bf16 or fp32.",
                )
            self.weights.set(item, converted)
            cast.replace_all_uses_with(item)


def _is_float(value: torch.Tensor) -> bool:
    return value.dtype in (torch.float32, torch.float16, torch.bfloat16)


def _on_meta(node: Node) -> Any:
    """A stand-in for a node's value: its sizes with the example's batch, no data."""
    value = node.meta["val"]
    if isinstance(value, torch.Tensor):
        sizes = [_hint(size) for size in value.shape]
        return torch.empty(sizes, dtype=value.dtype, device="meta")
    if isinstance(value, (tuple, list)):
        raise TypeError(f"{node.name} has several results and is used as one")
    return _hint(value)


def _hint(size: Any) -> Any:
    return size.node.hint if isinstance(size, torch.SymInt) else size


def _with_types(value: Any, found: Any) -> Any:
    """The traced value in the types of `found`."""
    if isinstance(value, torch.Tensor):
        return value.to(found.dtype)
    if isinstance(value, (tuple, list)):
        return type(value)(_with_types(*pair) for pair in zip(value, found, strict=True))
    return value
