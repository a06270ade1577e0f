"""Exported graphs against timm's own forward pass, and planted faults."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from dinorad_rt.backbones.load import Backbone, load_backbone
from dinorad_rt.errors import ExportError, LintError, ParityError
from dinorad_rt.export.manifest import Graph
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.export.parity import check_graph
from dinorad_rt.export.program import export_program, load_program
from dinorad_rt.export.recipe import load_recipe

TOKENS = [("test_vit", 160), ("vits14_reg", 28), ("dinov3_s16", 32)]
POOLED = [("test_resnet", 96), ("test_convnext", 96), ("squeezenet1_1", 96)]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests here: what none of them changes is exported once."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture
def cache(exports: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared cache, in place of one for each test."""
    monkeypatch.setenv("DINORAD_RT_CACHE", str(exports))
    return exports


@pytest.fixture
def own_graph(cache: Path, tmp_path: Path) -> Graph:
    """A copy of a small graph, for a test that damages it."""
    kept = export_onnx(backbone_of("test_vit", 160)).folder
    return Graph.open(Path(shutil.copytree(kept, tmp_path / kept.name)))


def backbone_of(name: str, size: int) -> Backbone:
    """A small backbone with random weights."""
    return load_backbone(name, weights="random", image_size=size)


def run(graph: Graph, images: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs by ONNX Runtime with all optimisations off."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(graph.path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pixel_values": images}), strict=True))


def noise(batch: int, size: int) -> np.ndarray:
    """Images whose brightness differs."""
    random = np.random.default_rng(0)
    level = np.linspace(-1, 1, batch)[:, None, None, None]
    return (random.standard_normal((batch, 3, size, size)) + level).astype(np.float32)


def operators(graph: Graph) -> Counter[str]:
    """Operator → count."""
    return Counter(node.op_type for node in onnx.load(str(graph.path)).graph.node)


@pytest.mark.parametrize(("name", "size"), TOKENS)
def test_tokens_are_those_of_timm_for_any_batch(name: str, size: int, cache: Path) -> None:
    backbone = backbone_of(name, size)
    graph = export_onnx(backbone, dense=True)
    module: Any = backbone.module
    for batch in (1, 2, 5):
        images = noise(batch, size)
        with torch.inference_mode():
            blocks = module.forward_intermediates(
                torch.from_numpy(images),
                indices=5,
                norm=True,
                output_fmt="NLC",
                return_prefix_tokens=True,
                intermediates_only=True,
            )
        found = run(graph, images)
        cls = torch.stack([prefix[:, 0] for _, prefix in blocks[-4:]], 1).numpy()
        patches = torch.stack([patch for patch, _ in blocks], 1).numpy()
        np.testing.assert_allclose(found["cls"], cls, atol=2e-4)
        np.testing.assert_allclose(found["patch_tokens"], patches, atol=2e-4)
        np.testing.assert_allclose(found["patch_mean"], patches[:, -1].mean(1), atol=2e-4)


@pytest.mark.parametrize(("name", "size"), POOLED)
def test_pooled_embeddings_are_those_of_the_network(name: str, size: int, cache: Path) -> None:
    backbone = backbone_of(name, size)
    graph = export_onnx(backbone)
    images = noise(3, size)
    with torch.inference_mode():
        wanted = backbone.module(torch.from_numpy(images)).numpy()
    found = run(graph, images)
    assert list(found) == ["cls"]
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found["cls"][:, 0] / scale, wanted / scale, atol=1e-4)


def test_the_graph_is_clean(cache: Path) -> None:
    graph = export_onnx(backbone_of("vits14", 28))
    found = operators(graph)
    assert not set(found) & {"Resize", "Einsum", "Expand", "Shape", "If", "Loop", "Squeeze"}
    assert found["Softmax"] == 12
    model = onnx.load(str(graph.path))
    assert model.opset_import[0].version >= 20
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 28, 28]


