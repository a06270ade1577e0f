"""How much arithmetic one image costs, counted in the graph itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dinorad_rt.errors import ExportError

if TYPE_CHECKING:
    import onnx

Shape = list[int]


def multiply_adds(model: Path) -> int:
    """Multiply-adds of one image: matrix products and convolutions, nothing else.

    Element-wise work is left out, as in the published GMAC figures. FLOP = 2 × this.

    Args:
        model: an ONNX file with a batch axis of unknown length.

    Raises:
        ExportError: a matrix product or convolution has an unknown shape.
    """
    import onnx

    graph = _with_batch_of_one(onnx.load(str(model), load_external_data=False)).graph
    shapes = _shapes(graph)
    return sum(
        _of_node(node, shapes) for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")
    )


def _with_batch_of_one(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import shape_inference

    names = set()
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                names.add(dim.dim_param)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_value = 1
    return shape_inference.infer_shapes(model, data_prop=True)


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value.name] = [dim.dim_value for dim in tensor.shape.dim]
    return shapes


def _of_node(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int:
    try:
        known: Sequence[Shape] = [shapes[name] for name in (*node.input[:2], node.output[0])]
    except KeyError as missing:
        raise ExportError(
            f"The shape of {missing} in {node.op_type} {node.name} is unknown.",
            "Export the graph again with this version.",
        ) from missing
    left, right, out = known
    if node.op_type == "Conv":  # weights: (out channels, in channels per group, *kernel)
        return math.prod(out) * math.prod(right[1:])
    inner = left[-1]
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        inner = left[0] if transposed else left[1]
    return math.prod(out) * inner
