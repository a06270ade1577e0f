"""What counts as a second copy of a weight."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dinorad_rt.export.lint import _weight_faults


def model_with(**initializers: np.ndarray) -> ir.Model:
    """A graph that holds these tensors and nothing else."""
    values = []
    for name, array in initializers.items():
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=ir.tensor(array.astype(np.float32), name=name),
        )
        values.append(value)
    graph = ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 22})
    return ir.Model(graph, ir_version=10)


def test_a_second_copy_of_a_weight_is_a_fault_and_a_zero_bias_is_none() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((128, 128))
    zeros = {f"bias_{index}": np.zeros(512) for index in range(100)}
    assert _weight_faults(model_with(weight=weight, **zeros), weight.size) == []
    copies = {f"copy_{index}": rng.standard_normal(512) for index in range(100)}
    (fault,) = _weight_faults(model_with(weight=weight, **copies), weight.size)
    assert fault.startswith("67584 elements of weights for 16384") and "copies" in fault
    flat = model_with(weight=weight, again=np.full((128, 128), 0.5))
    assert any("copies" in fault for fault in _weight_faults(flat, weight.size))
