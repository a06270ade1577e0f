"""Proof of precision: the same second look at every backend."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dinorad_rt.engines.proof import check_proof, proven_products
from dinorad_rt.errors import BuildError


def _graph(precision: str, **manifest: Any) -> Any:
    return SimpleNamespace(precision=precision, model="m", manifest=manifest)


def test_names_of_all_backends_are_one() -> None:
    proof = {"layers": 9, "matrix_products": {"f16": 2, "float16": 1, "HALF": 1, "i8": 3, "u8": 1}}
    assert proven_products(proof) == {"fp16": 4, "int8": 4}


@pytest.mark.parametrize(
    ("precision", "counts"),
    [
        ("fp16", {"f32": 72}),
        ("bf16", {"bf16": 71, "f32": 1}),
        ("fp16", {"bf16": 72}),
        ("fp32", {"f32": 71, "f16": 1}),
        ("int8", {"f32": 72}),
        ("mixed", {"f32": 72}),
        ("fp16", {}),
    ],
)
def test_a_silent_build_in_another_precision_is_refused(
    precision: str, counts: dict[str, int]
) -> None:
    with pytest.raises(BuildError, match="silent build") as caught:
        check_proof(_graph(precision), "openvino", {"matrix_products": counts})
    for name, count in counts.items():
        assert str(count) in caught.value.problem, name


@pytest.mark.parametrize(
    ("graph", "counts"),
    [
        (_graph("fp32"), {"f32": 72}),
        (_graph("mixed"), {"f16": 48, "f32": 24}),
        (_graph("bf16", keep_fp32=["blocks.3"]), {"bf16": 66, "f32": 6}),
        (_graph("int8"), {"i8": 36, "u8": 1, "f32": 35}),
    ],
)
def test_what_was_asked_for_passes(graph: Any, counts: dict[str, int]) -> None:
    assert sum(check_proof(graph, "x", {"matrix_products": counts}).values()) == sum(
        counts.values()
    )


def test_tables_beside_counted_weights_may_be_fp32() -> None:
    assert check_proof(_graph("bf16"), "pytorch", {"weights": {"bfloat16": 37, "float32": 1}})
    with pytest.raises(BuildError):
        check_proof(_graph("bf16"), "pytorch", {"weights": {"float32": 38}})
