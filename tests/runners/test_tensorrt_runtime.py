"""What only a GPU would show of the runtime, against stand-ins; names against the package."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dinorad_rt.engines import refit
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.errors import EngineError
from dinorad_rt.optional import is_installed
from dinorad_rt.runners import tensorrt_flavour, tensorrt_refit, tensorrt_runner
from dinorad_rt.runners.base import Plan
from dinorad_rt.runners.tensorrt_flavour import RTX, TENSORRT, Flavour, Journal
from tests.runners.test_tensorrt import StandInBuffers, StandInContext

_NAMES = {
    "ICudaEngine": "create_engine_inspector create_execution_context create_serialization_config "
    "device_memory_size_v2 get_device_memory_size_for_profile_v2 num_layers "
    "num_optimization_profiles serialize_with_config",
    "IExecutionContext": "execute_async_v3 infer_shapes set_device_memory set_input_shape "
    "set_optimization_profile_async set_tensor_address",
    "IBuilderConfig": "add_optimization_profile builder_optimization_level clear_flag "
    "create_timing_cache get_timing_cache hardware_compatibility_level profiling_verbosity "
    "progress_monitor set_flag set_memory_pool_limit set_timing_cache",
    "ITimingCache": "combine serialize",
    "IOptimizationProfile": "set_shape",
    "Builder": "build_serialized_network create_builder_config create_network "
    "create_optimization_profile",
    "OnnxParser": "get_error num_errors parse_from_file",
    "OnnxParserRefitter": "get_error num_errors refit_from_file",
    "Refitter": "get_missing_weights refit_cuda_engine",
    "ISerializationConfig": "clear_flag set_flag",
    "Runtime": "deserialize_cuda_engine engine_host_code_allowed",
    "EngineInspector": "get_engine_information",
    "INetworkDefinition": "get_layer num_layers",
    "ILayer": "get_input type",
    "IProgressMonitor": "phase_finish phase_start step_complete",
    "ILogger": "ERROR INTERNAL_ERROR log",
    "BuilderFlag": "DISTRIBUTIVE_INDEPENDENCE EXCLUDE_LEAN_RUNTIME REFIT STRICT_NANS STRIP_PLAN "
    "TF32 VERSION_COMPATIBLE",
    "HardwareCompatibilityLevel": "AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
    "ExecutionContextAllocationStrategy": "USER_MANAGED",
    "LayerInformationFormat": "JSON",
    "LayerType": "ATTENTION_INPUT CONVOLUTION DECONVOLUTION EINSUM MATRIX_MULTIPLY NORMALIZATION "
    "SOFTMAX",
    "DataType": "BF16 FLOAT HALF",
    "MemoryPoolType": "WORKSPACE",
    "ProfilingVerbosity": "DETAILED",
    "SerializationFlag": "EXCLUDE_WEIGHTS",
}
_RTX_NAMES = {
    "IBuilderConfig": "num_compute_capabilities set_compute_capability",
    "ICudaEngine": "create_runtime_config",
    "IRuntimeConfig": "create_runtime_cache cuda_graph_strategy "
    "dynamic_shapes_kernel_specialization_strategy set_execution_context_allocation_strategy "
    "set_runtime_cache",
    "IRuntimeCache": "deserialize serialize",
    "CudaGraphStrategy": "DISABLED WHOLE_GRAPH_CAPTURE",
    "DynamicShapesKernelSpecializationStrategy": "EAGER",
    "ComputeCapability": "SM75 SM80 SM86 SM89 SM120 SM121",
}


@pytest.mark.parametrize(
    ("flavour", "names"), [(TENSORRT, _NAMES), (RTX, _NAMES), (RTX, _RTX_NAMES)]
)
def test_every_name_that_we_use_is_in_the_package(flavour: Flavour, names: dict[str, str]) -> None:
    if not is_installed(flavour.module):
        pytest.skip(f"{flavour.module} is not installed")
    package = flavour.load()
    missing = [
        f"{kind}.{name}"
        for kind, listed in names.items()
        for name in listed.split()
        if not hasattr(getattr(package, kind, None), name)
    ]
    assert not missing


class StandInRuntime:
    """TensorRT-RTX's engine and package: what a context is made with is remembered."""

    def __init__(self, buffers: StandInBuffers) -> None:
        self.buffers, self.configs = buffers, list[Any]()
        self.loaded: list[bytes] = []
        self.accepts = True
        self.num_optimization_profiles = 2
        self.package = SimpleNamespace(
            ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
            CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", DISABLED="none"),
            DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"),
        )

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        return (64, 256)[index]

    def create_runtime_config(self) -> Any:
        config = SimpleNamespace(create_runtime_cache=self._cache)
        config.set_execution_context_allocation_strategy = lambda s: setattr(config, "memory", s)
        config.set_runtime_cache = lambda cache: setattr(config, "cache", cache)
        self.configs.append(config)
        return config

    def create_execution_context(self, config: Any) -> Any:
        return StandInContext(self.buffers)

    def _cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"kernels", deserialize=self._deserialize)

    def _deserialize(self, blob: bytes) -> bool:
        self.loaded.append(blob)
        return self.accepts


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, cache: Path) -> StandInRuntime:
    """TensorRT-RTX without a GPU, under the runner."""
    found = StandInRuntime(StandInBuffers())
    monkeypatch.setattr(tensorrt_runner, "open_buffers", lambda kind: found.buffers)
    monkeypatch.setattr(tensorrt_runner, "load_plan", lambda flavour, blob: found)
    monkeypatch.setattr(tensorrt_runner, "logger", lambda flavour: (None, Journal()))
    monkeypatch.setattr(tensorrt_flavour.Flavour, "load", lambda flavour: found.package)
    return found


