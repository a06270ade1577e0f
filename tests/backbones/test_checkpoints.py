"""Files: safe reading, wrappers, and refusal of what is incomplete or of another architecture."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from dinorad_rt.backbones.checkpoints import read_checkpoint
from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.locate import find_weights
from dinorad_rt.backbones.mismatch import condense
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError, WeightsError

State = dict[str, torch.Tensor]


@pytest.fixture
def state(shrink: Callable[..., BackboneSpec]) -> State:
    """A complete state dict of the tiny DINOv2 in timm's names."""
    shrink("vits14")
    return dict(load_backbone("tiny", weights="random", seed=5).module.state_dict())


def _same(path: Path, state: State) -> tuple[str, ...]:
    backbone = load_backbone("tiny", weights=path)
    loaded = backbone.module.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)
    return backbone.weights.notes


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files_old_and_new(tmp_path: Path, state: State, zipped: bool) -> None:
    path = tmp_path / "weights.bin"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    _same(path, state)


def test_the_content_decides_not_the_suffix(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    save_file(state, path)
    _same(path, state)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "teacher", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_training_checkpoints(tmp_path: Path, state: State, wrapper: str, prefix: str) -> None:
    inner: dict[str, Any] = {prefix + key: value for key, value in state.items()}
    if prefix.endswith("backbone."):
        inner |= {prefix.removesuffix("backbone.") + "dino_head.mlp.0.weight": torch.zeros(2, 2)}
    path = tmp_path / "checkpoint.pth"
    torch.save({wrapper: inner, "epoch": 3, "args": argparse.Namespace(lr=1.0)}, path)
    notes = _same(path, state)
    assert any(wrapper in note for note in notes)


def test_the_teacher_is_taken_before_the_student(tmp_path: Path, state: State) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"student": {"x": torch.zeros(1)}, "teacher": state}, path)
    assert "taken from the entry 'teacher' (not student)" in _same(path, state)


