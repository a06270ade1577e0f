"""The cache's inventory: what is damaged is found, and the longest unused goes first."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.engines.build import get_or_build
from dinorad_rt.engines.cache import build_lock, engine_root, new_engine_folder
from dinorad_rt.engines.inventory import (
    Entry,
    disk_bytes,
    entries,
    find_damage,
    remove,
    remove_leftovers,
    surplus,
)
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import CacheError, OutputError
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.paths import CACHE_KINDS, cache_dir

DAY = 86_400.0


def _choice(name: str, size: int, days: float) -> None:
    path = cache_dir("choices") / name
    path.write_bytes(b"x" * size)
    used = time.time() - days * DAY
    os.utime(path, (used, used))


def _names(found: list[Entry]) -> list[str]:
    return [entry.name for entry in found]


def test_keys_and_splits_are_no_cache() -> None:
    assert not {"keys", "splits"} & set(CACHE_KINDS)


def test_locks_and_parts_are_no_entries(cache: Path) -> None:
    _choice("a.json", 10, 0)
    (cache_dir("choices") / "a.lock").touch()
    (cache_dir("engines") / ".key.0.part").touch()
    (cache_dir("engines") / ".key.0.parts").mkdir()
    assert [(entry.kind, entry.name, entry.size) for entry in entries()] == [
        ("choices", "a.json", 10)
    ]


def test_the_longest_unused_goes_first(cache: Path) -> None:
    for name, size, days in (("old", 100, 40), ("middle", 100, 20), ("new", 100, 1)):
        _choice(name, size, days)
    found = entries()
    assert _names(surplus(found)) == ["old", "middle", "new"]
    assert _names(surplus(found, older_than=30 * DAY)) == ["old"]
    assert _names(surplus(found, keep_bytes=250)) == ["old"]
    assert _names(surplus(found, keep_bytes=100)) == ["old", "middle"]
    assert _names(surplus(found, older_than=30 * DAY, keep_bytes=150)) == ["old", "middle"]
    assert surplus(found, keep_bytes=10_000) == []


def test_what_is_shared_counts_once_and_frees_nothing_while_linked(cache: Path) -> None:
    _choice("old", 100, 40)
    os.link(cache_dir("choices") / "old", cache_dir("choices") / "twin")
    _choice("middle", 100, 20)
    found = entries()
    assert sum(entry.size for entry in found) == 300
    assert disk_bytes(found) == 200
    assert _names(surplus(found, keep_bytes=200)) == []
    assert _names(surplus(found, keep_bytes=150)) == ["old", "twin"]
    first, second = (entry for entry in found if entry.name != "middle")
    assert remove([first], print) == 0
    assert remove([second], print) == 100


def test_a_changed_byte_is_found(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    profile = Profile("test", batch=2, threads=1)
    engine = get_or_build(tiny_graph("fp32"), backend="openvino", profile=profile)
    assert [what for _, what in find_damage()] == [""]
    path = engine.file("model.bin")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    ((entry, what),) = find_damage()
    assert entry.name == engine.key
    assert "model.bin has sha256" in what
    assert remove([entry], print) > 0
    assert not engine.folder.exists()


def test_use_makes_an_engine_young(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    profile = Profile("test", batch=2, threads=1)
    engine = get_or_build(tiny_graph("fp32"), backend="openvino", profile=profile)
    long_ago = time.time() - 50 * DAY
    for path in engine.folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert len(surplus(entries(["engines"]), older_than=30 * DAY)) == 1
    get_or_build(tiny_graph("fp32"), backend="openvino", profile=profile)
    assert surplus(entries(["engines"]), older_than=30 * DAY) == []


def test_an_exported_graph_is_used_when_it_is_asked_for_again(cache: Path) -> None:
    backbone = load_backbone("test_vit", weights="random", image_size=32)
    graph = export_onnx(backbone)
    long_ago = time.time() - 50 * DAY
    for path in graph.folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert len(surplus(entries(["graphs"]), older_than=30 * DAY)) == 1
    export_onnx(backbone)
    assert surplus(entries(["graphs"]), older_than=30 * DAY) == []


def test_what_is_being_built_is_left_alone(cache: Path) -> None:
    (cache_dir("engines") / "key").mkdir()
    said: list[str] = []
    with build_lock("key", print), new_engine_folder("key") as part:
        (part / "half").write_bytes(b"x" * 7)
        assert remove_leftovers() == 0
        remove(entries(["engines"]), said.append)
        assert part.exists()
    assert said == ["engines key is being built: left alone"]


def test_without_locks_an_engine_can_still_be_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (cache_dir("engines") / "key").mkdir()
    (cache_dir("engines") / "key.lock").touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    remove(entries(["engines"]), print)
    assert not (cache_dir("engines") / "key").exists()


def test_listing_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "cache"
    monkeypatch.setenv("DINORAD_RT_CACHE", str(root))
    assert entries() == [] and remove_leftovers() == 0
    assert not root.exists()


def test_what_cannot_be_deleted_is_an_error_and_frees_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache_dir("engines") / "key").mkdir()
    (cache_dir("engines") / "key" / "model.bin").write_bytes(b"x")
    (cache_dir("engines") / "key.lock").touch()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "model.bin")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(OutputError, match="engines key cannot be deleted from .*Read-only"):
        remove(entries(["engines"]), print)


def test_what_vanishes_meanwhile_is_left_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache_dir("embeddings") / "key").mkdir()
    for name in ("kept", "gone"):
        (cache_dir("embeddings") / "key" / name).write_bytes(b"x" * 3)
    stat = Path.stat

    def vanishing(path: Path, **options: bool) -> os.stat_result:
        if path.name == "gone":
            path.unlink(missing_ok=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", vanishing)
    (entry,) = entries(["embeddings"])
    assert entry.size == 3


def test_what_dead_processes_left_goes(cache: Path) -> None:
    (cache_dir("engines") / ".key.0.parts").mkdir()
    (cache_dir("engines") / ".key.0.parts" / "half").write_bytes(b"x" * 7)
    (cache_dir("engines") / ".key.0.part").touch()
    (cache_dir("timing") / ".a.bin.0.part").write_bytes(b"x" * 5)
    assert remove_leftovers() == 12
    assert not list(cache_dir("engines").iterdir()) and not list(cache_dir("timing").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_folder_of_engines_is_for_its_user_alone(
    tiny_graph: Callable[[str], Any], cache: Path
) -> None:
    root = cache_dir("engines")
    root.chmod(0o777)
    get_or_build(
        tiny_graph("fp32"), backend="onnxruntime", profile=Profile("test", batch=2, threads=1)
    )
    assert root.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize(("mode", "number"), [(0o755, errno.EROFS), (0o755, errno.EPERM)])
def test_a_folder_that_others_only_read_is_used_as_it_is(
    cache: Path, monkeypatch: pytest.MonkeyPatch, mode: int, number: int
) -> None:
    root = cache_dir("engines")
    root.chmod(mode)
    monkeypatch.setattr(Path, "chmod", _refusing(number))
    assert engine_root() == root


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_folder_that_others_may_write_into_is_refused_if_it_must_stay_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_dir("engines").chmod(0o777)
    monkeypatch.setattr(Path, "chmod", _refusing(errno.EPERM))
    with pytest.raises(CacheError, match="Others may write into the cache"):
        engine_root()
    monkeypatch.setattr(Path, "chmod", _refusing(errno.EROFS))
    engine_root()  # nobody writes to what is read-only


def _refusing(number: int) -> Callable[..., None]:
    def chmod(path: Path, mode: int) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return chmod
