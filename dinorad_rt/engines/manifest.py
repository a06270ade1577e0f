"""`Engine`: a built engine on disk and the JSON manifest beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dinorad_rt.errors import CacheError
from dinorad_rt.files import read_json, sha256_file
from dinorad_rt.types import Precision

MANIFEST = "engine.json"
FORMAT = 1
"""Raised whenever a stored engine can no longer be read as before; part of every key."""

REQUIRED = (
    *("format", "key", "backend", "backend_version", "precision", "batch", "input_shape"),
    *("outputs", "graph_sha256", "model", "weights", "weights_kind", "settings", "files"),
)


@dataclass(frozen=True)
class Engine:
    """A built engine: a folder with the backend's files and `engine.json`.

    Attributes:
        folder: where it lies.
        manifest: what it is; plain values, no path and no name of the machine.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Engine:
        """Read the manifest and check that every file is there with its size.

        Raises:
            CacheError: no manifest, another format, or a file missing or of another size.
        """
        try:
            manifest = read_json(folder / MANIFEST)
        except (OSError, ValueError, json.JSONDecodeError) as error:
            raise _damaged(folder, f"its {MANIFEST} cannot be read ({error})") from error
        missing = [key for key in REQUIRED if key not in manifest]
        if missing or manifest["format"] != FORMAT:
            raise _damaged(folder, f"its {MANIFEST} is of another version of dinorad-rt")
        engine = cls(folder, manifest)
        if not _lists_files(manifest["files"]):
            raise _damaged(folder, f"its {MANIFEST} does not list its files")
        for name, facts in engine.files.items():
            path = engine.file(name)
            if not path.is_file():
                raise _damaged(folder, f"{name} is missing")
            if path.stat().st_size != facts["bytes"]:
                raise _damaged(
                    folder, f"{name} has {path.stat().st_size} bytes, not {facts['bytes']}"
                )
        return engine

    def verify(self) -> None:
        """Compare every file with its SHA-256: an engine is code, a changed one is never loaded.

        Raises:
            CacheError: a file's content is not what the manifest says.
        """
        for name, facts in self.files.items():
            path = self.file(name)
            if not path.is_file():
                raise _damaged(self.folder, f"{name} is missing")
            found = sha256_file(path)
            if found != facts["sha256"]:
                raise _damaged(
                    self.folder, f"{name} has sha256 {found[:12]}…, not {facts['sha256'][:12]}…"
                )

    def file(self, name: str) -> Path:
        """Path of one of the engine's files.

        Raises:
            CacheError: the manifest names a file outside the engine's folder.
        """
        if Path(name).name != name:
            raise _damaged(self.folder, f"its manifest names {name!r}, outside its folder")
        return self.folder / name

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """File name → `sha256` and `bytes`."""
        return cast("Mapping[str, Mapping[str, Any]]", self.manifest["files"])

    @property
    def key(self) -> str:
        """SHA-256 over everything that decides the engine; the name of its folder."""
        return str(self.manifest["key"])

    @property
    def backend(self) -> str:
        """What runs it."""
        return str(self.manifest["backend"])

    @property
    def precision(self) -> Precision:
        """Precision that was asked for and proven."""
        return cast("Precision", self.manifest["precision"])

    @property
    def batch(self) -> int:
        """Rows per call."""
        return int(self.manifest["batch"])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row of `pixel_values`: (3, height, width), or (1, slices, height, width)."""
        return tuple(int(side) for side in self.manifest["input_shape"])

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Output name → shape of one row."""
        items = self.manifest["outputs"].items()
        return {str(name): tuple(map(int, shape)) for name, shape in items}

    @property
    def graph_sha256(self) -> str:
        """Content hash of the graph it was built from."""
        return str(self.manifest["graph_sha256"])

    @property
    def model(self) -> str:
        """Name of the backbone."""
        return str(self.manifest["model"])

    @property
    def weights(self) -> dict[str, Any]:
        """Facts of the weights, as the graph's manifest has them."""
        return dict(self.manifest["weights"])

    @property
    def weights_kind(self) -> str:
        """`hub`, `file` or `random`."""
        return str(self.manifest["weights_kind"])

    @property
    def settings(self) -> dict[str, Any]:
        """What the backend resolved the profile to: streams, threads, device, hints."""
        return dict(self.manifest["settings"])

    @property
    def bytes_on_disk(self) -> int:
        """Size of the engine's files."""
        return sum(int(facts["bytes"]) for facts in self.files.values())


def _damaged(folder: Path, what: str) -> CacheError:
    return CacheError(
        f"The engine {folder.name[:12]}… cannot be used: {what}.",
        "Remove it and build again: dinorad-rt cache prune engines",
    )


def _lists_files(files: Any) -> bool:
    facts = files.values() if isinstance(files, dict) else [None]
    return all(isinstance(item, dict) and {"sha256", "bytes"} <= set(item) for item in facts)
