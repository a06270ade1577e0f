"""`get_or_build`: built once, proven, cached, and never a path or a half engine."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines import build
from dinorad_rt.engines.build import get_or_build, open_runner
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import CacheError, ParityError, UnknownNameError
from dinorad_rt.paths import cache_dir

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


def test_two_processes_build_once(tmp_path: Path) -> None:
    """Both start together; the slow build happens in one of them, both get the engine."""
    script = """
        import sys, time, types
        from pathlib import Path
        from dinorad_rt.engines import build
        from dinorad_rt.engines.profile import Profile
        from dinorad_rt.runners.base import Plan

        class Slow:
            def plan(self, graph, profile):
                return Plan("slow", "1", "fp32", profile.batch)
            def build(self, graph, plan, folder, **_):
                with open(sys.argv[1], "a") as log:
                    log.write("built\\n")
                time.sleep(1.0)
                (folder / "model.bin").write_bytes(b"x")
                return {}

        graph = types.SimpleNamespace(
            sha256="g", manifest={}, precision="fp32", model="m", weights_kind="random",
            input_shape=(3, 2, 2), outputs={"cls": (1, 2)},
        )
        build.require_backend = lambda name: Slow()
        build.check_engine = lambda graph, engine: {}
        engine = build.get_or_build(graph, backend="slow", profile=Profile("p"), progress=print)
        print(engine.file("model.bin").read_bytes())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "log")]
    environment = {"DINORAD_RT_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=root)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(output.rstrip().endswith("b'x'") for output in outputs)
    assert (tmp_path / "log").read_text() == "built\n"
    assert sum("waiting for it" in output for output in outputs) == 1