def _engine(folder: Path, *flags: str) -> Engine:
    (folder / "engine.plan").write_bytes(b"plan")
    settings = {"streams": 2, "buckets": [1, 4], "flags": list(flags), "buffers": "auto"}
    return Engine(
        folder,
        {
            "key": "k",
            "batch": 4,
            "input_shape": [3, 28, 28],
            "outputs": {"cls": [4, 32], "patch_mean": [32]},
            "settings": settings | {"cuda_graphs": True},
            "proof": {"matrix_products": {"float16": 4}},
            "files": {path.name: {} for path in folder.iterdir()},
        },
    )


def test_rtx_compiles_the_kernels_of_a_bucket_before_its_first_call(
    runtime: StandInRuntime, tmp_path: Path
) -> None:
    with tensorrt_runner.TensorRTRunner(_engine(tmp_path), RTX) as runner:
        runner.infer(np.zeros((3, 3, 28, 28), np.float32))
    assert len(runtime.configs) == 4  # two slots with two buckets each
    for config in runtime.configs:
        assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
        assert (config.cuda_graph_strategy, config.memory) == ("whole", "user")
    assert len({id(config.cache) for config in runtime.configs}) == 1


def test_rtx_keeps_its_kernels_and_makes_anew_what_it_rejects(
    runtime: StandInRuntime, tmp_path: Path, cache: Path
) -> None:
    engine = _engine(tmp_path)

    def run() -> bytes:
        with tensorrt_runner.TensorRTRunner(engine, RTX):
            (stored,) = (cache / "kernels").glob("*.bin")
        return stored.read_bytes()

    assert run() == b"kernels" and runtime.loaded == []
    (stored,) = (cache / "kernels").glob("*.bin")
    stored.write_bytes(b"of the same driver")
    assert run() == b"of the same driver" == runtime.loaded[0]
    runtime.accepts = False
    assert run() == b"kernels"


def test_kernels_are_code_and_their_folder_nobody_elses(
    runtime: StandInRuntime, tmp_path: Path, cache: Path
) -> None:
    (cache / "kernels").mkdir(parents=True)
    (cache / "kernels").chmod(0o777)
    tensorrt_runner.TensorRTRunner(_engine(tmp_path), RTX)
    assert (cache / "kernels").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("flavour", [TENSORRT, RTX])
def test_a_context_that_is_none_is_an_error_with_the_reason(
    runtime: StandInRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: Flavour
) -> None:
    journal = Journal()
    monkeypatch.setattr(tensorrt_runner, "logger", lambda flavour: (None, journal))

    def none(strategy: Any) -> None:
        journal.add("OutOfMemory (no details)")

    monkeypatch.setattr(runtime, "create_execution_context", none)
    runner = tensorrt_runner.TensorRTRunner(_engine(tmp_path), flavour)
    with pytest.raises(EngineError, match="nothing to run 1 rows with: OutOfMemory"), runner:
        pass


