"""Graphs of transformers with an attention-pooling head in place of a class token."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from dinorad_rt.backbones import registry
from dinorad_rt.backbones.load import Backbone, load_backbone
from dinorad_rt.engines.build import open_runner
from dinorad_rt.errors import ParityError, TrainingError
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.export.parity import check_graph
from dinorad_rt.export.program import export_program
from dinorad_rt.export.recipe import load_recipe
from dinorad_rt.pipeline import build_engine
from dinorad_rt.training.classifier import Classifier, HeadSpec

SIDE = 56


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
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A small MedSigLIP with random weights."""
    whole = registry.get_spec("medsiglip_so400m14")
    sizes = {"embed_dim": 48, "depth": 3, "num_heads": 3, "mlp_ratio": 4}
    small = {"name": "tiny", "dim": 48, "image_size": SIDE, "native_size": SIDE}
    create = (*whole.create, *sizes.items())
    spec = dataclasses.replace(whole, **small, create=create)  # type: ignore[arg-type]
    monkeypatch.setitem(registry._registered, "tiny", spec)
    return load_backbone("tiny", weights="random")


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, SIDE, SIDE)).astype(np.float32)


def own_outputs(backbone: Backbone, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """By timm's own forward pass."""
    module: Any = backbone.module
    with torch.inference_mode():
        batch = torch.from_numpy(pixels)
        blocks = module.forward_intermediates(
            batch, indices=3, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return {
            "cls": module(batch)[:, None].numpy(),
            "patch_mean": blocks[-1].mean(dim=1).numpy(),
            "patch_tokens": torch.stack(blocks, dim=1).numpy(),
        }


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_an_engine_gives_the_models_own_embedding(
    backbone: Backbone, backend: str, cache: Path
) -> None:
    engine = build_engine(export_onnx(backbone, dense=True), backend=backend)
    assert engine.outputs == {"cls": (1, 48), "patch_mean": (48,), "patch_tokens": (3, 16, 48)}
    wanted = own_outputs(backbone, images(3))
    with open_runner(engine) as runner:
        found = runner.infer(images(3))
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=2e-4)


def test_the_graph_is_clean_and_its_pooling_is_attention(backbone: Backbone, cache: Path) -> None:
    model = onnx.load(str(export_onnx(backbone, dense=True).path))
    found = Counter(node.op_type for node in model.graph.node)
    assert not set(found) & {"Expand", "Pad", "Shape", "Slice", "Tile"}
    assert found["Softmax"] == 4
    gelus = [node for node in model.graph.node if node.op_type == "Gelu"]
    assert {node.attribute[0].s for node in gelus} == {b"tanh"}


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_lower_types_pass_parity(backbone: Backbone, precision: Any, cache: Path) -> None:
    graph = export_onnx(backbone, precision=precision)
    assert graph.manifest["parity"]["precision"]["cls"]["cosine_min"] > 0.999


def test_a_fault_in_the_pooling_head_does_not_pass(
    backbone: Backbone, cache: Path, tmp_path: Path
) -> None:
    graph, recipe = export_onnx(backbone, dense=True), load_recipe("siglip")
    path = Path(shutil.copy(graph.path, tmp_path))
    program = export_program(backbone, dense=True)
    model = onnx.load(str(path))
    item = next(one for one in model.graph.initializer if one.name.endswith("attn_pool.query"))
    turned = onnx.numpy_helper.to_array(item)[:, ::-1].copy()
    item.CopyFrom(onnx.numpy_helper.from_array(turned, item.name))
    onnx.save(model, str(path))
    with pytest.raises(ParityError, match="cls"):
        check_graph(backbone, recipe, program, path, precision="fp32", dense=True, say=print)


def test_a_trained_head_sees_what_the_graph_gives(backbone: Backbone) -> None:
    model = Classifier(backbone, HeadSpec(1, patch_mean=True), 2)
    wanted = own_outputs(backbone, images(2))
    with torch.inference_mode():
        found = model.features(torch.from_numpy(images(2))).numpy()
    joined = np.hstack((wanted["cls"][:, 0], wanted["patch_mean"]))
    np.testing.assert_allclose(found, joined, atol=1e-5)
    with pytest.raises(TrainingError, match="the last 1 at most"):
        Classifier(backbone, HeadSpec(4), 2)