@pytest.mark.parametrize(("precision", "low"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_precision_is_in_the_graph(precision: str, low: str, cache: Path) -> None:
    graph = export_onnx(backbone_of("test_vit", 160), precision=precision)  # type: ignore[arg-type]
    model = onnx.load(str(graph.path))
    types = Counter(
        TensorProto.DataType.Name(item.data_type)
        for item in model.graph.initializer
        if len(item.dims) >= 2 and np.prod(item.dims) > 4000
    )
    assert types[low] >= 6 * 6
    outputs = {value.type.tensor_type.elem_type for value in model.graph.output}
    assert outputs == {TensorProto.FLOAT}
    assert graph.manifest["parity"]["precision"]["cls"]["cosine_min"] > 0.999


def test_the_same_request_is_answered_from_disk_and_another_is_not(cache: Path) -> None:
    backbone = backbone_of("test_vit", 160)
    said: list[str] = []
    first = export_onnx(backbone)
    assert first.manifest["weights_notes"] == ["weights: random, seed 0"]
    assert export_onnx(backbone, progress=said.append).folder == first.folder
    assert any("from the cache" in text for text in said)
    other = load_backbone("test_vit", weights="random", image_size=160, seed=1)
    assert export_onnx(other).folder != first.folder
    assert export_onnx(backbone, precision="fp16").folder != first.folder


def plant(graph: Graph, change: Any) -> None:
    """Change one initializer of the ONNX file in place."""
    model = onnx.load(str(graph.path))
    change(model.graph)
    onnx.save(model, str(graph.path))


def drop_bias(graph: onnx.GraphProto) -> None:
    """Set the bias of the first MLP layer to zero."""
    item = next(i for i in graph.initializer if i.name.endswith("mlp.fc1.bias"))
    zeros = np.zeros_like(numpy_helper.to_array(item))
    item.CopyFrom(numpy_helper.from_array(zeros, item.name))


def shift_positions(graph: onnx.GraphProto) -> None:
    """Move the additive table of positions by one token."""
    tables = [
        i for i in graph.initializer if len(i.dims) == 3 and i.dims[0] == 1 and i.dims[1] > 50
    ]
    (item,) = tables
    moved = np.roll(numpy_helper.to_array(item), 1, axis=1)
    item.CopyFrom(numpy_helper.from_array(moved, item.name))


@pytest.mark.parametrize("fault", [drop_bias, shift_positions])
def test_planted_faults_do_not_pass_parity(fault: Any, own_graph: Graph) -> None:
    backbone = backbone_of("test_vit", 160)
    graph = own_graph
    recipe = load_recipe(backbone.spec.family)
    program = export_program(backbone, precision="fp32", dense=False)
    arguments = {"precision": "fp32", "dense": False, "say": lambda _: None}
    check_graph(backbone, recipe, program, graph.path, **arguments)
    plant(graph, fault)
    with pytest.raises(ParityError, match="cosine|relative L2"):
        check_graph(backbone, recipe, program, graph.path, **arguments)


def test_a_rule_that_the_graph_breaks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path))
    recipe = load_recipe("vit")
    strict = replace(recipe, forbidden=(*recipe.forbidden, "Softmax"))
    monkeypatch.setattr("dinorad_rt.export.onnx_export.load_recipe", lambda _: strict)
    with pytest.raises(LintError, match="Softmax"):
        export_onnx(backbone_of("test_vit", 160))
    assert not list((tmp_path / "graphs").glob("*/model.onnx"))


def test_a_changed_file_is_refused(own_graph: Graph) -> None:
    graph = own_graph
    with graph.path.open("r+b") as handle:
        handle.seek(2000)
        handle.write(b"\x00\x01\x02\x03")
    with pytest.raises(ExportError, match="not what its manifest says"):
        Graph.open(graph.folder)


@pytest.mark.parametrize("where", ["initializer", "attribute", "function"])
def test_weights_outside_the_folder_are_refused(own_graph: Graph, where: str) -> None:
    from dinorad_rt.files import sha256_file

    graph = own_graph
    model = onnx.load(str(graph.path))
    item = model.graph.initializer[0]
    if where != "initializer":
        value = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
        node = onnx.helper.make_node("Constant", [], ["hidden"], value=value)
        if where == "function":
            function = onnx.helper.make_function("own", "F", [], ["hidden"], [node], [])
            model.functions.append(function)
            item = model.functions[-1].node[0].attribute[0].t
        else:
            model.graph.node.append(node)
            item = model.graph.node[-1].attribute[0].t
    item.ClearField("raw_data")
    item.data_location = TensorProto.EXTERNAL
    item.external_data.add(key="location", value="../../secret")
    graph.path.write_bytes(model.SerializeToString())
    (manifest_path,) = graph.folder.glob("*.json")
    manifest = json.loads(manifest_path.read_text())
    facts = manifest["files"][graph.path.name]
    facts |= {"sha256": sha256_file(graph.path), "bytes": graph.path.stat().st_size}
    manifest_path.write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="secret"):
        Graph.open(graph.folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("precision", "fp12"), ("recipe", {}), ("recipe", None), ("files", []), ("files", {"a": {}})],
)
def test_a_manifest_that_says_something_else_is_refused(
    own_graph: Graph, name: str, value: object
) -> None:
    path = own_graph.folder / "graph.json"
    path.write_text(json.dumps(own_graph.manifest | {name: value}))
    with pytest.raises(ExportError, match=f"of another kind: {name}"):
        Graph.open(own_graph.folder)


def test_the_saved_program_gives_the_same_numbers(cache: Path) -> None:
    graph = export_onnx(backbone_of("test_vit", 160))
    images = noise(4, 160)
    found = load_program(graph.program_path).module()(torch.from_numpy(images))
    wanted = run(graph, images)
    for value, name in zip(found, wanted, strict=True):
        np.testing.assert_allclose(value.numpy(), wanted[name], atol=1e-4)
