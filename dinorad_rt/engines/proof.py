"""Proof of precision: what a backend shows of its engine must be what was asked for.

Backends prove themselves while they build; this is the second look, the same for all of them, and
what `verify` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import ProofError

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

_NAMES = {
    "fp32": ("f32", "fp32", "float32", "float"),
    "fp16": ("f16", "fp16", "float16", "half"),
    "bf16": ("bf16", "bfloat16"),
    "int8": ("i8", "u8", "int8", "uint8"),
}
_OF_NAME = {name: precision for precision, names in _NAMES.items() for name in names}
_PRODUCTS = ("matrix_products", "weights")


def proven_products(proof: Mapping[str, Any]) -> dict[str, int]:
    """Matrix products of an engine by precision, from the proof in its manifest.

    Types that are no precision of ours keep their own name.
    """
    counts: dict[str, int] = {}
    shown = (proof.get(name) for name in _PRODUCTS)
    found: Mapping[str, Any] = next((item for item in shown if isinstance(item, Mapping)), {})
    for name, count in found.items():
        precision = _OF_NAME.get(str(name).lower(), str(name))
        counts[precision] = counts.get(precision, 0) + int(count)
    return counts


def check_proof(graph: Graph, backend: str, proof: Mapping[str, Any]) -> dict[str, int]:
    """Raise unless the products of an engine run in the precision of its graph.

    Returns:
        Precision → number of matrix products, or of weights where the backend counts those.

    Raises:
        ProofError: no proof, none of the products has the precision, or others have another one.
    """
    counts = proven_products(proof)
    wanted = {"mixed": ("fp16", "bf16")}.get(graph.precision, (graph.precision,))
    kept = graph.precision in ("mixed", "int8") or bool(graph.manifest.get("keep_fp32"))
    allowed = {*wanted, *(("fp32",) if kept else ())}
    if "matrix_products" not in proof:  # weights are counted, and tables of positions are FP32
        allowed |= {"fp32"}
    if graph.precision == "int8":  # what is not quantised may run in the hint's type
        allowed |= {"bf16", "fp16"}
    if any(counts.get(name) for name in wanted) and set(counts) <= allowed:
        return counts
    shown = ", ".join(f"{count} in {name}" for name, count in counts.items()) or "none shown"
    raise ProofError(
        f"The {backend} engine of {graph.model} was asked for in {graph.precision} and is not: its "
        f"matrix products are {shown}. A silent build in another precision is never kept.",
        "Choose another backend or precision: dinorad-rt list backends",
    )
