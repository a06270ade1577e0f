"""An engine on disk is what its manifest says, or it is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines.cache import write_manifest
from dinorad_rt.engines.manifest import MANIFEST, Engine
from dinorad_rt.errors import CacheError

FACTS: dict[str, Any] = {
    "key": "k" * 64,
    "backend": "onnxruntime",
    "backend_version": "1",
    "precision": "fp32",
    "batch": 2,
    "input_shape": [3, 4, 4],
    "outputs": {"patch_mean": [5], "cls": [4, 5]},
    "graph_sha256": "g",
    "model": "tiny",
    "weights": {"sha256": "w"},
    "weights_kind": "random",
    "settings": {"threads": 2},
}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "model.bin").write_bytes(b"engine")
    return write_manifest(tmp_path, FACTS)


def test_manifest_holds_size_and_sha256_and_keeps_the_order_of_outputs(engine: Engine) -> None:
    again = Engine.open(engine.folder)
    assert again.files["model.bin"] == {
        "sha256": hashlib.sha256(b"engine").hexdigest(),
        "bytes": 6,
    }
    assert list(again.outputs.items()) == [("patch_mean", (5,)), ("cls", (4, 5))]
    assert (again.input_shape, again.batch, again.bytes_on_disk) == ((3, 4, 4), 2, 6)
    again.verify()


def test_changed_content_of_the_same_size_is_found_by_its_hash(engine: Engine) -> None:
    engine.file("model.bin").write_bytes(b"eNgine")
    Engine.open(engine.folder)
    with pytest.raises(CacheError, match=r"model.bin has sha256 .* not "):
        engine.verify()


def _truncate(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"eng")


def _remove(folder: Path) -> None:
    (folder / "model.bin").unlink()


def _no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _half_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"key": "k', encoding="utf-8")


def _other_format(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(document | {"format": 0}), encoding="utf-8")


def _outside(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    document["files"] = {"../../etc/passwd": {"sha256": "x", "bytes": 1}}
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")


def _no_list(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    document["files"] = {"model.bin": None}
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_list, "does not list its files"),
        (_truncate, "has 3 bytes, not 6"),
        (_remove, "model.bin is missing"),
        (_no_manifest, "cannot be read"),
        (_half_manifest, "cannot be read"),
        (_other_format, "another version"),
        (_outside, "outside its folder"),
    ],
)
def test_damage_is_named(engine: Engine, damage: Callable[[Path], None], message: str) -> None:
    damage(engine.folder)
    with pytest.raises(CacheError, match=message) as caught:
        Engine.open(engine.folder)
    assert "dinorad-rt cache prune" in caught.value.fix