class OldFlags(Enum):
    """Of TensorRT before 10.14."""

    EXCLUDE_WEIGHTS = 0
    EXCLUDE_LEAN_RUNTIME = 1


class NewFlags(Enum):
    """Since then: without INCLUDE_REFIT a refitted plan cannot be refitted again."""

    EXCLUDE_WEIGHTS = 0
    EXCLUDE_LEAN_RUNTIME = 1
    INCLUDE_REFIT = 2


@pytest.fixture
def refitter(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Enum]], list[str]]:
    """`refitter(flags)`: a package whose calls are listed."""

    def pretend(flags: type[Enum]) -> list[str]:
        log: list[str] = []
        config = SimpleNamespace(
            clear_flag=lambda flag: log.append(f"clear {flag.name}"),
            set_flag=lambda flag: log.append(f"set {flag.name}"),
        )
        engine = SimpleNamespace(
            create_serialization_config=lambda: config,
            serialize_with_config=lambda used: b"plan with other weights",
        )
        package = SimpleNamespace(
            SerializationFlag=flags,
            Refitter=lambda engine, log: SimpleNamespace(
                refit_cuda_engine=lambda: True, get_missing_weights=list
            ),
            OnnxParserRefitter=lambda refitter, logger: SimpleNamespace(
                refit_from_file=lambda path: not log.append(Path(path).name), num_errors=0
            ),
        )
        monkeypatch.setattr(tensorrt_flavour.Flavour, "load", lambda flavour: package)
        monkeypatch.setattr(tensorrt_refit, "logger", lambda flavour: (None, Journal()))
        monkeypatch.setattr(tensorrt_runner, "load_plan", lambda flavour, blob: engine)
        return log

    return pretend


def _graph(folder: Path) -> Any:
    """An ONNX file with its weights in a file beside it."""
    folder.mkdir()
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    graph = helper.make_graph([], "g", [value], [value], [weights])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="w.bin")
    return SimpleNamespace(path=path)


def _swap(graph: Any, base: Engine, folder: Path, *flags: str) -> None:
    plan = Plan("tensorrt", "11", "fp16", 4, {"flags": ["REFIT", *flags]})
    folder.mkdir()
    proof = refit._swap_tensorrt(base, graph, plan, folder)
    assert proof == base.manifest["proof"]


@pytest.mark.parametrize("flags", [OldFlags, NewFlags])
def test_a_refitted_plan_keeps_its_weights_and_can_be_refitted_again(
    refitter: Callable[[type[Enum]], list[str]], tmp_path: Path, flags: type[Enum]
) -> None:
    log = refitter(flags)
    (tmp_path / "base").mkdir()
    _swap(_graph(tmp_path / "graph"), _engine(tmp_path / "base"), tmp_path / "new")
    assert (tmp_path / "new" / "engine.plan").read_bytes() == b"plan with other weights"
    kept = ["set INCLUDE_REFIT"] if flags is NewFlags else []
    assert log == ["model.onnx", "clear EXCLUDE_WEIGHTS", *kept]


def test_a_stripped_plan_gets_the_new_graph_beside_it(
    refitter: Callable[[type[Enum]], list[str]], tmp_path: Path
) -> None:
    log = refitter(NewFlags)
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.onnx").write_bytes(b"the old graph")
    _swap(_graph(tmp_path / "graph"), _engine(base, "STRIP_PLAN"), tmp_path / "new", "STRIP_PLAN")
    assert (tmp_path / "new" / "engine.plan").read_bytes() == b"plan"
    found = {path.name for path in (tmp_path / "new").iterdir()}
    assert found == {"engine.plan", "model.onnx", "w.bin"}
    assert log == []  # the weights are put in when it is loaded


def test_an_engine_that_cannot_be_refitted_is_an_error(
    refitter: Callable[[type[Enum]], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refitter(NewFlags)

    def refuse(engine: Any, log: Any) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(TENSORRT.load(), "Refitter", refuse)
    with pytest.raises(EngineError, match="cannot put other weights"):
        tensorrt_refit.refit_weights(TENSORRT, None, tmp_path / "model.onnx")
