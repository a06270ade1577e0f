"""`get_or_build`: built once, proven, cached, and never a path or a half engine."""

from __future__ import annotations

import functools
import json
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines import build
from dinorad_rt.engines.build import get_or_build, open_runner
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import CacheError, ParityError, UnknownNameError
from dinorad_rt.paths import cache_dir
from dinorad_rt.runners import onnxruntime

PROFILE = Profile("test", batch=2, threads=1)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "pytorch"])
def test_second_call_takes_the_cached_engine(
    tiny_graph: Callable[[str], Any], cache: Path, backend: str
) -> None:
    said: list[str] = []
    first = get_or_build(tiny_graph("fp32"), backend=backend, profile=PROFILE, progress=said.append)
    assert any(text.startswith("building") for text in said)
    said.clear()
    second = get_or_build(
        tiny_graph("fp32"), backend=backend, profile=PROFILE, progress=said.append
    )
    assert second == first
    assert said == [f"engine {first.key[:12]} taken from the cache"]
    parity = first.manifest["parity"]
    least = min(numbers["cosine_min"] for numbers in parity["outputs"].values())
    assert least >= parity["limits"]["cosine"] > 0.99999
    proof = next(iter(first.manifest["proof"].values()))
    assert set(proof) <= {"f32", "float32"}


def test_manifest_tells_neither_path_nor_host(
    tiny_graph: Callable[[str], Any], cache: Path
) -> None:
    engine = get_or_build(tiny_graph("fp32"), backend="onnxruntime", profile=PROFILE)
    text = json.dumps(engine.manifest)
    assert str(cache) not in text
    assert str(tiny_graph("fp32").folder) not in text
    assert platform.node() not in text


def test_nothing_is_cached_when_the_gate_fails(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(graph: Any, engine: Any) -> None:
        raise ParityError("cosine 0.5")

    monkeypatch.setattr(build, "check_engine", fail)
    with pytest.raises(ParityError):
        get_or_build(tiny_graph("fp32"), backend="onnxruntime", profile=PROFILE)
    assert [path.suffix for path in cache_dir("engines").iterdir()] == [".lock"]


def test_changed_engine_is_never_loaded(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    engine = get_or_build(tiny_graph("fp32"), backend="openvino", profile=PROFILE)
    path = engine.file("model.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CacheError, match="model.bin has sha256"):
        open_runner(engine)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_engines_of_one_graph_share_their_weights_on_disk(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    monkeypatch.setattr("dinorad_rt.engines.cache.SHARED_BYTES", 1 << 14)
    build = functools.partial(get_or_build, tiny_graph("fp32"), backend=backend)
    first, second = (build(profile=Profile("test", batch=batch, threads=1)) for batch in (2, 3))
    path = first.file("model.bin")
    assert path.samefile(second.file("model.bin"))
    second.verify()
    path.write_bytes(bytes(path.stat().st_size))
    third = build(profile=Profile("test", batch=4, threads=1))
    assert not path.samefile(third.file("model.bin")), "a damaged file is not taken over"
    third.verify()


def test_an_engine_from_elsewhere_is_refused(
    tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path
) -> None:
    engine = get_or_build(tiny_graph("fp32"), backend="onnxruntime", profile=PROFILE)
    copy = shutil.copytree(engine.folder, tmp_path / engine.key)
    with pytest.raises(CacheError, match="only what was built here is run"):
        open_runner(Engine.open(copy))


def test_unknown_backend(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    with pytest.raises(UnknownNameError, match="Closest: openvino"):
        get_or_build(tiny_graph("fp32"), backend="openvin", profile=PROFILE)


BUILDER = """
    import sys, time, types
    from pathlib import Path
    from dinorad_rt.engines import build
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.runners.base import Plan

    class Slow:
        def plan(self, graph, profile):
            return Plan("slow", "1", "fp32", profile.batch)
        def build(self, graph, plan, folder, **_):
            (folder / "half").write_bytes(b"x")
            with open(sys.argv[1], "a") as log:
                log.write("built\\n")
            time.sleep(float(sys.argv[2]))
            (folder / "half").rename(folder / "model.bin")
            return {"matrix_products": {"f32": 1}}

    graph = types.SimpleNamespace(
        sha256="g", manifest={}, precision="fp32", model="m", weights_kind="random",
        input_shape=(3, 2, 2), outputs={"cls": (1, 2)}, path=Path("none"),
    )
    build.require_backend = lambda name: Slow()
    build.check_engine = lambda graph, engine: {}
    engine = build.get_or_build(graph, backend="slow", profile=Profile("p"), progress=print)
    print(engine.file("model.bin").read_bytes())
"""


def _builder(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that builds one engine, slowly; it logs a line when it has begun."""
    command = [sys.executable, "-c", textwrap.dedent(BUILDER), str(tmp_path / "log"), str(seconds)]
    environment = {"DINORAD_RT_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=root)


def test_two_processes_build_once(tmp_path: Path) -> None:
    """Both start together; the slow build happens in one of them, both get the engine."""
    processes = [_builder(tmp_path, 3.0) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(output.rstrip().endswith("b'x'") for output in outputs)
    assert (tmp_path / "log").read_text() == "built\n"
    assert sum("waiting for it" in output for output in outputs) == 1


def test_a_killed_builder_leaves_neither_lock_nor_half_an_engine(tmp_path: Path) -> None:
    first = _builder(tmp_path, 600.0)
    while not (tmp_path / "log").exists():
        time.sleep(0.05)
        assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    engines = tmp_path / "cache" / "engines"
    assert [path.name for path in engines.glob(".*/half")] == ["half"]
    second = _builder(tmp_path, 0.0)
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 0
    assert "waiting" not in output
    assert (tmp_path / "log").read_text() == "built\nbuilt\n"
    folders = [path for path in engines.iterdir() if path.is_dir()]
    assert [sorted(item.name for item in path.iterdir()) for path in folders] == [
        ["engine.json", "model.bin"]
    ]


def _other_processor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(onnxruntime, "cpu_device", lambda: {"kind": "cpu", "model": "another"})


def _other_version(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(onnxruntime, "_version", lambda: "99.0")


@pytest.mark.parametrize("change", [_other_processor, _other_version])
def test_another_machine_or_version_never_reuses_an_engine(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], None],
) -> None:
    first = get_or_build(tiny_graph("fp32"), backend="onnxruntime", profile=PROFILE)
    change(monkeypatch)
    said: list[str] = []
    second = get_or_build(
        tiny_graph("fp32"), backend="onnxruntime", profile=PROFILE, progress=said.append
    )
    assert second.key != first.key
    assert any(text.startswith("building") for text in said)


@pytest.mark.parametrize("part", ["weights", "recipe"])
def test_other_weights_or_another_recipe_never_reuse_an_engine(
    tiny_graph: Callable[[str], Any], cache: Path, part: str
) -> None:
    graph = tiny_graph("fp32")
    first = get_or_build(graph, backend="onnxruntime", profile=PROFILE)
    changed = graph.manifest | {part: graph.manifest[part] | {"sha256": "0" * 64}}
    second = get_or_build(replace(graph, manifest=changed), backend="onnxruntime", profile=PROFILE)
    assert second.key != first.key