def test_half_precision_is_converted_and_said(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({key: value.bfloat16() for key, value in state.items()}, path)
    backbone = load_backbone("tiny", weights=path)
    assert {value.dtype for value in backbone.module.state_dict().values()} == {torch.float32}
    assert "converted from bfloat16 to float32" in backbone.weights.notes


def test_loaded_weights_do_not_hang_on_the_file(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    backbone = load_backbone("tiny", weights=path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(backbone.module.state_dict()["norm.weight"], state["norm.weight"])


class _Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


def test_a_file_with_code_is_not_run(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": state, "hook": _Command()}, path)
    with pytest.raises(WeightsError, match="run code") as caught:
        load_backbone("tiny", weights=path)
    assert "state_dict" in caught.value.fix


@pytest.mark.parametrize("kind", ["safetensors", "zip", "text", "empty"])
def test_damaged_files(tmp_path: Path, state: State, kind: str) -> None:
    path = tmp_path / "weights"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "zip":
        torch.save(state, path)
    else:
        path.write_text("no weights at all, only words" if kind == "text" else "")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if kind in ("safetensors", "zip") else content)
    with pytest.raises(WeightsError, match="cannot be read as"):
        load_backbone("tiny", weights=path)


def test_a_file_without_tensors(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="no state dict"):
        load_backbone("tiny", weights=path)


def test_half_a_checkpoint_is_refused_with_its_keys(tmp_path: Path, state: State) -> None:
    path = tmp_path / "half.safetensors"
    save_file({k: v for k, v in state.items() if not k.startswith("blocks.2.")}, path)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_backbone("tiny", weights=path)
    assert "Missing in the file (14 tensors)" in caught.value.problem
    assert "blocks.2.attn.qkv.weight" in caught.value.problem
    assert "incomplete" in caught.value.fix


def test_another_architecture_is_refused_with_keys_shapes_and_advice(
    tmp_path: Path, state: State
) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file(state, path)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_backbone("vits14_reg", weights=path)
    problem = caught.value.problem
    assert "reg_token" in problem
    assert "blocks.{3-11}.attn.qkv.weight" in problem
    assert "blocks.{0-2}.norm1.weight: file 48, needed 384" in problem
    assert "Try --model tiny" in caught.value.fix


@pytest.mark.parametrize(
    ("given", "asked"), [("vits14", "vits14_reg"), ("vits14_reg", "vits14"), ("vits14", "dino_s8")]
)
def test_registers_make_another_model(tmp_path: Path, given: str, asked: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(load_backbone(given, weights="random").module.state_dict(), path)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_backbone(asked, weights=path)
    assert caught.value.fix.endswith(f"Try --model {given}")


def test_an_unknown_tensor_is_refused(tmp_path: Path, state: State) -> None:
    path = tmp_path / "more.safetensors"
    save_file({**state, "adapter.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointMismatchError, match=r"Unknown .*\n  adapter\.weight"):
        load_backbone("tiny", weights=path)


def test_a_bias_that_the_architecture_lacks_may_only_be_zero(
    tmp_path: Path, shrink: Callable[..., BackboneSpec]
) -> None:
    shrink("dinov3_s16", native_size=64)
    given = dict(load_backbone("tiny", weights="random").module.state_dict())
    path = tmp_path / "biased.safetensors"
    for index in range(3):
        query = given.pop(f"blocks.{index}.attn.q_bias")
        value = given.pop(f"blocks.{index}.attn.v_bias")
        given[f"blocks.{index}.attn.qkv.bias"] = torch.cat((query, torch.ones_like(query), value))
    save_file(given, path)
    with pytest.raises(CheckpointMismatchError, match=r"attn\.k_bias"):
        load_backbone("tiny", weights=path)


def test_nan_is_refused(tmp_path: Path, state: State) -> None:
    path = tmp_path / "nan.safetensors"
    save_file({**state, "norm.bias": torch.full((48,), float("nan"))}, path)
    with pytest.raises(WeightsError, match=r"norm\.bias .* NaN"):
        load_backbone("tiny", weights=path)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda value: value.to(torch.int8), "int8"),
        (lambda value: value.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda value: value.to(torch.complex64), "complex64"),
        (lambda value: value.to_sparse(), "sparse"),
        (lambda value: value.to("meta"), "empty"),
        (lambda value: value, None),
    ],
)
def test_rounded_weights_are_not_taken_for_numbers(
    tmp_path: Path, state: State, form: Callable[[torch.Tensor], torch.Tensor], words: str | None
) -> None:
    """Eight bits without their scale load into any module and mean nothing."""
    path = tmp_path / "weights.pth"
    key = "blocks.1.mlp.fc1.weight"
    torch.save({**state, key: form(state[key])}, path)
    if words is None:
        _same(path, state)
        return
    with pytest.raises(WeightsError, match=rf"{key} in weights\.pth is {words}") as caught:
        load_backbone("tiny", weights=path)
    assert "--precision" in caught.value.fix


def test_an_empty_file_is_called_so(tmp_path: Path, state: State) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(WeightsError, match="it is empty"):
        load_backbone("tiny", weights=tmp_path / "weights.pth")


@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_no_damage_ends_in_a_traceback(tmp_path: Path, form: str) -> None:
    """Cut or with bytes changed at random, from fixed seeds: a WeightsError, or other numbers."""
    whole, path = tmp_path / "whole", tmp_path / "weights.pth"
    layer = {f"layers.{n}.weight": torch.ones(2) for n in range(3)}
    if form == "safetensors":
        save_file(layer, whole)
    else:
        torch.save({"model": layer}, whole, _use_new_zipfile_serialization=form == "zip")
    content, draw = whole.read_bytes(), np.random.default_rng(0)
    for attempt in range(60):
        damaged = bytearray(content)
        for place in draw.integers(len(content), size=8):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged[: draw.integers(len(content))] if attempt % 3 == 0 else damaged)
        with contextlib.suppress(WeightsError):
            read_checkpoint(find_weights(path))


def test_block_numbers_are_condensed() -> None:
    keys = [f"blocks.{n}.norm.weight" for n in (0, 1, 2, 5)] + ["cls_token", "blocks.7.x"]
    assert condense(keys) == ["cls_token", "blocks.{0-2,5}.norm.weight", "blocks.7.x"]


@pytest.mark.parametrize(
    ("entry", "prefix", "others"),
    [
        ("teacher", "backbone.", ["head.mlp.0.weight", "head.last_layer.weight_g"]),  # DINO
        ("student", "module.backbone.", ["module.head.mlp.0.weight"]),  # DINO
        ("target_encoder", "module.", ["module.fc.fc1.weight", "module.fc.bn1.bias"]),  # MSN
        ("state_dict", "model.", ["criterion.weight", "head.weight"]),  # Lightning
        ("state_dict", "model.backbone.", ["model.head.weight"]),
        ("state_dict", "net.", []),
        ("state_dict", "teacher_backbone.", ["student_backbone.patch_embed.proj.weight"]),
    ],
)
def test_a_backbone_inside_a_larger_model(
    tmp_path: Path, state: State, entry: str, prefix: str, others: list[str]
) -> None:
    inner = {prefix + key: value for key, value in state.items()}
    inner |= {other: torch.ones(2) for other in others}
    path = tmp_path / "checkpoint.pth"
    torch.save({entry: inner, "prototypes": torch.zeros(3), "epoch": 1}, path)
    _same(path, state)


def test_the_target_encoder_is_taken_before_the_encoder(tmp_path: Path, state: State) -> None:
    other = {key: value + 1 for key, value in state.items()}
    path = tmp_path / "msn.pth"
    torch.save({"encoder": other, "target_encoder": state}, path)
    assert any("target_encoder" in note for note in _same(path, state))


def test_two_backbones_are_the_users_choice(tmp_path: Path, state: State) -> None:
    both = {f"{p}.{key}": value for p in ("online", "momentum") for key, value in state.items()}
    path = tmp_path / "byol.pth"
    torch.save({"state_dict": both}, path)
    with pytest.raises(WeightsError, match=r"2 backbones .* momentum\.\*, online\.\*"):
        load_backbone("tiny", weights=path)


def test_half_a_backbone_inside_a_larger_model_is_refused(tmp_path: Path, state: State) -> None:
    inner = {f"net.{key}": value for key, value in state.items() if "blocks.2" not in key}
    path = tmp_path / "checkpoint.pth"
    torch.save(inner | {"head.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointMismatchError, match=r"blocks\.2\.norm1\.weight"):
        load_backbone("tiny", weights=path)


def test_a_best_score_of_numpy_is_no_code(tmp_path: Path, state: State) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": state, "best": np.float64(0.5), "epoch": np.int64(3)}, path)
    _same(path, state)


def test_patches_of_another_side_are_refused(
    tmp_path: Path, shrink: Callable[..., BackboneSpec]
) -> None:
    """timm's converter would resample the patch embedding: no such weights were ever trained."""
    shrink("vits14_reg")
    given = dict(load_backbone("tiny", weights="random").module.state_dict())
    given["patch_embed.proj.weight"] = torch.randn(48, 3, 16, 16)
    path = tmp_path / "patch16.pth"
    torch.save(given, path)
    with pytest.raises(CheckpointMismatchError, match="48x3x16x16, needed 48x3x14x14"):
        load_backbone("tiny", weights=path)


def test_what_timm_resamples_is_said(tmp_path: Path) -> None:
    """Relative positions of another window, as timm's own loading of Swin treats them."""
    name = "swin_tiny_patch4_window7_224"
    other = timm.create_model(name, num_classes=0, window_size=4, img_size=256).state_dict()
    torch.save(dict(other), tmp_path / "swin.pth")
    notes = load_backbone(name, weights=tmp_path / "swin.pth").weights.notes
    assert any(
        note.startswith("resampled by timm: layers.{0-3}.blocks.0.attn.relative_position")
        for note in notes
    )


@pytest.mark.parametrize("form", [torch.int8, torch.uint8])
def test_weights_that_bitsandbytes_rounded_are_called_so(
    tmp_path: Path, state: State, form: torch.dtype
) -> None:
    """Their scales lie beside them, packed ones have another shape: neither is the fault."""
    key = "blocks.1.mlp.fc1.weight"
    given = {**state, key: torch.zeros(state[key].numel() // 2, 1, dtype=form)}
    given |= {f"{key}.absmax": torch.ones(9), key.replace("weight", "SCB"): torch.ones(192)}
    torch.save(given, tmp_path / "rounded.bin")
    with pytest.raises(WeightsError, match=rf"{key} in rounded\.bin is u?int8") as caught:
        load_backbone("tiny", weights=tmp_path / "rounded.bin")
    assert "--precision" in caught.value.fix
