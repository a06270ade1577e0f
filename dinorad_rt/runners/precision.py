"""What precision a graph really is, and the refusal of a backend that would not keep it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.errors import EngineError, ProofError
from dinorad_rt.machine import cpu_facts

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

LowType = Literal["float32", "float16", "bfloat16", "int8"]
_OF_PRECISION: dict[str, LowType] = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
}
PROGRAM_PRECISIONS = ("fp32", "bf16", "fp16")
"""Of what runs a graph's program: INT8 is written into the ONNX file alone."""
INT8_BACKENDS = ("openvino", "onnxruntime")
PRECISION_OF: dict[LowType, str] = {low: name for name, low in _OF_PRECISION.items()}


def low_type(graph: Graph) -> LowType:
    """The type of the graph's matrix products: its precision, or for `mixed` the lower type.

    `mixed` keeps some products in FP32; the graph's weights say which type the others have.
    """
    if graph.precision != "mixed":
        return _OF_PRECISION[graph.precision]
    found = matrix_types(graph.path)
    return "float16" if "float16" in found else "bfloat16" if "bfloat16" in found else "float32"


def matrix_types(path: Path) -> dict[str, int]:
    """Count the weights of rank two and more in an ONNX file by type.

    Reads no external data.
    """
    import onnx

    names = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.FLOAT16: "float16",
        onnx.TensorProto.BFLOAT16: "bfloat16",
        onnx.TensorProto.INT8: "int8",
    }
    graph = onnx.load(str(path), load_external_data=False).graph
    counts = Counter(
        names[item.data_type]
        for item in graph.initializer
        if item.data_type in names and len(item.dims) >= 2
    )
    return dict(counts)


def keeps_fp32(graph: Graph) -> bool:
    """Whether FP32 matrix products may stand beside those of the graph's lower type."""
    return graph.precision in ("mixed", "int8") or bool(graph.manifest.get("keep_fp32"))


def refuse_precision(backend: str, graph: Graph, low: LowType, native: Iterable[str]) -> None:
    """Raise unless `low` is among the precisions that run natively.

    Raises:
        EngineError: the backend would have to compute in another precision.
    """
    native = tuple(native)
    precision = PRECISION_OF[low]
    if precision in native:
        return
    floating = [name for name in native if name != "int8"]
    asked = graph.precision if graph.precision == precision else f"{graph.precision} ({precision})"
    raise EngineError(
        f"The backend {backend} cannot run {asked} on this machine without computing in another "
        f"precision; it runs {', '.join(native)} here ({cpu_facts()['model']}).",
        f"Use --precision {floating[-1]}, or see what runs what: dinorad-rt list backends",
    )


def refuse_int8(backend: str) -> None:
    """Raise for a backend that has no INT8, before minutes of calibration.

    Raises:
        EngineError: with the backends that have it.
    """
    if backend not in (*INT8_BACKENDS, "auto"):
        raise EngineError(
            f"The backend {backend} runs no INT8 graphs; {' and '.join(INT8_BACKENDS)} do, on the "
            "processor.",
            "Use --precision fp16, or --backend openvino.",
        )


def unproven(backend: str, graph: Graph, wanted: str, found: Mapping[str, int]) -> ProofError:
    """The error for an engine whose matrix products run in another type than asked for."""
    types = ", ".join(f"{count} in {name}" for name, count in found.items()) or "none found"
    return ProofError(
        f"The {backend} engine of {graph.model} would not keep {graph.precision}: its matrix "
        f"products should be {wanted}, and are {types}.",
        "Choose another backend or precision: dinorad-rt list backends",
    )


def cpu_device() -> dict[str, Any]:
    """The processor as part of an engine's key."""
    facts = cpu_facts()
    return {"kind": "cpu", **{key: facts[key] for key in ("model", "instruction_sets")}}
