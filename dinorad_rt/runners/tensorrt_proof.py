"""Proof of precision: the types of the parsed network, and of the engine where it can be read.

Networks are strongly typed, so the types of the network bind the builder. The engine inspector
needs a GPU; there, what it shows of matrix products must agree.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import BuildError
from dinorad_rt.runners.base import Plan
from dinorad_rt.runners.precision import keeps_fp32, unproven

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

TYPE_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
_PRODUCTS = ("MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION", "ATTENTION_INPUT", "EINSUM")
_SUMS = {"SOFTMAX": "softmax", "NORMALIZATION": "normalisation"}
_PRODUCT_LAYER = re.compile(r"gemm|matmul|matrix_?mul|conv|mha|attention|\bfc\b", re.IGNORECASE)
_IN_FORMAT = (
    ("bfloat16", re.compile(r"bf16|bfloat16", re.IGNORECASE)),
    ("float16", re.compile(r"half|fp16|float16", re.IGNORECASE)),
    ("float32", re.compile(r"fp32|float", re.IGNORECASE)),
)


def network_types(network: Any) -> dict[str, Any]:
    """Count what a parsed network computes in which type.

    Returns:
        `layers`; `matrix_products`, `softmax` and `normalisation`: type → number of layers.
    """
    found: dict[str, Counter[str]] = {
        "matrix_products": Counter(),
        **{name: Counter() for name in _SUMS.values()},
    }
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        role = _SUMS.get(layer.type.name)
        if layer.type.name in _PRODUCTS:
            role = "matrix_products"
        if role is not None:
            kind = layer.get_input(0).dtype.name
            found[role][TYPE_NAMES.get(kind, kind.lower())] += 1
    return {"layers": int(network.num_layers), **{name: dict(c) for name, c in found.items()}}


def engine_types(report: str) -> dict[str, int]:
    """Count the matrix products of a built engine by the type of their first input.

    Args:
        report: JSON of the engine inspector, with the detailed verbosity. Some versions wrote what
            no parser reads (NVIDIA/TensorRT#2779): that shows nothing.
    """
    counts: Counter[str] = Counter()
    try:
        layers = json.loads(report, strict=False).get("Layers", ())
    except ValueError:
        layers = ()
    for layer in layers:
        if not isinstance(layer, dict):
            continue  # a bare name: the engine was built without details
        kind = str(layer.get("LayerType", ""))
        if not _PRODUCT_LAYER.search(f"{kind} {layer.get('TacticName', '')}"):
            continue
        inputs: list[dict[str, Any]] = layer.get("Inputs") or [{}]
        shown = str(inputs[0].get("Format/Datatype", inputs[0].get("Datatype", "")))
        counts[next((name for name, sign in _IN_FORMAT if sign.search(shown)), "other")] += 1
    return dict(counts)


def check_products(
    graph: Graph, plan: Plan, found: Mapping[str, int], *, fused: bool = False
) -> None:
    """Raise unless the matrix products run in the type that was asked for.

    Args:
        graph: what was asked to be built.
        plan: with the setting `matrix_type`.
        found: type → number of matrix products.
        fused: counted in a built engine, where layers are fused: types other than floating ones
            and FP32 inputs that a kernel casts itself may stand beside the wanted type.

    Raises:
        BuildError: none has the wanted type, or others have another one.
    """
    wanted = str(plan.settings["matrix_type"])
    others = set(found) - {wanted} - ({"float32"} if keeps_fp32(graph) or fused else set())
    if fused:
        others -= {"other"}
    if wanted not in found or others:
        raise unproven(plan.backend, graph, wanted, found)


def refuse_turing(plan: Plan, target: str | None, found: Mapping[str, int]) -> None:
    """Raise for products that TensorRT-RTX cannot compile for SM75, before it tries.

    Raises:
        BuildError: FP32 or BF16 matrix products for SM75.
    """
    wrong = {name: count for name, count in found.items() if name != "float16"}
    if target == "sm75" and plan.backend == "tensorrt-rtx" and wrong:
        shown = ", ".join(f"{count} in {name}" for name, count in wrong.items())
        raise BuildError(
            f"tensorrt-rtx compiles only FP16 matrix products for sm75; this graph has {shown}.",
            "Leave sm75 out of --targets, or use --precision fp16.",
        )
