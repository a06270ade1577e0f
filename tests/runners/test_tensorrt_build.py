"""What TensorRT itself is asked for, against a stand-in of the package that records it."""

from __future__ import annotations

import os
import signal
import time
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import BuildError, EngineError
from dinorad_rt.runners import tensorrt_build, tensorrt_flavour, tensorrt_runner
from dinorad_rt.runners.base import Plan
from dinorad_rt.runners.tensorrt import TensorRTBackend
from dinorad_rt.runners.tensorrt_flavour import TENSORRT, Journal

HERE = {"kind": "cuda", "name": "Stand-in", "compute_capability": "8.9", "driver": "1"}


class Flags(Enum):
    """TensorRT 11's, as far as we use them; numbers differ between versions."""

    TF32 = 1
    VERSION_COMPATIBLE = 12
    EXCLUDE_LEAN_RUNTIME = 2
    STRIP_PLAN = 18
    REFIT = 3
    STRICT_NANS = 4
    DISTRIBUTIVE_INDEPENDENCE = 27


class Levels(Enum):
    """Of hardware compatibility."""

    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


class StandInConfig:
    """A builder's configuration that remembers."""

    def __init__(self) -> None:
        self.flags = {Flags.TF32}  # on by default in TensorRT
        self.profiles: list[tuple[Any, ...]] = []
        self.workspace = 0
        self.cache = b""
        self.mismatch = False
        self.hardware_compatibility_level = Levels.NONE

    def clear_flag(self, flag: Flags) -> None:
        self.flags.discard(flag)

    def set_flag(self, flag: Flags) -> None:
        self.flags.add(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: Any) -> None:
        self.profiles.append(profile.shapes)

    def create_timing_cache(self, stored: bytes) -> Any:
        return SimpleNamespace(stored=stored, serialize=lambda: stored + b"+measured")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if self.mismatch and cache.stored:
            return False
        self.cache = cache.stored
        self.timing = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.timing


class StandInProfile:
    """An optimisation profile that remembers."""

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self.shapes = (name, low, best, high)


TRT = SimpleNamespace(
    BuilderFlag=Flags,
    HardwareCompatibilityLevel=Levels,
    ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
    MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
)
BUILDER = SimpleNamespace(
    create_builder_config=StandInConfig, create_optimization_profile=StandInProfile
)


def _plan(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, Plan]:
    graph = SimpleNamespace(precision="fp16", input_shape=(3, 28, 28), model="tiny")
    monkeypatch.setattr(tensorrt_flavour, "version_of", lambda name: "11.4.0.106")
    profile = Profile("test", batch=8, buckets=(1, 8), options={"tensorrt": options})
    return graph, TensorRTBackend(TENSORRT).plan_for(graph, profile, "sm89", HERE)  # type: ignore[arg-type]


def test_one_exact_shape_per_bucket_and_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, plan = _plan(monkeypatch)
    config = tensorrt_build._config(TRT, BUILDER, graph, plan)
    assert config.flags == set()
    assert config.profiles == [("pixel_values", *[(rows, 3, 28, 28)] * 3) for rows in (1, 8)]
    assert config.profiling_verbosity == "detailed"
    assert config.builder_optimization_level == 3
    assert plan.device == HERE  # the key holds GPU and driver


def test_options_become_flags_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, plan = _plan(
        monkeypatch,
        version_compatible=True,
        stripped=True,
        refittable=True,
        hardware_compatible="ampere_plus",
        workspace_mib=64,
        tf32=True,
        optimization_level=5,
    )
    config = tensorrt_build._config(TRT, BUILDER, graph, plan)
    names = {flag.name for flag in config.flags}
    assert names == {"TF32", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "STRIP_PLAN", "REFIT"}
    assert config.hardware_compatibility_level is Levels.AMPERE_PLUS
    assert (config.workspace, config.builder_optimization_level) == (64 << 20, 5)


def test_a_flag_that_this_version_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, plan = _plan(monkeypatch, strict_nans=True)
    old = SimpleNamespace(**vars(TRT) | {"BuilderFlag": Enum("BuilderFlag", ["TF32"])})
    with pytest.raises(BuildError, match=r"tensorrt 11\.4.* knows no BuilderFlag STRICT_NANS"):
        tensorrt_build._config(old, BUILDER, graph, plan)


@pytest.mark.parametrize(("has_flag", "bits"), [(True, 2), (False, 0)])
def test_networks_are_strongly_typed_on_both_versions(has_flag: bool, bits: int) -> None:
    flags = {"STRONGLY_TYPED": 1} if has_flag else {}
    trt = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(**flags))
    assert tensorrt_build._typed(trt) == bits


