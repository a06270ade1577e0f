"""What is said of weights that do not fit: what they are, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError, WeightsError

State = dict[str, torch.Tensor]


@pytest.fixture
def state(shrink: Callable[..., BackboneSpec]) -> State:
    """A complete state dict of the tiny DINOv2 in timm's names."""
    shrink("vits14")
    return dict(load_backbone("tiny", weights="random", seed=5).module.state_dict())


def _refused(folder: Path, given: State, name: str = "tiny") -> CheckpointMismatchError:
    path = folder / "weights.pth"
    torch.save(given, path)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_backbone(name, weights=path)
    assert caught.value.exit_code == 2
    return caught.value


def test_a_head_alone(tmp_path: Path, state: State) -> None:
    """dinov2_vits14_linear_head.pth and heads of one's own."""
    head = {"weight": torch.zeros(9, 768), "bias": torch.zeros(9)}
    for given in (head, {f"head.{key}": value for key, value in head.items()}):
        assert "head alone" in _refused(tmp_path, given).fix


def test_a_head_alone_of_a_network_with_batch_norms(tmp_path: Path) -> None:
    error = _refused(tmp_path, {"fc.weight": torch.zeros(2, 512)}, "resnet18")
    assert "head alone" in error.fix
    assert len(error.problem.splitlines()) == 1


def test_adapters_alone(tmp_path: Path, state: State) -> None:
    key = "base_model.model.blocks.{}.attn.qkv.lora_{}.weight"
    given = {key.format(n, part): torch.zeros(4, 48) for n in range(3) for part in "AB"}
    error = _refused(tmp_path, given)
    assert "merge_and_unload" in error.fix
    assert "blocks.{0-2}.attn.qkv.lora_A.weight" in error.problem


def test_names_of_another_library_are_shown_not_listed(tmp_path: Path, state: State) -> None:
    """Swin of transformers: hundreds of names of which none can fit."""
    given = {
        f"stage{stage}.{layer}.{part}.weight": torch.zeros(2, 2, 3, 3)
        for stage in range(4)
        for layer in range(9)
        for part in ("patch_embed.proj", "kernel")
    }
    error = _refused(tmp_path, given)
    assert f"Not one of its {len(given)} tensors" in error.problem
    assert len(error.problem.splitlines()) == 2
    assert "another library" in error.fix


def test_another_number_of_channels(tmp_path: Path) -> None:
    """torchxrayvision's DenseNet takes one channel, from -1024 to 1024."""
    given = timm.create_model("densenet121", num_classes=18, in_chans=1).state_dict()
    error = _refused(tmp_path, given, "densenet121")
    assert "features.conv0.weight: file 64x1x7x7, needed 64x3x7x7" in error.problem
    assert "takes 1 channel" in error.fix
    assert "3 channels" in error.fix


def test_a_classifier_fine_tuned_on_the_mean_of_patches(tmp_path: Path, state: State) -> None:
    """main_finetune.py of facebookresearch/mae with --global_pool."""
    given = {
        key.replace("norm.", "fc_norm.", 1) if key.startswith("norm.") else key: value
        for key, value in state.items()
    }
    error = _refused(tmp_path, {**given, "head.weight": torch.zeros(9, 48)})
    assert "before the fine-tuning" in error.fix


def test_no_other_model_is_named_where_its_shapes_are_the_same(
    tmp_path: Path, state: State
) -> None:
    """Another model of this width and patch would lack the same tensors."""
    del state["blocks.1.norm1.weight"]
    state["blocks.1.extra.weight"] = torch.zeros(1)
    assert "--model dino" not in _refused(tmp_path, state).fix
    given = timm.create_model("vit_base_patch16_224", num_classes=0).state_dict()
    given["extra"] = torch.zeros(1)
    fix = _refused(tmp_path, dict(given), "vit_base_patch16_224.mae").fix
    assert fix == "Give --model the architecture of this file; see all: dinorad-rt list models"


def test_adapters_that_are_not_merged(tmp_path: Path, state: State) -> None:
    """state_dict() of a peft model: the backbone with its adapters beside it."""
    given = {}
    for key, value in state.items():
        given[f"base_model.model.{key.replace('qkv.', 'qkv.base_layer.')}"] = value
        if key.endswith("qkv.weight"):
            given[f"base_model.model.{key.replace('qkv.', 'qkv.lora_A.default.')}"] = value[:4]
    assert "merge_and_unload" in _refused(tmp_path, given).fix


@pytest.mark.parametrize("base", [True, False], ids=["beside its base", "alone"])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_the_folder_of_an_adapter(tmp_path: Path, state: State, base: bool, name: str) -> None:
    """The base alone would load without a complaint, and is not what was trained."""
    (tmp_path / name).touch()
    if base:
        torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=rf"holds {name}, an adapter of peft") as caught:
        load_backbone("tiny", weights=tmp_path)
    assert "merge_and_unload" in caught.value.fix
    file = tmp_path / "pytorch_model.bin"
    assert (f"Without the adapter: --weights {file}" in caught.value.fix) == base
    if base:
        load_backbone("tiny", weights=file)


def test_networks_of_volumes_are_called_so(tmp_path: Path, state: State) -> None:
    """CT-FM (project-lighter/ct_fm): a SegResNet's encoder of MONAI."""
    monai = pytest.importorskip("monai.networks.nets")
    given = monai.SegResNet(spatial_dims=3, init_filters=8, in_channels=1).state_dict()
    for content in (dict(given), {"encoder": dict(given)}):
        error = _refused(tmp_path, content)
        assert error.problem.endswith("They are of a 3-D network.")
        assert "take slices" in error.fix
