"""Memory before a build: read from the graph, and the batch that fits is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dinorad_rt.engines import memory
from dinorad_rt.engines.build import get_or_build
from dinorad_rt.engines.memory import available_bytes, largest_batch, needed_bytes
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import EngineError


class _Graph:
    """x (4 floats) → a (100) → b (10), c (20) → y: at most a, b and c are alive together."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.onnx"
        weight = numpy_helper.from_array(np.zeros((4, 100), np.float32), "w")
        nodes = [
            helper.make_node("MatMul", ["pixel_values", "w"], ["a"]),
            helper.make_node("Slice", ["a"], ["b"]),
            helper.make_node("Slice", ["a"], ["c"]),
            helper.make_node("Concat", ["b", "c"], ["y"], axis=1),
        ]

        def value(name: str, width: int) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])

        graph = helper.make_graph(
            nodes,
            "g",
            [value("pixel_values", 4)],
            [value("y", 30)],
            [weight],
            value_info=[value("a", 100), value("b", 10), value("c", 20)],
        )
        onnx.save(helper.make_model(graph), str(self.path))


def test_weights_twice_and_what_is_alive_at_once(tmp_path: Path) -> None:
    graph: Any = _Graph(tmp_path)
    weights, row = 400 * 4, (100 + 10 + 20) * 4
    assert needed_bytes(graph, 3, 2) == 2 * weights + 2 * 3 * row
    assert largest_batch(graph, 2 * weights + 5 * row + 1) == 5
    assert largest_batch(graph, weights) == 0


def test_available_memory_is_not_more_than_the_machine_has() -> None:
    import psutil

    found = available_bytes()
    assert found is not None
    assert 0 < found <= psutil.virtual_memory().total


def test_an_engine_that_does_not_fit_is_refused_with_the_batch_that_does(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = tiny_graph("fp32")
    free = needed_bytes(graph, 100)
    monkeypatch.setattr(memory, "available_bytes", lambda: free)
    profile = Profile("huge", batch=4096, streams=1, threads=1)
    with pytest.raises(EngineError, match="batch of 4096") as caught:
        get_or_build(graph, backend="openvino", profile=profile)
    assert "Set batch = 100 or less in the profile" in caught.value.fix
    get_or_build(graph, backend="openvino", profile=Profile("ok", batch=2, streams=1, threads=1))
