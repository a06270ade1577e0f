"""Files of other frameworks given as weights: named by what is in them, with a way out."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch

from dinorad_rt.backbones import foreign
from dinorad_rt.backbones.foreign import foreign_error
from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.engines import manifest as engine_manifest
from dinorad_rt.errors import WeightsError
from dinorad_rt.export import manifest as graph_manifest
from dinorad_rt.prediction.bundle import BUNDLE_FILE
from dinorad_rt.training.run_folder import RUN_FILE


class _Script(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + 1


def _onnx(path: Path, **facts: str) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "graph", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph, **facts), path)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["dense/kernel"] = np.zeros(3)


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{"embedding/kernel": np.zeros(3)})


def _tar(path: Path) -> None:
    path.with_name("inside").write_text("x")
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_name("inside"), "weights.pth")


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


# The last three cannot be written here: their first bytes are those of real files.
# MessagePack by its specification: a map of one entry, a short string and a map below it.
MADE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "onnx": (_onnx, "ONNX graph", "--graph FOLDER"),
    "onnx with a producer": (
        lambda path: _onnx(path, producer_name="pytorch"),
        "ONNX graph",
        "exported from",
    ),
    "hdf5": (_hdf5, "HDF5", "from_tf"),
    "keras": (
        lambda path: _zip(path, "metadata.json", "config.json", "model.weights.h5"),
        "Keras archive",
        "safetensors",
    ),
    "torchscript": (
        lambda path: torch.jit.trace(_Script(), torch.zeros(1)).save(str(path)),
        "TorchScript archive",
        "torch.jit.load",
    ),
    "exported program": (
        lambda path: torch.export.save(
            torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), path
        ),
        "exported program",
        "torch.export.load",
    ),
    "npz": (_npz, "NumPy archive", "timm.create_model"),
    "lfs": (_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS", "git lfs pull"),
    "html": (_bytes(b"<!DOCTYPE html>"), "web page", "Download"),
    "openvino": (
        _bytes(b'<?xml version="1.0"?>\n<net name="Model0" version="11">'),
        "OpenVINO",
        "converted from",
    ),
    "zip": (lambda path: _zip(path, "a/weights.pth"), "ZIP archive", "Unpack"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x")), "gzip", "Unpack"),
    "tar": (_tar, "tar archive", "Unpack"),
    "flax": (_bytes(b"\x81\xa6params\x81\xa4head\x80"), "Flax weights", "from_flax"),
    "gguf": (_bytes(b"GGUF\x03\0\0\0\x23\x01\0\0\0\0\0\0"), "GGUF", "was made from"),
    "tensorrt": (_bytes(b"ftrt\0\0\0\0\xe8\0\0\0\0\0\0\0"), "TensorRT engine", "built from"),
    "tensorrt-rtx": (_bytes(b"vtrt\0\0\0\0\x02\0\0\0\0\0\0\0"), "TensorRT engine", "built from"),
    "tflite": (_bytes(b"\x1c\0\0\0TFL3\x14\0\x20\0"), "TensorFlow Lite", "safetensors"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
@pytest.mark.parametrize("kind", MADE)
def test_other_formats_are_named_by_their_content(
    tmp_path: Path, shrink: Callable[..., BackboneSpec], kind: str
) -> None:
    shrink("vits14")
    make, what, fix = MADE[kind]
    path = tmp_path / "weights.pt"
    if kind == "exported program":
        path = tmp_path / "weights.pt2"  # torch refuses to write it under another suffix
    make(path)
    with pytest.raises(WeightsError, match=what) as caught:
        load_backbone("tiny", weights=path)
    assert fix in caught.value.fix
    assert path.name in caught.value.problem


def test_a_saved_model_is_a_folder(tmp_path: Path, shrink: Callable[..., BackboneSpec]) -> None:
    shrink("vits14")
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x05\n\x03\x12\x01x")
    for path in (tmp_path, tmp_path / "saved_model.pb"):
        with pytest.raises(WeightsError, match="TensorFlow SavedModel") as caught:
            load_backbone("tiny", weights=path)
        assert "PyTorch" in caught.value.fix


def test_a_folder_of_another_framework_says_what_lies_in_it(
    tmp_path: Path, shrink: Callable[..., BackboneSpec]
) -> None:
    shrink("vits14")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "flax_model.msgpack").write_bytes(b"\x81\xa6params\x80")
    with pytest.raises(WeightsError, match=r"flax_model\.msgpack is .*Flax"):
        load_backbone("tiny", weights=tmp_path)


def test_folders_of_this_tool_are_told_from_weights(
    tmp_path: Path, shrink: Callable[..., BackboneSpec]
) -> None:
    shrink("vits14")
    names = (RUN_FILE, graph_manifest.MANIFEST, engine_manifest.MANIFEST, BUNDLE_FILE)
    assert set(names) == set(foreign._OURS)
    for name in names:
        folder = tmp_path / name.removesuffix(".json")
        folder.mkdir()
        (folder / name).write_text("{}")
        with pytest.raises(WeightsError, match="no weights") as caught:
            load_backbone("tiny", weights=folder)
        assert caught.value.fix == foreign._OURS[name][1]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("entry", [None, "state_dict"])
def test_pytorch_files_are_not_taken_for_another_format(
    tmp_path: Path, zipped: bool, entry: str | None
) -> None:
    state = torch.nn.Linear(2, 2).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(
        state if entry is None else {entry: state}, path, _use_new_zipfile_serialization=zipped
    )
    assert foreign_error(path) is None


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"Access to model owner/model is restricted. You must be logged in.\n", "is restricted"),
        (b'{"error": "Repository not found"}', "Repository not found"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
        (b"x" * 5000, "x ..."),
    ],
)
@pytest.mark.parametrize("file", ["weights.pth", "model.safetensors"])
def test_what_a_server_answers_in_a_files_place(
    tmp_path: Path, shrink: Callable[..., BackboneSpec], file: str, answer: bytes, shown: str
) -> None:
    shrink("vits14")
    (tmp_path / file).write_bytes(answer)
    with pytest.raises(WeightsError, match="it is plain text") as caught:
        load_backbone("tiny", weights=tmp_path / file)
    assert shown in caught.value.problem
    assert len(caught.value.problem) < 200
    assert "login" in caught.value.fix
