"""Sites: the same places in every form of a model; a planted fault is named by its block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from dinorad_rt.backbones.load import Backbone, load_backbone
from dinorad_rt.engines.reference import probe_images
from dinorad_rt.errors import ExportError, ParityError
from dinorad_rt.export import onnx_export
from dinorad_rt.export.bisect import program_sites
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.export.program import export_program, load_program
from dinorad_rt.export.sites import (
    backbone_sites,
    first_difference,
    onnx_sites,
    site_of,
    tap_program,
)

SIZE = 32
Change = Callable[[onnx.GraphProto], None]


@pytest.mark.parametrize(
    ("path", "site"),
    [
        ("blocks.3.attn.q", "blocks.3"),
        ("backbone.features.7.expand3x3", "features.7"),
        ("backbone.stages.2.blocks.1.mlp.fc1", "stages.2.blocks.1"),
        ("backbone.layers.0.blocks.11", "layers.0.blocks.11"),
        ("patch_embed.proj", "patch_embed"),
        ("layer1.0.conv1", "layer1.0"),
        ("norm", "norm"),
        ("", ""),
    ],
)
def test_site_of_a_module(path: str, site: str) -> None:
    assert site_of(path) == site


def _backbone(name: str = "test_vit", size: int = SIZE) -> Backbone:
    return load_backbone(name, weights="random", image_size=size)


@pytest.mark.parametrize("name", ["test_vit", pytest.param("dinov3_s16", marks=pytest.mark.slow)])
def test_every_form_has_the_values_of_timms_blocks(name: str, cache: Path) -> None:
    """Against timm's own forward_intermediates."""
    backbone = _backbone(name)
    images = probe_images((3, SIZE, SIZE))[:2]
    module: Any = backbone.module
    with torch.no_grad():
        wanted = module.forward_intermediates(
            torch.from_numpy(images),
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
    graph = export_onnx(backbone)
    forms = {
        "hooks": backbone_sites(backbone, images),
        "file": onnx_sites(graph.path, images, typed=False),
        "program": program_sites(export_program(backbone), images, rounding=False),
    }
    for what, form in forms.items():
        for index, (patches, prefix) in enumerate(wanted):
            tokens = np.concatenate([prefix.numpy(), patches.numpy()], axis=1)
            np.testing.assert_allclose(
                form[f"blocks.{index}"], tokens, atol=1e-3, err_msg=f"{what} {index}"
            )


def test_a_tapped_program_gives_its_outputs_and_its_blocks(cache: Path) -> None:
    graph = export_onnx(_backbone(), precision="bf16")
    images = torch.from_numpy(probe_images((3, SIZE, SIZE)))
    plain = load_program(graph.program_path).module()(images)
    program = load_program(graph.program_path)
    names = tap_program(program)
    tapped = program.module()(images)
    assert len(tapped) == len(plain) + len(names)
    for first, second in zip(plain, tapped, strict=False):
        torch.testing.assert_close(first, second)
    block = tapped[len(plain) + names.index("site/blocks.5")]
    assert (block.shape, block.dtype) == ((4, 5, 64), torch.float32)


def test_the_first_site_outside_counts_and_the_largest_step_is_to_blame() -> None:
    wanted = {name: np.ones((2, 4), np.float32) for name in ("embedding", "blocks.0", "blocks.1")}
    found = dict(wanted, **{"blocks.0": wanted["blocks.0"] * np.float32(1.02)})
    found["blocks.1"] = wanted["blocks.1"] * np.float32(1.5)
    place = first_difference(wanted, found, 1e-2, "x")
    assert place.site == "blocks.0"
    assert place.by_growth() == ["blocks.1", "blocks.0"]
    assert "blocks.0" in place.words()
    assert first_difference(wanted, wanted, 1e-2, "x").site is None


def _drop_bias(graph: onnx.GraphProto) -> None:
    item = next(i for i in graph.initializer if i.name == "blocks.3.mlp.fc1.bias")
    zeros = np.zeros_like(numpy_helper.to_array(item))
    item.CopyFrom(numpy_helper.from_array(zeros, item.name))


def _shift_positions(graph: onnx.GraphProto) -> None:
    item = next(i for i in graph.initializer if i.name == "tokens")
    moved = np.roll(numpy_helper.to_array(item), 1, axis=1)
    item.CopyFrom(numpy_helper.from_array(moved, item.name))


def _leak(graph: onnx.GraphProto) -> None:
    """A tenth of the batch's mean on top of block 2's output."""
    place = next(i for i, n in enumerate(graph.node) if n.output[0] == "blocks.2.output")
    graph.node[place].output[0] = "blocks.2.clean"
    axes = numpy_helper.from_array(np.array([0], np.int64), "leak.axes")
    share = numpy_helper.from_array(np.float32([0.1]), "leak.share")
    graph.initializer.extend([axes, share])
    nodes = [
        helper.make_node(
            "ReduceMean", ["blocks.2.clean", "leak.axes"], ["leak.mean"], "blocks.2.Mean"
        ),
        helper.make_node("Mul", ["leak.mean", "leak.share"], ["leak.part"], "blocks.2.Mul"),
        helper.make_node(
            "Add", ["blocks.2.clean", "leak.part"], ["blocks.2.output"], "blocks.2.Leak"
        ),
    ]
    for offset, node in enumerate(nodes, 1):
        graph.node.insert(place + offset, node)


def plant(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Change every graph that is exported, behind the exporter's back."""
    honest = onnx_export.write_onnx

    def dishonest(program: Any, path: Path, *rest: Any) -> Any:
        lint = honest(program, path, *rest)
        model = onnx.load(str(path))
        change(model.graph)
        onnx.save(model, str(path))
        return lint

    monkeypatch.setattr(onnx_export, "write_onnx", dishonest)


@pytest.mark.parametrize(
    ("change", "place", "what"),
    [
        (_drop_bias, "blocks.3", "the ONNX file first leaves"),
        (_shift_positions, "embedding (patches, class token and positions)", "the ONNX file"),
        (_leak, "blocks.2", "a batch, against single images, first leaves"),
    ],
)
def test_a_planted_fault_is_caught_and_its_block_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, change: Change, place: str, what: str
) -> None:
    plant(monkeypatch, change)
    with pytest.raises(ParityError) as caught:
        export_onnx(_backbone())
    assert what in caught.value.problem
    assert f"the limit in {place}: relative L2" in caught.value.problem
    assert "Nothing was kept" in caught.value.problem
    assert not list((cache / "graphs").glob("*/model.onnx"))


def overflowing(name: str = "test_vit", block: int = 4) -> Backbone:
    """A backbone whose MLP in one block leaves the range of FP16, and not that of BF16."""
    backbone = _backbone(name)
    module: Any = backbone.module
    with torch.no_grad():
        module.blocks[block].mlp.fc1.weight.mul_(1e5)
        module.blocks[block].mlp.fc2.weight.mul_(1e-5)
    return backbone


def test_an_overflow_is_named_and_that_block_alone_kept_in_fp32(cache: Path) -> None:
    with pytest.raises(ParityError, match="not finite") as caught:
        export_onnx(overflowing(), precision="fp16")
    assert "blocks.4.mlp.fc1" in caught.value.problem
    assert "the arithmetic of fp16 first leaves the limit in blocks.4" in caught.value.problem
    assert "--precision mixed --keep-fp32 blocks.4" in caught.value.fix
    graph = export_onnx(overflowing(), precision="mixed", keep_fp32=["blocks.4"])
    model = onnx.load(str(graph.path))
    wide = {
        item.name.rsplit(".", 2)[0]
        for item in model.graph.initializer
        if item.data_type == onnx.TensorProto.FLOAT and item.name.endswith(".weight")
        if len(item.dims) == 2
    }
    assert {name.partition(".mlp")[0].partition(".attn")[0] for name in wide} == {"blocks.4"}


def test_keep_fp32_takes_only_blocks_that_exist(cache: Path) -> None:
    with pytest.raises(ExportError, match="no blocks.77") as caught:
        export_onnx(_backbone(), precision="mixed", keep_fp32=["blocks.77"])
    assert "blocks.5" in caught.value.fix
    with pytest.raises(ExportError, match="all of it is"):
        export_onnx(_backbone(), keep_fp32=["blocks.1"])
