"""Reference outputs: the graph itself, computed in FP32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.engines.reference import probe_images, reference_outputs, widen_to_fp32
from dinorad_rt.errors import EngineError
from dinorad_rt.paths import cache_dir


def test_probe_images_are_the_same_for_ever() -> None:
    images = probe_images((3, 20, 30))
    assert images.shape == (4, 3, 20, 30)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, probe_images((3, 20, 30)))
    assert np.ptp(images[2]) == 0
    assert set(np.unique(images[3])) == {np.float32(-2.1), np.float32(2.6)}


def test_probes_of_volumes_vary_along_every_side() -> None:
    noise, smooth, black, edges = probe_images((1, 16, 20, 30))
    assert noise.shape == (1, 16, 20, 30) and np.ptp(black) == 0
    for axis in (1, 2, 3):
        assert all(
            np.abs(np.diff(image, axis=axis)).max() > 0.1 for image in (noise, smooth, edges)
        )
    assert set(np.unique(edges)) == {np.float32(-2.1), np.float32(2.6)}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_reference_is_the_graph_in_fp32(
    tiny_graph: Callable[[str], Any], cache: Path, precision: str
) -> None:
    """Against PyTorch in float64 with the graph's own rounded weights."""
    import torch

    graph = tiny_graph(precision)
    images = probe_images(graph.input_shape)
    outputs = reference_outputs(graph, images)
    assert {name: value.shape[1:] for name, value in outputs.items()} == graph.outputs
    program = torch.export.load(str(graph.program_path))
    with torch.inference_mode():
        wanted = program.module()(torch.from_numpy(images))
    tolerance = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 5e-2}[precision]
    for value, tensor in zip(outputs.values(), wanted, strict=True):
        np.testing.assert_allclose(value, tensor.numpy(), atol=tolerance)


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16"])
def test_widening_keeps_values_and_stops_rounding(tmp_path: Path, kind: str) -> None:
    """A weight of 1/3 stays the rounded one; the sum 256 + 1/3 no longer loses its fraction."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    low = getattr(TensorProto, kind)
    weight = helper.make_tensor("w", low, [1, 1], [1 / 3])
    rounded = float(numpy_helper.to_array(weight).astype(np.float32)[0, 0])
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=low),
        helper.make_node("Add", ["a", "w"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1]) for n in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "low.onnx")
    widen_to_fp32(tmp_path / "low.onnx", tmp_path / "wide.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "wide.onnx"))
    value = session.run(None, {"x": np.full((2, 1), 256, np.float32)})[0]
    np.testing.assert_array_equal(value, np.float32(256) + np.float32(rounded))


def test_reference_is_computed_once(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    graph = tiny_graph("fp32")
    images = probe_images(graph.input_shape)
    first = reference_outputs(graph, images)
    (stored,) = cache_dir("references").iterdir()
    changed = stored.stat().st_mtime_ns
    second = reference_outputs(graph, images)
    assert stored.stat().st_mtime_ns == changed
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("damage", ["empty", "text", "half", "flipped"])
def test_a_damaged_reference_is_computed_again(
    tiny_graph: Callable[[str], Any], cache: Path, damage: str
) -> None:
    graph = tiny_graph("fp32")
    images = probe_images(graph.input_shape)
    wanted = reference_outputs(graph, images)
    (stored,) = cache_dir("references").iterdir()
    whole = stored.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    others = {"empty": b"", "text": b"broken", "half": whole[: len(whole) // 2], "flipped": flipped}
    stored.write_bytes(others[damage])
    again = reference_outputs(graph, images)
    for name, value in wanted.items():
        np.testing.assert_array_equal(again[name], value)
    assert stored.read_bytes() == whole


def test_a_graph_that_does_not_run_is_named(
    tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    broken = replace(tiny_graph("fp32"), folder=tmp_path)
    with pytest.raises(EngineError, match="cannot be run for comparison"):
        reference_outputs(broken, probe_images(broken.input_shape))
