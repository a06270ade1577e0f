"""Multiply-adds of a graph against PyTorch's own counter."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.benchmarking.work import multiply_adds
from dinorad_rt.errors import ExportError
from dinorad_rt.export.onnx_export import export_onnx


@pytest.mark.parametrize(("name", "size"), [("test_vit", 64), ("test_resnet", 64)])
def test_they_are_those_of_pytorchs_counter(name: str, size: int, cache: Path) -> None:
    backbone = load_backbone(name, weights="random", image_size=size)
    counter = FlopCounterMode(display=False)  # it knows attention only in its plain form
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        backbone.module(torch.zeros(1, 3, size, size))
    graph = export_onnx(backbone)
    assert 2 * multiply_adds(graph.path) == counter.get_total_flops()


def test_an_unknown_shape_is_said(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    w = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0] * 4)
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [w]))
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(ExportError, match="shape of .* in MatMul product is unknown"):
        multiply_adds(tmp_path / "m.onnx")
