"""Checkpoints in shards, as Hugging Face cuts them: merged, checked against their index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import save_torch_state_dict
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file

from dinorad_rt.backbones import hub
from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.campaign.cells import content_of
from dinorad_rt.errors import WeightsError

State = dict[str, torch.Tensor]


@pytest.fixture
def state(shrink: Callable[..., BackboneSpec]) -> State:
    """A complete state dict of the tiny DINOv2 in timm's names."""
    shrink("vits14")
    return dict(load_backbone("tiny", weights="random", seed=5).module.state_dict())


def _cut(state: State, folder: Path, *, safe: bool = True) -> list[Path]:
    """Shards of at most 100 KB by the hub's own function, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    save_torch_state_dict(state, folder, max_shard_size="100KB", safe_serialization=safe)
    shards = sorted(folder.glob("*-of-*"))
    assert len(shards) > 2
    return shards


def _index(folder: Path) -> Path:
    (path,) = folder.glob("*.index.json")
    return path


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("give", ["folder", "index"])
def test_shards_are_merged(tmp_path: Path, state: State, safe: bool, give: str) -> None:
    shards = _cut(state, tmp_path, safe=safe)
    backbone = load_backbone("tiny", weights=tmp_path if give == "folder" else _index(tmp_path))
    loaded = backbone.module.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert f"read from {len(shards)} shards" in backbone.weights.notes
    assert backbone.weights.source == _index(tmp_path).name


def test_their_hash_is_of_all_shards(tmp_path: Path, state: State) -> None:
    shards = _cut(state, tmp_path)
    before = load_backbone("tiny", weights=tmp_path).weights.sha256
    assert content_of(str(tmp_path)) == before
    last = load_file(shards[-1])
    save_file({key: value + 1 for key, value in last.items()}, shards[-1])
    assert load_backbone("tiny", weights=tmp_path).weights.sha256 != before


def test_missing_shards_are_named(tmp_path: Path, state: State) -> None:
    shards = _cut(state, tmp_path)
    for shard in shards[1:3]:
        shard.unlink()
    with pytest.raises(WeightsError, match="2 are missing") as caught:
        load_backbone("tiny", weights=tmp_path)
    assert all(shard.name in caught.value.problem for shard in shards[1:3])
    assert shards[0].name not in caught.value.problem
    assert caught.value.exit_code == 2


def test_one_shard_alone_is_refused(tmp_path: Path, state: State) -> None:
    shards = _cut(state, tmp_path)
    with pytest.raises(WeightsError, match=f"shard 2 of {len(shards)}") as caught:
        load_backbone("tiny", weights=shards[1])
    assert caught.value.fix.endswith(f"--weights {tmp_path}")
    _index(tmp_path).unlink()
    with pytest.raises(WeightsError) as caught:
        load_backbone("tiny", weights=shards[1])
    assert "model.safetensors.index.json" in caught.value.fix


def test_shards_without_an_index_are_refused(tmp_path: Path, state: State) -> None:
    _cut(state, tmp_path)
    _index(tmp_path).unlink()
    with pytest.raises(WeightsError, match=r"not model\.safetensors\.index\.json"):
        load_backbone("tiny", weights=tmp_path)


def test_a_shard_that_is_the_only_one_is_a_file(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model-00001-of-00001.safetensors"
    save_file(state, path)
    assert load_backbone("tiny", weights=path).weights.source == path.name


def test_index_and_shards_of_two_checkpoints(tmp_path: Path, state: State) -> None:
    shards = _cut(state, tmp_path)
    last = load_file(shards[-1])
    first = min(last)
    save_file({key: value for key, value in last.items() if key != first}, shards[-1])
    with pytest.raises(WeightsError, match="1 are not in their shards") as caught:
        load_backbone("tiny", weights=tmp_path)
    assert first in caught.value.problem


def test_what_the_index_does_not_name_is_left_out_aloud(tmp_path: Path, state: State) -> None:
    shards = _cut(state, tmp_path)
    save_file({**load_file(shards[0]), "optimiser.step": torch.zeros(1)}, shards[0])
    notes = load_backbone("tiny", weights=tmp_path).weights.notes
    assert "left out: tensors that the index does not name (1)" in notes


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..", "a\\b", ""])
def test_an_index_names_files_beside_it_only(tmp_path: Path, state: State, name: str) -> None:
    _cut(state, tmp_path)
    index = _index(tmp_path)
    document = json.loads(index.read_text())
    document["weight_map"]["norm.weight"] = name
    index.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="no file beside it"):
        load_backbone("tiny", weights=tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index(tmp_path: Path, state: State, text: str) -> None:
    _cut(state, tmp_path)
    _index(tmp_path).write_text(text)
    with pytest.raises(WeightsError, match="no index of a checkpoint in shards"):
        load_backbone("tiny", weights=tmp_path)


def test_a_folder_with_a_file_of_another_name_names_it(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsError) as caught:
        load_backbone("tiny", weights=tmp_path)
    assert caught.value.fix.endswith(f"--weights {tmp_path / 'checkpoint.pth'}")


def test_shards_in_the_hubs_cache(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--timm--vit_small_patch14_dinov2.lvd142m"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    shards = _cut(state, folder / "snapshots" / "abc")
    assert load_backbone("tiny", weights="hub").weights.kind == "hub"
    shards[1].unlink()
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        load_backbone("tiny", weights="hub")


def test_shards_are_fetched_with_their_index(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = tmp_path / "remote"
    shards = _cut(state, remote)

    def download(repository: str, file: str, **_: object) -> str:
        if not (remote / file).is_file():
            raise EntryNotFoundError("absent")
        return str(shutil.copy(remote / file, tmp_path / file))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_probe", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    shards[2].rename(tmp_path / "aside")
    with pytest.raises(WeightsError, match=f"not {shards[2].name}"):
        hub.fetch(get_spec("tiny"))
    (tmp_path / "aside").rename(shards[2])
    assert hub.fetch(get_spec("tiny")) == tmp_path / "model.safetensors.index.json"
    assert load_backbone("tiny", weights="hub").weights.kind == "hub"
