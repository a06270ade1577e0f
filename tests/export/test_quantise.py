"""INT8: calibrated on training images, judged on others, refused where the gate fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.engines.build import get_or_build
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import ExportError, ParityError
from dinorad_rt.export import quantise
from dinorad_rt.export.calibration import CalibrationImages, calibration_images
from dinorad_rt.export.quantise import matrix_types, quantise_graph
from dinorad_rt.export.recipe import ParityLimits

pytest.importorskip("nncf")
LOOSE = ParityLimits(cosine=0.9, patch_cosine=0.9, relative_l2=0.5, rows=1e-3)


def _images(seed: int, count: int = 12) -> np.ndarray:
    random = np.random.default_rng(seed)
    level = random.uniform(-1, 1, (count, 1, 1, 1))
    return (0.5 * random.standard_normal((count, 3, 32, 32)) + level).astype(np.float32)


def _data(count: int = 12) -> CalibrationImages:
    return CalibrationImages(_images(0, count), _images(1, count), {"dataset": "noise"})


@pytest.fixture(scope="module")
def int8(
    tiny_graph: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """An INT8 graph under limits that a tiny random network keeps."""
    root = tmp_path_factory.mktemp("int8")

    def make(name: str, **options: Any) -> Any:
        return quantise_graph(tiny_graph("fp32"), _data(), out=root / name, limits=LOOSE, **options)

    return make


def test_products_are_int8_except_those_of_the_recipe(int8: Callable[..., Any]) -> None:
    graph = int8("plain")
    assert graph.precision == "int8"
    assert "model.pt2" not in graph.manifest["files"]
    products = graph.manifest["lint"]["matrix_products"]
    # of each of six blocks q, k, v, proj and fc1; two attention products and fc2 stay, and the stem
    assert products == {"INT8": 30, "FLOAT": 19}
    assert graph.manifest["calibration"] == {"dataset": "noise"}
    numbers = graph.manifest["parity"]["precision"]["cls"]
    assert 0.9 < numbers["cosine_min"] < 0.99999


def test_kept_blocks_hold_no_int8(int8: Callable[..., Any]) -> None:
    graph = int8("kept", keep_fp32=["blocks.2"])
    model = onnx.load(str(graph.path))
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    found = Counter()
    for node in model.graph.node:
        weight = made_by.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and weight.op_type == "DequantizeLinear":
            found[node.name.split(".")[1]] += 1
            assert kinds[weight.input[0]] == TensorProto.INT8
    assert found == dict.fromkeys("01345", 5)


def test_engines_compute_the_quantised_graph(int8: Callable[..., Any], cache: Path) -> None:
    graph = int8("plain-2")
    for backend, name in (("openvino", "i8"), ("onnxruntime", "int8")):
        engine = get_or_build(graph, backend=backend, profile=Profile("t", batch=2, threads=1))
        assert next(iter(engine.manifest["proof"].values()))[name] >= 30
        assert engine.manifest["products"]["int8"] >= 30
    from dinorad_rt.errors import DinoradError

    with pytest.raises(DinoradError, match="int8|model.pt2"):
        get_or_build(graph, backend="pytorch", profile=Profile("t", batch=2, threads=1))


def test_the_gate_refuses_with_the_number_and_the_block(
    tiny_graph: Callable[[str], Any], cache: Path
) -> None:
    strict = replace(LOOSE, cosine=0.9999999, relative_l2=1e-6)
    with pytest.raises(ParityError, match="cosine_min of INT8 on held-out images") as caught:
        quantise_graph(tiny_graph("fp32"), _data(), limits=strict)
    assert "first leaves the limit in blocks.0" in caught.value.problem
    assert "--precision int8 --keep-fp32 blocks." in caught.value.fix
    assert not list((cache / "graphs").glob("*/model.onnx"))


def test_too_few_images_and_other_graphs_are_refused(tiny_graph: Callable[[str], Any]) -> None:
    with pytest.raises(ExportError, match="at least 8 training images.*there are 3"):
        quantise_graph(tiny_graph("fp32"), _data(3))
    with pytest.raises(ExportError, match="from an FP32 graph"):
        quantise_graph(tiny_graph("fp16"), _data())
    with pytest.raises(ExportError, match="has no blocks.9"):
        quantise_graph(tiny_graph("fp32"), _data(), keep_fp32=["blocks.9"])


def test_signed_form_is_the_unsigned_one_with_half_the_steps() -> None:
    """255 steps of s and 127 of 2.008 s span the same; asymmetric values are left alone."""
    scale = numpy_helper.from_array(np.float32(0.1), "s")
    zero = numpy_helper.from_array(np.uint8(0), "z")
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    node.attribute.append(helper.make_attribute("output_dtype", TensorProto.UINT8))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.UINT8, [1])
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [scale, zero]))
    quantise._adapt(model, signed=False)
    assert not model.graph.node[0].attribute
    assert numpy_helper.to_array(model.graph.initializer[1]).dtype == np.uint8
    quantise._adapt(model, signed=True)
    assert numpy_helper.to_array(model.graph.initializer[1]).dtype == np.int8
    assert float(numpy_helper.to_array(model.graph.initializer[0])) * 127 == pytest.approx(25.5)


def test_types_are_counted_by_the_weight() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "a"], ["b"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    assert matrix_types(helper.make_model(graph)) == {"INT8": 1, "FLOAT": 1}


def test_only_training_images_calibrate_and_no_patient_is_on_both_sides(
    tiny_graph: Callable[[str], Any], tmp_path: Path, cache: Path
) -> None:
    """Brightness tells the split: training images are dark."""
    lines = ["image,label,patient,split"]
    for index in range(60):
        split = "train" if index < 40 else "test"
        level = index // 2 if split == "train" else 200
        name = f"i{index:02d}.png"
        Image.fromarray(np.full((40, 40), level, np.uint8)).save(tmp_path / name)
        lines.append(f"{name},{index % 2},p{index // 2},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(tmp_path)
    images = calibration_images(tiny_graph("fp32"), dataset, "model")
    both = (images.calibration, images.held_out)
    levels = [{round(float(row.mean()), 4) for row in part} for part in both]
    assert max(float(part.max()) for part in both) < 0  # no bright image
    assert not levels[0] & levels[1]  # a patient's two images have one level
    assert (len(levels[0]), len(levels[1])) == (14, 6)
    assert images.facts["split"] == "train"
    assert str(tmp_path) not in str(images.facts)
