"""Keys, atomic folders and locks of the engine cache."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines.cache import (
    build_lock,
    engine_key,
    find_engine,
    key_parts,
    list_engines,
    new_engine_folder,
    write_manifest,
)
from dinorad_rt.errors import CacheError
from dinorad_rt.paths import cache_dir
from dinorad_rt.runners.base import Plan

PLAN = Plan(
    "openvino",
    "1.0",
    "fp32",
    8,
    settings={"streams": 2},
    device={"kind": "cpu", "instruction_sets": ["avx2"]},
)


class _Graph:
    sha256 = "a" * 64
    precision = "fp32"

    def __init__(self, **manifest: Any) -> None:
        self.manifest = {"recipe": {"name": "vit"}, "weights": {"sha256": "w"}} | manifest


def _key(graph: Any, plan: Plan = PLAN) -> str:
    return engine_key(key_parts(graph, plan))


def test_same_question_same_key() -> None:
    shuffled = replace(PLAN, device={"instruction_sets": ["avx2"], "kind": "cpu"})
    assert _key(_Graph()) == _key(_Graph(), shuffled)


def test_of_two_builders_without_locks_the_first_engine_stays(cache: Path) -> None:
    with new_engine_folder("k") as second:
        (second / "file").write_text("second")
        with new_engine_folder("k") as first:
            (first / "file").write_text("first")
    assert [path.name for path in cache_dir("engines").iterdir()] == ["k"]
    assert (cache_dir("engines") / "k" / "file").read_text() == "first"


@pytest.mark.parametrize(
    "change",
    [
        lambda: (_Graph(weights={"sha256": "other"}), PLAN),
        lambda: (_Graph(recipe={"name": "vit", "opset": 21}), PLAN),
        lambda: (_Graph(), replace(PLAN, backend="onnxruntime")),
        lambda: (_Graph(), replace(PLAN, version="1.0.1")),
        lambda: (_Graph(), replace(PLAN, batch=16)),
        lambda: (_Graph(), replace(PLAN, settings={"streams": 1})),
        lambda: (_Graph(), replace(PLAN, device={"kind": "cpu", "instruction_sets": []})),
        lambda: (_Graph(), replace(PLAN, device={"kind": "cuda", "driver": "580"})),
    ],
)
def test_any_changed_part_gives_another_key(change: Callable[[], tuple[Any, Plan]]) -> None:
    assert _key(*change()) != _key(_Graph())


def test_a_changed_graph_gives_another_key() -> None:
    other = _Graph()
    other.sha256 = "b" * 64
    assert _key(other) != _key(_Graph())


def test_failed_build_leaves_nothing(cache: Path) -> None:
    with pytest.raises(RuntimeError), new_engine_folder("k") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(cache_dir("engines").iterdir()) == []


def test_leftovers_of_a_dead_process_are_removed(cache: Path) -> None:
    stale = cache_dir("engines") / ".k.0.parts"
    stale.mkdir()
    stale.with_name(".k.0.part").touch()  # locked by nobody
    with new_engine_folder("other") as other, new_engine_folder("k") as folder:
        (folder / "whole").write_text("x")
        assert not stale.exists() or stale == folder
        assert other.exists()
    assert not stale.exists()
    assert (cache_dir("engines") / "k" / "whole").is_file()


def _write(folder: Path, key: str) -> None:
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"x")
    names = ("backend", "backend_version", "precision", "batch", "input_shape", "outputs")
    more = ("graph_sha256", "model", "weights", "weights_kind", "settings")
    write_manifest(folder, dict.fromkeys((*names, *more), "") | {"key": key})


def test_an_engine_under_another_name_is_refused(cache: Path) -> None:
    _write(cache_dir("engines") / "asked", "asked")
    _write(cache_dir("engines") / "moved", "original")
    engine = find_engine("asked")
    assert engine is not None
    assert engine.key == "asked"
    with pytest.raises(CacheError, match="carries the key original"):
        find_engine("moved")
    assert find_engine("absent") is None


def test_list_skips_locks_and_damaged_ones(cache: Path) -> None:
    _write(cache_dir("engines") / "good", "good")
    (cache_dir("engines") / "good.lock").touch()
    (cache_dir("engines") / "damaged").mkdir()
    assert [engine.key for engine in list_engines()] == ["good"]


def test_lock_of_a_killed_process_is_survived(cache: Path) -> None:
    script = """
        import sys, time
        from dinorad_rt.engines.cache import build_lock
        with build_lock("k", print):
            print("held", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        process.send_signal(signal.SIGKILL)
        process.wait()
    said: list[str] = []
    with build_lock("k", said.append):
        assert said == []
