"""`Graph`: an exported graph on disk, with its manifest `graph.json` beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dinorad_rt.errors import ExportError
from dinorad_rt.files import read_json, sha256_file, write_json
from dinorad_rt.types import PRECISIONS, Precision

FORMAT = 1
MANIFEST = "graph.json"
MODEL = "model.onnx"
PROGRAM = "model.pt2"
_NEEDED = {
    **dict.fromkeys(("key", "sha256", "model", "precision"), str),
    **dict.fromkeys(("recipe", "outputs", "files"), dict),
    "format": int,
    "input_shape": list,
    "weights": object,
}
"""Entries of a manifest, and their kinds."""
_AGAIN = "Export it again: dinorad-rt export"


@dataclass(frozen=True)
class Graph:
    """A graph that passed lint and parity.

    Attributes:
        folder: holds model.onnx (and model.onnx.data for large weights), model.pt2, graph.json.
        manifest: what it is, where its weights came from, and the numbers it passed with.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True) -> Graph:
        """Read a graph and compare its files with the manifest.

        Args:
            folder: of the graph.
            verify: also compare contents (about a second per gigabyte), not sizes alone.

        Raises:
            ExportError: no graph, another format, a file that changed, or weights that lie
                outside of the folder.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        files = cast("Mapping[str, Mapping[str, Any]]", manifest["files"])
        for name, facts in files.items():
            path = folder / name
            if Path(name).name != name or path.is_symlink() or not path.is_file():
                raise ExportError(f"The graph in {folder} lacks its file {name}.", _AGAIN)
            size = path.stat().st_size
            same = size == facts["bytes"]
            if not same or (verify and sha256_file(path) != facts["sha256"]):
                raise ExportError(
                    f"The file {name} of the graph in {folder} is not what its manifest says "
                    f"({size} bytes, {facts['bytes']} expected, or other content).",
                    _AGAIN,
                )
        check_external_data(folder / MODEL, allowed=files)
        return cls(folder, manifest)

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL

    @property
    def program_path(self) -> Path:
        """The `torch.export` program; read it with `load_program`."""
        return self.folder / PROGRAM

    @property
    def key(self) -> str:
        """SHA-256 over everything that decides the graph; its folder's name in the cache."""
        return str(self.manifest["key"])

    @property
    def sha256(self) -> str:
        """SHA-256 of the ONNX graph with its weights."""
        return str(self.manifest["sha256"])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(3, H, W) of one image, or (1, D, H, W) of one patch of a volume."""
        return tuple(int(side) for side in self.manifest["input_shape"])

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Output name → shape of one row."""
        return {
            name: tuple(int(side) for side in shape)
            for name, shape in self.manifest["outputs"].items()
        }

    @property
    def precision(self) -> Precision:
        """Precision written into the graph."""
        return cast(Precision, self.manifest["precision"])

    @property
    def model(self) -> str:
        """Name of the backbone."""
        return str(self.manifest["model"])

    @property
    def weights_kind(self) -> str:
        """hub, file or random."""
        return str(self.manifest["weights_kind"])


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> Graph:
    """Write `graph.json` over the files in `folder`, with size and SHA-256 of each."""
    files = {
        path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    digest = hashlib.sha256()
    for name in sorted(files):
        if name.startswith(MODEL):
            digest.update(f"{name} {files[name]['sha256']}\n".encode())
    document = {"format": FORMAT, "sha256": digest.hexdigest(), **facts, "files": files}
    write_json(folder / MANIFEST, document)
    return Graph(folder, read_json(folder / MANIFEST))


def check_external_data(path: Path, *, allowed: Iterable[str]) -> None:
    """Refuse an ONNX file whose weights lie anywhere but in the named files beside it.

    Raises:
        ExportError: with the place that the file names.
    """
    import onnx

    names = set(allowed)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own class, which its versions place differently
        raise ExportError(f"{path.name} is no readable ONNX file: {error}", _AGAIN) from error
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value not in names:
                raise ExportError(
                    f"{path.name} wants to read weights from {entry.value!r}, which is not one of "
                    "its own files.",
                    _AGAIN,
                )


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of an ONNX file, those in attributes, functions and inner graphs too."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in [value] if hasattr(value, "ListFields") else value:
            if field.message_type.name == "TensorProto":
                yield item
            else:
                yield from _tensors(item)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ExportError(
            f"{folder} holds no graph: {MANIFEST} is missing.",
            "Make one: dinorad-rt export --model NAME --out DIR",
        )
    try:
        manifest = read_json(path)
    except (ValueError, OSError) as error:
        raise ExportError(f"{path} cannot be read: {error}", _AGAIN) from error
    if manifest.get("format") != FORMAT:
        raise ExportError(
            f"{path} is of another format ({manifest.get('format')}, expected {FORMAT}).", _AGAIN
        )
    wrong = _wrong(manifest)
    if wrong:
        raise ExportError(
            f"{path} has entries missing or of another kind: {', '.join(wrong)}.", _AGAIN
        )
    return manifest


def _wrong(manifest: Mapping[str, Any]) -> list[str]:
    """Entries that are missing, or do not hold what is read of them."""
    wrong = [name for name, kind in _NEEDED.items() if not isinstance(manifest.get(name), kind)]
    if wrong:
        return wrong
    files = manifest["files"].values()
    good = {
        "precision": manifest["precision"] in PRECISIONS,
        "recipe": "family" in manifest["recipe"],
        "files": all(
            isinstance(facts, dict) and {"sha256", "bytes"} <= set(facts) for facts in files
        ),
    }
    return [name for name, fine in good.items() if not fine]
