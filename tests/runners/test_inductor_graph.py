"""What is rewritten for GPUs computes the same function. No GPU is needed to see it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dinorad_rt.runners.inductor_graph import (
    merge_parallel_linears,
    patches_as_products,
    suit_gpu,
)


class _Attention(nn.Module):
    """Three products of one input, one of them without a bias, and one of another input."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(12, 12), nn.Linear(12, 20)
        self.k = nn.Linear(12, 12, bias=False)
        self.proj = nn.Linear(20, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        out: torch.Tensor = self.proj(scores.softmax(-1) @ self.v(x))
        return out


def _module(model: nn.Module, example: torch.Tensor) -> Any:
    return torch.export.export(model.eval(), (example,)).module()


def _targets(module: Any, name: str) -> int:
    return sum(name in str(node.target) for node in module.graph.nodes)


def test_products_of_one_input_become_one() -> None:
    torch.manual_seed(0)
    model, x = _Attention(), torch.randn(2, 5, 12)
    module = _module(model, x)
    assert merge_parallel_linears(module) == 2
    assert _targets(module, "aten.linear") == 2
    torch.testing.assert_close(module(x), model(x))
    names = {name for name, _ in module.named_parameters()}
    assert names == {"merged_0_weight", "merged_0_bias", "proj.weight", "proj.bias"}
    assert merge_parallel_linears(module) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_a_patch_embedding_becomes_a_product(bias: bool) -> None:
    torch.manual_seed(0)
    model, x = nn.Conv2d(3, 16, (14, 7), stride=(14, 7), bias=bias), torch.randn(2, 3, 28, 21)
    module = _module(model, x)
    assert patches_as_products(module) == 1
    assert _targets(module, "aten.conv2d") == 0
    torch.testing.assert_close(module(x), model(x))
    (matrix,) = (value for name, value in module.named_parameters() if name.startswith("patches"))
    assert matrix.shape == (16, 296)  # 3 · 14 · 7 = 294, padded to a multiple of 8


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 3, stride=2),  # windows overlap
        nn.Conv2d(4, 8, 2, stride=2, padding=1),
        nn.Conv2d(4, 8, 2, stride=2, dilation=2),
        nn.Conv2d(4, 8, 2, stride=2, groups=2),
        nn.Conv2d(4, 8, 1),  # a product already
        nn.Conv2d(4, 8, 5, stride=5),  # leaves a rim of 12 pixels out
    ],
)
def test_other_convolutions_stay(layer: nn.Module) -> None:
    x = torch.randn(1, 4, 12, 12)
    module = _module(layer, x)
    assert patches_as_products(module) == 0
    torch.testing.assert_close(module(x), layer(x))


def test_a_transformer_stays_the_same_function() -> None:
    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.export.program import export_program

    backbone = load_backbone("deit_tiny_patch16_224", weights="random", image_size=64)
    x = torch.randn(3, 3, 64, 64)
    program = torch.export.export(export_program(backbone).module(), (x,))
    module: Any = program.module()
    wanted = module(x)
    linears = _targets(module, "aten.linear")
    suit_gpu(module)
    assert _targets(module, "aten.linear") == linears - 24 + 1  # 2 per block; the patch embedding
    for found, value in zip(module(x), wanted, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
    torch.export.export(module, (x,))
