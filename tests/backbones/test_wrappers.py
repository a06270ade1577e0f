"""Checkpoints as training frameworks write them: entries, prefixes and what lies beside tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import WeightsError

State = dict[str, torch.Tensor]


@pytest.fixture
def state(shrink: Callable[..., BackboneSpec]) -> State:
    """A complete state dict of the tiny DINOv2 in timm's names."""
    shrink("vits14")
    return dict(load_backbone("tiny", weights="random", seed=5).module.state_dict())


def _notes(path: Path, content: dict[str, Any], state: State) -> tuple[str, ...]:
    """What loading `content` says; the loaded weights must be those of `state`."""
    torch.save(content, path)
    backbone = load_backbone("tiny", weights=path)
    loaded = backbone.module.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)
    return backbone.weights.notes


@pytest.mark.parametrize(
    "entry",
    # PyTorch's tutorials, MONAI's CheckpointSaver, nnU-Net, BasicSR, and a name of nobody's
    ["model_state_dict", "net", "network_weights", "params_ema", "my_weights"],
)
def test_entries_of_training_frameworks(tmp_path: Path, state: State, entry: str) -> None:
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    content = {
        "epoch": 3,
        entry: state,
        "optimizer_state_dict": optimiser.state_dict(),
        "dino_loss": {"center": torch.zeros(1, 3)},
        "loss": torch.tensor(0.5),
    }
    notes = _notes(tmp_path / "checkpoint.pt", content, state)
    assert any(note.startswith(f"taken from the entry {entry!r}") for note in notes)


def test_averaged_weights_below_their_decay(tmp_path: Path, state: State) -> None:
    content = {"model": {key: value + 1 for key, value in state.items()}}
    ema = {"ema": {"decay": 0.999, "shadow": state}}
    notes = _notes(tmp_path / "checkpoint.pt", content | ema, state)
    assert "taken from the entry 'ema' (not model)" in notes


def test_an_entry_of_settings_is_no_state(tmp_path: Path, state: State) -> None:
    content = {"model": {"name": "vit_small", "depth": 12}, "weights": state}
    assert "taken from the entry 'weights'" in _notes(tmp_path / "weights.pt", content, state)


def test_two_networks_are_the_users_choice(tmp_path: Path, state: State) -> None:
    path = tmp_path / "gan.pt"
    torch.save({"generator": state, "critic": state, "centre": {"x": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match=r"2 networks, .* generator, critic\.") as caught:
        load_backbone("tiny", weights=path)
    assert "--weights" in caught.value.fix


def test_lightning_with_paths_and_metrics(tmp_path: Path, state: State) -> None:
    content = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{key}": value for key, value in state.items()}
        | {"loss.weight": torch.ones(2), "val_auroc.thresholds": torch.ones(5)},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9), "dirpath": "x"}},
        "hyper_parameters": {"lr": 1e-3, "data": Path("/data/x")},
    }
    notes = _notes(tmp_path / "last.ckpt", content, state)
    assert any("loss, val_auroc" in note for note in notes)


def test_arrays_of_scores_are_no_code(tmp_path: Path, state: State) -> None:
    scores = {"confusion": np.eye(3, dtype=np.int64), "auroc": np.zeros(4), "mask": np.ones(2) > 0}
    _notes(tmp_path / "checkpoint.pt", {"model": state, **scores}, state)


def test_dinov2s_training_checkpoint_in_chunks(tmp_path: Path, state: State) -> None:
    """FSDP checkpoints of dinov2: both networks in one dict, blocks.<chunk>.<number>."""
    both = {"dino_loss.center": torch.zeros(1, 2), "teacher.dino_head.mlp.0.weight": torch.ones(2)}
    for key, value in state.items():
        chunked = f"blocks.0.{key.removeprefix('blocks.')}" if key.startswith("blocks.") else key
        both |= {f"teacher.backbone.{chunked}": value, f"student.backbone.{chunked}": value + 1}
    notes = _notes(tmp_path / "model.rank_0.pth", {"model": both, "iteration": 3}, state)
    assert any("teacher.backbone.*" in note for note in notes)


@pytest.mark.parametrize("query", ["base_encoder", "encoder_q"])
def test_moco_is_evaluated_by_its_query_encoder(
    tmp_path: Path, state: State, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """main_lincls.py of facebookresearch/moco and moco-v3 take these keys."""
    monkeypatch.setattr("dinorad_rt.backbones.checkpoints.MOCO_V3_HEADS", 3)
    other = {"base_encoder": "momentum_encoder", "encoder_q": "encoder_k"}[query]
    both = {f"module.{query}.{key}": value for key, value in state.items()}
    both |= {f"module.{other}.{key}": value + 1 for key, value in state.items()}
    content = {"arch": "vit_small", "state_dict": both | {"module.queue": torch.zeros(2, 2)}}
    assert any(f"{query}.*" in note for note in _notes(tmp_path / "moco.pth.tar", content, state))


def test_swavs_heads_are_left_out(tmp_path: Path, state: State) -> None:
    inner = {f"module.{key}": value for key, value in state.items()}
    for head in ("projection_head.0", "prototypes"):
        inner[f"module.{head}.weight"] = torch.ones(2, 2)
    content = {"state_dict": inner}
    assert "left out: training head (2)" in _notes(tmp_path / "swav.pth.tar", content, state)


def test_averaged_weights_beside_are_named(tmp_path: Path, state: State) -> None:
    """MMEngine's EMAHook swaps them: `state_dict` is the average, `ema_state_dict` is not."""
    content = {"state_dict": state, "ema_state_dict": {"module.x": torch.zeros(1)}}
    notes = _notes(tmp_path / "epoch.pth", content, state)
    assert "taken from the entry 'state_dict' (not ema_state_dict)" in notes
