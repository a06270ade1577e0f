"""The structure of an ONNX graph: everything but the values of its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

_SMALL = 16
"""Constants of at most so many values (shapes, factors) are part of the structure."""
_PARAMETER = (".weight", ".bias")
"""But for parameters of layers, such as the bias of a head of two classes."""


def structure_digest(path: Path) -> str:
    """SHA-256 over nodes, attributes, names, shapes and types, without the weights' values.

    Two graphs with the same digest differ in their weights only. External data is not read.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    digest = hashlib.sha256()
    for node in graph.node:
        node.doc_string = ""
        digest.update(node.SerializeToString(deterministic=True))
    for value in (*graph.input, *graph.output):
        digest.update(value.SerializeToString(deterministic=True))
    for tensor in sorted(graph.initializer, key=lambda item: item.name):
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}\n".encode())
        if not is_weight(tensor):
            digest.update(tensor.SerializeToString(deterministic=True))
    return digest.hexdigest()


def is_weight(tensor: Any) -> bool:
    """Whether an initializer is a weight: floating, and no small constant."""
    import onnx

    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    size = 1
    for side in tensor.dims:
        size *= side
    is_large = size > _SMALL or tensor.name.endswith(_PARAMETER)
    return tensor.data_type in kinds and is_large
