"""What people give for weights and what is something else: named by its content. No torch here.

Magic bytes: HDF5 file format 3.0 II.A, GGUF, MessagePack's map types, ONNX's and TensorFlow's
protobuf messages, TensorRT's plan header, and the entries of ZIP archives.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from dinorad_rt.errors import WeightsError

_HEAD = 512
_FROM_PUBLISHER = (
    "Most publishers also offer the model as safetensors or PyTorch weights: give those."
)
_WITH_TRANSFORMERS = (
    "transformers 4 with {extra} installed converts a model of the Hugging Face hub: "
    "AutoModel.from_pretrained(FOLDER, {flag}=True).save_pretrained(NEW), then --weights NEW. "
    "Otherwise look for the publisher's safetensors or PyTorch weights."
)
_UNPACK = "Unpack it and give the checkpoint file in it to --weights."

_KINDS: dict[str, tuple[str, str]] = {
    "lfs": (
        "no checkpoint, but what Git LFS stores in its place",
        "Fetch the file itself: git lfs pull",
    ),
    "html": ("a web page, no checkpoint", "Download the file itself, not its page."),
    "hdf5": (
        "an HDF5 file (the form of Keras and TensorFlow weights), which is not read",
        _WITH_TRANSFORMERS.format(extra="TensorFlow", flag="from_tf"),
    ),
    "keras": (
        "a Keras archive (network and weights of Keras in one), which is not read",
        f"dinorad-rt takes weights of PyTorch models. {_FROM_PUBLISHER}",
    ),
    "saved_model": (
        "a TensorFlow SavedModel, which is not read",
        f"dinorad-rt takes weights of PyTorch models. {_FROM_PUBLISHER}",
    ),
    "tflite": (
        "a TensorFlow Lite model (weights rounded for phones), which is not read",
        f"dinorad-rt takes weights of PyTorch models. {_FROM_PUBLISHER}",
    ),
    "msgpack": (
        "a MessagePack file (the form of Flax weights), which is not read",
        _WITH_TRANSFORMERS.format(extra="Flax", flag="from_flax"),
    ),
    "gguf": (
        "a GGUF file (llama.cpp's form, its weights mostly rounded to few bits), which is not read",
        "Give the safetensors or PyTorch weights that it was made from; dinorad-rt rounds them "
        "itself where asked (--precision).",
    ),
    "onnx": (
        "an ONNX graph: the network and its weights under the exporter's names",
        "Give the safetensors or PyTorch weights that it was exported from; dinorad-rt exports "
        "them itself. A graph of its own export goes to dinorad-rt build --graph FOLDER.",
    ),
    "tensorrt": (
        "a TensorRT engine: compiled for one GPU, its weights cannot be taken out again",
        "Give the safetensors or PyTorch weights that it was built from: dinorad-rt build --model "
        "NAME --weights PATH --backend tensorrt",
    ),
    "openvino": (
        "an OpenVINO network",
        "Give the safetensors or PyTorch weights that it was converted from: dinorad-rt build "
        "--model NAME --weights PATH --backend openvino",
    ),
    "numpy": (
        "a NumPy archive (the form of the JAX releases of ViT and BiT), which is not read",
        "Load it with timm and save what came of it: timm.create_model(NAME, "
        "checkpoint_path=FILE), then torch.save(model.state_dict(), PATH) for --weights.",
    ),
    "torchscript": (
        "a TorchScript archive (the form of OpenAI's CLIP): code and weights in one. Only tensors "
        "are read, so it was not loaded",
        "If you trust it, save its weights alone, torch.save(torch.jit.load(FILE, "
        "map_location='cpu').state_dict(), PATH), and give that file to --weights.",
    ),
    "program": (
        "an exported program of torch.export: code and weights in one. Only tensors are read, so "
        "it was not loaded",
        "If you trust it, save its weights alone, torch.save(torch.export.load(FILE).state_dict, "
        "PATH), and give that file to --weights.",
    ),
    "zip": ("a ZIP archive of other files", _UNPACK),
    "gzip": ("a file packed with gzip", _UNPACK),
    "tar": ("a tar archive", _UNPACK),
}
"""What it is → the words after "is", and the way out."""

_MAGIC: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("lfs", re.compile(rb"version https://git-lfs")),
    ("html", re.compile(rb"\s*(?i:<!doctype|<html)")),
    ("openvino", re.compile(rb"\s*<\?xml.{0,200}?<net\b", re.DOTALL)),
    ("hdf5", re.compile(rb"\x89HDF\r\n\x1a\n")),
    ("gguf", re.compile(rb"GGUF")),
    ("tflite", re.compile(rb".{4}TFL3", re.DOTALL)),
    ("tensorrt", re.compile(rb"[fpv]trt")),
    ("saved_model", re.compile(rb"\x08\x01\x12")),  # schema version 1, meta_graphs
    ("onnx", re.compile(rb"\x08[\x03-\x20][\x12\x1a\x22\x28\x32\x3a]")),  # IR version, next field
    ("msgpack", re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9]", re.DOTALL)),
    ("gzip", re.compile(rb"\x1f\x8b")),
    ("tar", re.compile(rb".{257}ustar", re.DOTALL)),
)

_TEXT = re.compile(rb"(?!PK)[\t\n\r\x20-\x7e]{9,}\Z")
_SHOWN = 80

_OURS = {
    "train.json": ("the run folder of dinorad-rt train", "Give it as --checkpoint, not --weights."),
    "graph.json": (
        "the folder of an exported graph",
        "Build an engine from it: dinorad-rt build --graph FOLDER",
    ),
    "engine.json": ("the folder of an engine", "Give the weights that it was built from."),
    "bundle.json": (
        "the folder of a bundle",
        "Use it: dinorad-rt predict FOLDER DIR --out DIR; --weights takes what it was made from.",
    ),
}


def foreign_error(path: Path) -> WeightsError | None:
    """The error for a file that is known and is no checkpoint; None where it may be one."""
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
    kind = next((name for name, magic in _MAGIC if magic.match(head)), None)
    if kind is None and head.startswith(b"PK"):
        kind = _archive_kind(path)
    if kind is None and _TEXT.match(head):
        return _text_error(path.name, head)
    return None if kind is None else _error(path.name, kind)


def foreign_folder_error(folder: Path) -> WeightsError | None:
    """The error for a folder that is known and holds no checkpoint; None where it may."""
    if (folder / "saved_model.pb").is_file():
        return _error(f"The folder {folder}", "saved_model")
    for file, (what, fix) in _OURS.items():
        if (folder / file).is_file():
            return WeightsError(f"The folder {folder} is {what}, no weights.", fix)
    return None


def _error(name: str, kind: str) -> WeightsError:
    what, fix = _KINDS[kind]
    return WeightsError(f"{name} is {what}.", fix)


def _text_error(name: str, head: bytes) -> WeightsError:
    """For what a server answers in a file's place: no access, not found."""
    words = " ".join(head.decode("ascii").split())
    more = " ..." if len(words) > _SHOWN else ""
    return WeightsError(
        f"{name} cannot be read as a checkpoint, it is plain text: {words[:_SHOWN]}{more}",
        "Download the file again. Where a hub asks for a login or for its licence to be accepted, "
        "it sends such an answer in the file's place.",
    )


def _archive_kind(path: Path) -> str | None:
    """What a ZIP archive holds; None for a PyTorch file, and for one that is cut short."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return None
    ends = {name.rpartition("/")[2] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        return "numpy"
    if "constants.pkl" in ends:
        return "torchscript"
    if "archive_format" in ends:
        return "program"
    if any(name.endswith(".weights.h5") for name in names):
        return "keras"
    return None if "data.pkl" in ends else "zip"