def test_timings_are_kept_for_the_same_gpu_and_version(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    _, plan = _plan(monkeypatch)
    first, second, foreign = StandInConfig(), StandInConfig(), StandInConfig()
    with tensorrt_build.timing_cache(TENSORRT, plan, first):
        assert first.cache == b""
    with tensorrt_build.timing_cache(TENSORRT, plan, second):
        assert second.cache == b"+measured"
    foreign.mismatch = True
    with tensorrt_build.timing_cache(TENSORRT, plan, foreign):
        assert foreign.cache == b""  # of another GPU or version: started afresh, not ignored
    other = Plan(plan.backend, "11.5", "fp16", 8, plan.settings, plan.device)
    third = StandInConfig()
    with tensorrt_build.timing_cache(TENSORRT, other, third):
        assert third.cache == b""


def test_host_code_in_a_plan_stays_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes: list[Any] = []

    def runtime(log: Any) -> Any:
        made = SimpleNamespace(deserialize_cuda_engine=lambda blob: None)
        runtimes.append(made)
        return made

    journal = Journal()
    monkeypatch.setattr(
        tensorrt_flavour.Flavour, "load", lambda self: SimpleNamespace(Runtime=runtime)
    )
    monkeypatch.setattr(tensorrt_runner, "logger", lambda flavour: (None, journal))
    with pytest.raises(EngineError, match="cannot load the engine on this GPU") as caught:
        tensorrt_runner.load_plan(TENSORRT, b"plan")
    assert runtimes[0].engine_host_code_allowed is False
    assert "dinorad-rt build" in caught.value.fix


def test_progress_is_told_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    class AbstractMonitor:
        def __init__(self) -> None:
            """As TensorRT's own."""

    said: list[str] = []
    clock = iter([0.0, 0.5, 1.0, 2.5, 2.6, 5.0])
    monkeypatch.setattr(tensorrt_build.time, "monotonic", lambda: next(clock))
    trt = SimpleNamespace(IProgressMonitor=AbstractMonitor)
    monitor = tensorrt_build._monitor(trt, said.append)
    monitor.phase_start("Building Engine", None, 4)
    monitor.phase_start("Tactic Selection", "Building Engine", 100)
    assert monitor.step_complete("Building Engine", 0)
    monitor.step_complete("Tactic Selection", 3)
    monitor.step_complete("Building Engine", 1)
    assert said == [
        "building engine: step 2 of 4",
        "building engine: step 3 of 4",
    ]


class AbstractMonitor:
    """TensorRT's, as far as Python sees it."""

    def __init__(self) -> None:
        """Nothing to set up."""


class StandInBuilder:
    """Builds like the binding: what a call back into Python raises is printed and means: stop."""

    def __init__(self, log: Any) -> None:
        self.steps = 0
        BUILDERS.append(self)

    create_builder_config = StandInConfig
    create_optimization_profile = StandInProfile

    def create_network(self, flags: int) -> Any:
        return SimpleNamespace()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        for self.steps in range(500):
            try:
                if self.steps == 0:
                    os.kill(os.getpid(), signal.SIGINT)
                goes_on = config.progress_monitor.step_complete("Building", self.steps)
            except BaseException:
                goes_on = False
            if not goes_on:
                return None
            time.sleep(0.01)
        return b"plan"


BUILDERS: list[StandInBuilder] = []


def test_an_interruption_ends_a_build_and_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    graph, plan = _plan(monkeypatch)
    graph.path, graph.folder = tmp_path / "model.onnx", tmp_path
    trt = SimpleNamespace(
        **vars(TRT),
        Builder=StandInBuilder,
        IProgressMonitor=AbstractMonitor,
        NetworkDefinitionCreationFlag=SimpleNamespace(),
        OnnxParser=lambda network, log: SimpleNamespace(parse_from_file=lambda path: True),
    )
    monkeypatch.setattr(tensorrt_flavour.Flavour, "load", lambda self: trt)
    monkeypatch.setattr(tensorrt_build, "logger", lambda flavour: (None, Journal()))
    monkeypatch.setattr("dinorad_rt.export.manifest.check_external_data", lambda *_, **__: None)
    monkeypatch.setattr(tensorrt_build, "network_types", lambda n: {"matrix_products": {}})
    monkeypatch.setattr(tensorrt_build, "check_products", lambda *_: None)
    # a process of the background was started with Ctrl-C ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            tensorrt_build.build_plan_file(TENSORRT, graph, plan, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert BUILDERS[-1].steps < 100  # the library was told, and has ended
    assert not (tmp_path / "engine.plan").exists()
