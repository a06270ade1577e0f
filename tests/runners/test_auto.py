"""`auto` measures once, remembers, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import (
    BackendMissingError,
    CacheError,
    DinoradError,
    NoMemoryError,
    NoSpaceError,
    ParityError,
)
from dinorad_rt.runners import auto
from dinorad_rt.runners.auto import choose_backend, measure_rate
from dinorad_rt.runners.base import Availability

PROFILE = Profile("test", batch=2, threads=2)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Planted speeds; engines are only names."""
    table = {"openvino": 50.0, "onnxruntime": 40.0, "pytorch": 10.0}
    monkeypatch.setattr(auto, "list_backends", _states)
    monkeypatch.setattr(auto, "measure_rate", lambda engine: table[engine])
    monkeypatch.setattr(
        "dinorad_rt.engines.build.get_or_build", lambda graph, *, backend, **_: backend
    )
    return table


def test_fastest_wins_and_is_remembered(
    tiny_graph: Callable[[str], Any], cache: Path, rates: dict[str, float]
) -> None:
    graph = tiny_graph("fp32")
    said: list[str] = []
    choice = choose_backend(graph, PROFILE, said.append)
    assert choice.backend == "openvino"
    assert dict(choice.measured) == rates
    assert "measured now: openvino 50.0, onnxruntime 40.0, pytorch 10.0" in choice.reason
    assert any("measuring" in text for text in said)
    said.clear()
    rates["pytorch"] = 1000.0
    again = choose_backend(graph, PROFILE, said.append)
    assert (again.backend, said) == ("openvino", [])
    assert "measured here before" in again.reason


@pytest.mark.parametrize("what", ["graph", "profile", "machine", "version"])
def test_another_question_is_measured_anew(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    rates: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    graph, profile = tiny_graph("fp32"), PROFILE
    choose_backend(graph, profile)
    rates["pytorch"] = 1000.0
    if what == "graph":
        graph = replace(graph, manifest=graph.manifest | {"precision": "bf16"})
        monkeypatch.setattr(auto, "list_backends", lambda: _states(precisions=("fp32", "bf16")))
    elif what == "profile":
        profile = replace(profile, batch=4, buckets=(4,))
    elif what == "machine":
        monkeypatch.setattr(auto, "machine_digest", lambda: "another")
    else:
        monkeypatch.setattr(auto, "list_backends", lambda: _states(version="9"))
    assert choose_backend(graph, profile).backend == "pytorch"


def _states(
    version: str = "1",
    precisions: tuple[str, ...] = ("fp32",),
    can_run: bool = True,
    names: tuple[str, ...] = ("openvino", "onnxruntime", "pytorch"),
) -> tuple[Availability, ...]:
    return tuple(
        Availability(name, can_run, can_run, version, precisions=precisions, reason="not installed")
        for name in names
    )


def test_a_noisy_first_round_decides_nothing(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    rates: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def rate(engine: Any) -> float:
        calls.append(engine)
        disturbed = engine == "openvino" and calls.count("openvino") == 1
        return 1.0 if disturbed else rates[engine]

    monkeypatch.setattr(auto, "measure_rate", rate)
    assert choose_backend(tiny_graph("fp32"), PROFILE).backend == "openvino"
    assert calls.count("pytorch") == 2
    assert calls.count("onnxruntime") == auto.ROUNDS


def test_a_backend_that_fails_the_gate_takes_no_part(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    rates: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(graph: Any, *, backend: str, **_: Any) -> str:
        if backend == "openvino":
            raise ParityError("cosine 0.5")
        return backend

    monkeypatch.setattr("dinorad_rt.engines.build.get_or_build", build)
    choice = choose_backend(tiny_graph("fp32"), PROFILE)
    assert choice.backend == "onnxruntime"
    assert choice.excluded["openvino"] == "cosine 0.5"


@pytest.mark.parametrize("error", [CacheError("damaged"), NoSpaceError("full")])
def test_what_says_nothing_of_a_backend_ends_the_choice(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    rates: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    error: DinoradError,
) -> None:
    """A full disk must not decide for ever what runs here."""

    def build(graph: Any, *, backend: str, **_: Any) -> str:
        raise error

    monkeypatch.setattr("dinorad_rt.engines.build.get_or_build", build)
    with pytest.raises(type(error)):
        choose_backend(tiny_graph("fp32"), PROFILE)


def test_a_backend_without_memory_may_take_part_another_time(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    rates: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = {"bytes": 0}

    def build(graph: Any, *, backend: str, **_: Any) -> str:
        if backend == "openvino" and not free["bytes"]:
            raise NoMemoryError("openvino takes 3 GiB; 0 are free")
        return backend

    monkeypatch.setattr("dinorad_rt.engines.build.get_or_build", build)
    choice = choose_backend(tiny_graph("fp32"), PROFILE)
    assert choice.backend == "onnxruntime" and "3 GiB" in choice.excluded["openvino"]
    monkeypatch.setattr(auto, "list_backends", lambda: _states(names=("openvino",)))
    with pytest.raises(NoMemoryError, match="3 GiB"):
        choose_backend(tiny_graph("fp32"), PROFILE)
    monkeypatch.setattr(auto, "list_backends", _states)
    free["bytes"] = 1 << 40
    assert choose_backend(tiny_graph("fp32"), PROFILE).backend == "openvino"


def test_fp16_without_hardware_goes_to_pytorch_and_says_so(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "list_backends", _states)
    choice = choose_backend(tiny_graph("fp16"), PROFILE)
    assert choice.backend == "pytorch"
    assert "PyTorch emulates it" in choice.reason


def test_no_backend_at_all(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "list_backends", lambda: _states(can_run=False))
    with pytest.raises(BackendMissingError, match="openvino: not installed"):
        choose_backend(tiny_graph("fp32"), PROFILE)


def test_a_real_measurement(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    from dinorad_rt.engines.build import get_or_build

    engine = get_or_build(tiny_graph("fp32"), backend="onnxruntime", profile=PROFILE)
    assert measure_rate(engine, seconds=0.05) > 0


def test_inductor_takes_part_only_where_it_was_built_before(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    rates: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Minutes of compiling are never spent unasked, and a choice made without it is not kept."""
    rates["inductor"] = 500.0
    names = ("openvino", "onnxruntime", "pytorch", "inductor")
    monkeypatch.setattr(auto, "list_backends", lambda: _states(names=names))
    graph = tiny_graph("fp32")
    choice = choose_backend(graph, PROFILE)
    assert choice.backend == "openvino"
    assert "compiles for minutes" in choice.excluded["inductor"]
    monkeypatch.setattr(auto, "_is_built", lambda *_: True)
    assert choose_backend(graph, PROFILE).backend == "inductor"
