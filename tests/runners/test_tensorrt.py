"""TensorRT-RTX compiles every graph family here; the runtime is checked against a stand-in GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dinorad_rt import pipeline
from dinorad_rt.cli.verbs import app
from dinorad_rt.engines.build import get_or_build, open_runner
from dinorad_rt.engines.cache import list_engines
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import BackendMissingError, BuildError, CacheError, EngineError, ExportError
from dinorad_rt.machine import has_gpu
from dinorad_rt.runners import registry, tensorrt, tensorrt_flavour, tensorrt_rtx, tensorrt_runner
from dinorad_rt.runners.base import Plan
from dinorad_rt.runners.tensorrt_buffers import (
    AbstractDeviceBuffers,
    DeviceBlock,
    HostBlock,
    Stream,
    open_buffers,
)
from dinorad_rt.runners.tensorrt_flavour import RTX, TENSORRT, Journal, target_precisions
from dinorad_rt.runners.tensorrt_proof import check_products, engine_types
from dinorad_rt.runners.tensorrt_targets import admit_engine, build_for_targets

PROFILE = Profile("test", batch=4, buckets=(1, 4))
PRECISIONS = ("fp32", "fp16", "bf16")
rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")
no_gpu = pytest.mark.skipif(has_gpu(), reason="for machines without a GPU")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`gpu("8.9")`: the machine says that it has such a GPU."""

    def pretend(capability: str) -> None:
        facts = {"name": "Stand-in", "compute_capability": capability, "driver": "1"}
        monkeypatch.setattr(tensorrt_flavour, "gpu_facts", lambda: facts)
        monkeypatch.setattr(tensorrt_flavour, "has_gpu", lambda: True)

    return pretend


@rtx
def test_one_engine_per_target_with_manifest_and_copy(
    tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path
) -> None:
    graph, out, said = tiny_graph("fp16"), tmp_path / "ship", list[str]()
    wanted = ["sm80", "SM89", "8.9", "120"]
    first = build_for_targets(graph, PROFILE, wanted, out, progress=said.append)
    assert [item.target for item in first] == ["sm80", "sm89", "sm120"]
    assert [item.cached for item in first] == [False] * 3
    assert len({item.engine.key for item in first}) == 3
    assert any("sm89: building test_vit (fp16)" in line for line in said)
    for item in first:
        assert item.engine.manifest["parity"] == "not run, needs the GPU"
        assert item.engine.settings["buckets"] == [1, 4]
        assert item.copy is not None
        Engine.open(item.copy).verify()
    again = build_for_targets(graph, PROFILE, wanted, out)
    assert [item.cached for item in again] == [True] * 3
    assert [item.engine.key for item in again] == [item.engine.key for item in first]


@rtx
def test_what_decides_an_engine_is_in_its_key(
    tiny_graph: Callable[[str], Any], cache: Path
) -> None:
    graph = tiny_graph("fp16")
    options = [{}, {"strict_nans": True}, {"tf32": True}]
    one = Profile("test", batch=2)
    profiles = [replace(one, options={"tensorrt-rtx": given}) for given in options]
    profiles.append(Profile("test", batch=1))
    keys = {build_for_targets(graph, p, ["sm89"])[0].engine.key for p in profiles}
    assert len(keys) == len(profiles)
    flags = [engine.settings["flags"] for engine in list_engines()]
    assert ["STRICT_NANS"] in flags and flags.count([]) == 3


@rtx
def test_an_engine_whose_numbers_were_never_compared_is_refused(
    tiny_graph: Callable[[str], Any], cache: Path, gpu: Callable[[str], None]
) -> None:
    engine = build_for_targets(tiny_graph("fp16"), PROFILE, ["sm89"])[0].engine
    gpu("8.9")
    with pytest.raises(EngineError, match="never compared with its graph") as caught:
        open_runner(engine)
    assert "dinorad-rt verify" in caught.value.fix


@rtx
def test_a_plan_from_elsewhere_is_refused(
    tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path, gpu: Callable[[str], None]
) -> None:
    built = build_for_targets(tiny_graph("fp16"), PROFILE, ["sm89"], tmp_path / "ship")[0]
    assert built.copy is not None
    gpu("8.9")
    with pytest.raises(CacheError, match="is code"):
        open_runner(Engine.open(built.copy))
    with pytest.raises(CacheError, match="cannot be read"):
        Engine.open(built.copy / "engine.plan")
    (built.copy / "engine.plan").unlink()
    (built.copy / "engine.plan").write_bytes(b"x" * built.size)
    with pytest.raises(CacheError, match="sha256"):
        admit_engine(tiny_graph("fp16"), built.copy)


@rtx
def test_admission_compares_and_takes_the_engine_in(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    tmp_path: Path,
    gpu: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dinorad_rt.runners import tensorrt_targets

    graph = tiny_graph("fp16")
    built = build_for_targets(graph, PROFILE, ["sm89"], tmp_path / "ship")[0]
    assert built.copy is not None
    gpu("8.6")
    with pytest.raises(EngineError, match="for the GPU sm89; here is sm86"):
        admit_engine(graph, built.copy)
    gpu("8.9")
    with pytest.raises(EngineError, match="for the graph"):
        admit_engine(tiny_graph("fp32"), built.copy)
    monkeypatch.setattr(tensorrt_targets, "check_engine", lambda graph, engine: {"outputs": {}})
    taken = admit_engine(graph, built.copy)
    assert taken.manifest["parity"] == {"outputs": {}}
    assert taken.manifest["built_elsewhere"] == built.engine.key != taken.key
    open_runner(taken)  # loads nothing before `with`


@rtx
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_turing_is_refused_before_the_build(
    tiny_graph: Callable[[str], Any], cache: Path, precision: str
) -> None:
    with pytest.raises(EngineError, match=f"no {precision} matrix products for sm75") as caught:
        build_for_targets(tiny_graph(precision), PROFILE, ["sm89", "sm75"])
    assert "--precision fp16" in caught.value.fix
    assert not list(list_engines())  # sm89 was not built either
    liar = _liar(tiny_graph("fp32"))
    with pytest.raises(BuildError, match="should be float16, and are .* in float32"):
        build_for_targets(liar, PROFILE, ["sm75"])
    assert target_precisions("sm75", TENSORRT) == ("fp32", "fp16")


@pytest.mark.parametrize(
    ("flavour", "level", "built", "refused"),
    [
        (TENSORRT, "NONE", {"name": "Stand-in", "compute_capability": "8.9"}, False),
        (TENSORRT, "NONE", {"name": "NVIDIA L4", "compute_capability": "8.9"}, True),
        (TENSORRT, "SAME_COMPUTE_CAPABILITY", {"compute_capability": "8.9", "name": "L4"}, False),
        (TENSORRT, "SAME_COMPUTE_CAPABILITY", {"compute_capability": "8.6"}, True),
        (TENSORRT, "AMPERE_PLUS", {"name": "A100", "compute_capability": "8.0"}, False),
        (RTX, "NONE", {"name": "NVIDIA L4", "compute_capability": "8.9"}, False),
        (RTX, "NONE", {"name": "RTX 3090", "compute_capability": "8.6"}, True),
    ],
)
def test_an_engine_of_another_gpu_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flavour: Any,
    level: str,
    built: dict[str, str],
    refused: bool,
) -> None:
    here = {"name": "Stand-in", "compute_capability": "8.9", "driver": "1"}
    monkeypatch.setattr(tensorrt, "gpu_facts", lambda: here)
    engine = _engine(tmp_path, hardware_compatibility=level)
    engine.manifest.update(device=built, model="tiny")
    backend = tensorrt.TensorRTBackend(flavour)
    if not refused:
        assert backend.load(engine).batch == 4
        return
    with pytest.raises(EngineError, match=r"built for the GPU .*; here is Stand-in \(8\.9\)") as e:
        backend.load(engine)
    assert "dinorad-rt build" in e.value.fix


def _liar(graph: Any) -> Any:
    """A graph that says FP16 and computes in FP32."""
    return replace(graph, manifest=graph.manifest | {"precision": "fp16"})


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "pytorch", "inductor"])
def test_int8_is_refused_before_anything_is_calibrated(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(pipeline, "load", lambda *_: pytest.fail("the backbone was loaded"))
    request = pipeline.EngineRequest("test_vit", "random", precision="int8", backend=backend)
    with pytest.raises(EngineError, match=f"{backend} runs no INT8 graphs; openvino") as caught:
        pipeline.graph_for(request)
    assert "--backend openvino" in caught.value.fix
    if backend == "tensorrt-rtx":
        with pytest.raises(EngineError, match="tensorrt-rtx runs no INT8 graphs"):
            app(["build", "--precision", "int8", "--targets", "sm89"], standalone_mode=False)


@rtx
def test_a_silent_fp32_build_is_an_error(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    liar = _liar(tiny_graph("fp32"))
    with pytest.raises(BuildError, match=r"should be float16, and are \d+ in float32"):
        build_for_targets(liar, PROFILE, ["sm89"])
    assert not list(list_engines())


@rtx
def test_bad_requests_are_refused(
    tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path
) -> None:
    graph = tiny_graph("fp16")
    with pytest.raises(EngineError, match="does not compile for 'sm90'.*sm80, sm86"):
        build_for_targets(graph, PROFILE, ["sm90"])
    with pytest.raises(EngineError, match="No target"):
        build_for_targets(graph, PROFILE, [])
    with pytest.raises(EngineError, match="not here: it times kernels"):
        build_for_targets(graph, PROFILE, ["sm89"], backend="tensorrt")
    for options, message in (
        ({"fp16": True}, "the options fp16"),
        ({"version_compatible": True}, "the options version_compatible"),
        ({"tf32": "yes"}, "tf32 = 'yes'"),
        ({"workspace_mib": -1}, "workspace_mib = -1"),
        ({"stripped": True}, "stripped engine.*only on the GPU"),
        ({"refittable": True}, "refittable engine.*only on the GPU"),
        ({"buffers": "numpy"}, "buffers = 'numpy'"),
    ):
        with pytest.raises(EngineError, match=message):
            build_for_targets(graph, replace(PROFILE, options={"tensorrt-rtx": options}), ["sm89"])
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises((BuildError, ExportError)):
        build_for_targets(replace(graph, folder=tmp_path), PROFILE, ["sm89"])


@rtx
def test_weights_outside_the_graphs_folder_are_not_read(
    tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(str(tiny_graph("fp16").path))
    onnx.save(model, str(tmp_path / "model.onnx"), save_as_external_data=True, location="w.bin")
    model = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret.bin"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="secret"):
        build_for_targets(replace(tiny_graph("fp16"), folder=tmp_path), PROFILE, ["sm89"])


@no_gpu
@rtx
def test_without_a_gpu_it_builds_for_others_and_does_not_run(
    tiny_graph: Callable[[str], Any], cache: Path
) -> None:
    state = tensorrt_rtx.is_available()
    assert state.can_build and not state.can_run and "no GPU" in state.reason
    with pytest.raises(BackendMissingError, match="--targets"):
        get_or_build(tiny_graph("fp16"), backend="tensorrt-rtx", profile=PROFILE)


def test_availability_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, gpu: Callable[[str], None]
) -> None:
    monkeypatch.setattr(tensorrt_flavour, "is_installed", lambda name: False)
    state = tensorrt.is_available()
    assert not state.can_build and "not installed" in state.reason and "pip" in state.install
    monkeypatch.setattr(tensorrt_flavour, "is_installed", lambda name: True)
    monkeypatch.setattr(tensorrt_flavour, "version_of", lambda name: "10.3.0")
    assert "10.3.0 is too old, 10.12 is needed" in tensorrt.is_available().reason
    monkeypatch.setattr(tensorrt_flavour, "version_of", lambda name: "11.4.0.106")
    gpu("9.0")
    assert tensorrt.is_available().can_run
    assert tensorrt.is_available().precisions == ("fp32", "bf16", "fp16")
    assert "no kernels for sm90 (Stand-in)" in tensorrt_rtx.is_available().reason
    assert {"tensorrt", "tensorrt-rtx"} <= set(registry.backend_names())


def test_the_inspectors_report_is_read() -> None:
    report = """{"Layers": ["a bare name",
      {"Name": "m", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Half"}]},
      {"Name": "n", "LayerType": "CaskGemmMatrixMultiply",
       "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
      {"Name": "b", "LayerType": "fused_mha", "Inputs": [{"Format/Datatype": "BFloat16"}]},
      {"Name": "f", "LayerType": "kgen", "TacticName": "sm80_xmma_gemm_f32",
       "Inputs": [{"Format/Datatype": "Float"}]},
      {"Name": "r", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Float"}]}]}"""
    assert engine_types(report) == {"float16": 2, "bfloat16": 1, "float32": 1}
    assert engine_types(report.replace('"m"', '"m\t\x01"')) == engine_types(report)
    assert engine_types('{"Layers": [{"Name": "a \\x"}]}') == {}  # no JSON: shows nothing


def test_products_of_another_type_are_refused() -> None:
    graph = SimpleNamespace(model="tiny", precision="fp16", manifest={})
    plan = Plan("tensorrt", "11", "fp16", 1, {"matrix_type": "float16"})
    check_products(graph, plan, {"float16": 4})  # type: ignore[arg-type]
    with pytest.raises(BuildError, match="1 in float32"):
        check_products(graph, plan, {"float16": 4, "float32": 1})  # type: ignore[arg-type]
    check_products(graph, plan, {"float16": 4, "float32": 1}, fused=True)  # type: ignore[arg-type]
    with pytest.raises(BuildError):
        check_products(graph, plan, {"float32": 5}, fused=True)  # type: ignore[arg-type]


class StandInBuffers(AbstractDeviceBuffers):
    """The "GPU" is host memory; what a stream is told to do is done when it is waited for."""

    name = "stand-in"

    def __init__(self) -> None:
        self.todo: dict[int, list[Callable[[], None]]] = {}
        self.free = 1 << 40
        self.captured = 0
        self.recording: list[Callable[[], None]] | None = None

    def push(self, handle: int, work: Callable[[], None]) -> None:
        (self.todo[handle] if self.recording is None else self.recording).append(work)

    def free_bytes(self) -> int:
        return self.free

    def stream(self) -> Stream:
        self.todo[len(self.todo) + 1] = []
        return Stream(len(self.todo))

    def device(self, size: int) -> DeviceBlock:
        owner = np.full(max(size, 4) // 4, np.nan, np.float32)
        return DeviceBlock(owner.ctypes.data, size, owner)

    def host(self, shape: Sequence[int]) -> HostBlock:
        array = np.zeros(tuple(shape), np.float32)
        return HostBlock(array, array.ctypes.data, array)

    def _copy(self, source: int, target: int, size: int, stream: Stream) -> None:
        self.push(stream.handle, lambda: ctypes.memmove(target, source, size) and None)

    def upload(self, source: HostBlock, target: DeviceBlock, size: int, stream: Stream) -> None:
        self._copy(source.address, target.address, size, stream)

    def download(self, source: DeviceBlock, target: HostBlock, size: int, stream: Stream) -> None:
        self._copy(source.address, target.address, size, stream)

    def wait(self, stream: Stream) -> None:
        work, self.todo[stream.handle] = self.todo[stream.handle], []
        for item in work:
            item()

    def capture(self, stream: Stream, call: Callable[[], None]) -> Callable[[], None]:
        self.recording, work = [], []
        call()
        work, self.recording = self.recording, None
        self.captured += 1
        return lambda: [self.push(stream.handle, item) for item in work] and None


class StandInContext:
    """Computes cls = sum of the image + its blocks, patch_mean = twice the sum."""

    def __init__(self, buffers: StandInBuffers) -> None:
        self.buffers = buffers
        self.at: dict[str, int] = {}
        self.rows = 0
        self.profile = -1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.rows = shape[0]
        return (1, 4)[self.profile] == self.rows

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= 64 * self.rows

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.at[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [] if len(self.at) == 3 else ["forgotten"]

    def execute_async_v3(self, stream: int) -> bool:
        self.buffers.push(stream, self._run)
        return True

    def _run(self) -> None:
        def view(name: str, *shape: int) -> np.ndarray:
            count = int(np.prod(shape))
            return np.ctypeslib.as_array(
                (ctypes.c_float * count).from_address(self.at[name])
            ).reshape(shape)

        total = view("pixel_values", self.rows, 3 * 28 * 28).sum(axis=1)
        view("cls", self.rows, 4, 32)[:] = total[:, None, None] + np.arange(4)[None, :, None]
        view("patch_mean", self.rows, 32)[:] = 2 * total[:, None]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[StandInBuffers]:
    """TensorRT without a GPU: the runner's own logic over host memory."""
    buffers = StandInBuffers()
    engine = SimpleNamespace(
        create_execution_context=lambda strategy: StandInContext(buffers),
        get_device_memory_size_for_profile_v2=lambda index: (64, 256)[index],
        num_optimization_profiles=2,
    )
    trt = SimpleNamespace(
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="USER_MANAGED")
    )
    monkeypatch.setattr(tensorrt_runner, "open_buffers", lambda kind: buffers)
    monkeypatch.setattr(tensorrt_runner, "load_plan", lambda flavour, blob: engine)
    monkeypatch.setattr(tensorrt_runner, "logger", lambda flavour: (None, Journal()))
    monkeypatch.setattr(tensorrt_flavour.Flavour, "load", lambda flavour: trt)
    yield buffers


def _engine(folder: Path, **settings: Any) -> Engine:
    (folder / "engine.plan").write_bytes(b"plan")
    return Engine(
        folder,
        {
            "key": "k",
            "batch": 4,
            "input_shape": [3, 28, 28],
            "outputs": {"cls": [4, 32], "patch_mean": [32]},
            "settings": {"streams": 2, "buckets": [1, 4], "flags": [], "buffers": "auto"}
            | {"cuda_graphs": True}
            | settings,
        },
    )


@pytest.mark.parametrize("graphs", [True, False])
def test_the_runner_pads_to_buckets_and_keeps_order(
    stand_in: StandInBuffers, tmp_path: Path, graphs: bool
) -> None:
    rng = np.random.default_rng(0)
    batches = [
        rng.standard_normal((rows, 3, 28, 28)).astype(np.float32) for rows in (1, 3, 4, 9, 1, 5)
    ]
    runner = tensorrt_runner.TensorRTRunner(_engine(tmp_path, cuda_graphs=graphs), TENSORRT)
    with runner:
        assert stand_in.captured == (4 if graphs else 0)  # two slots with two buckets each
        found = list(runner.infer_stream(iter(batches)))
        first = runner.infer(batches[0])
        call = runner.resident_call()
        assert call is not None
        call()
    for batch, rows in zip(batches, found, strict=True):
        total = batch.sum(axis=(1, 2, 3), dtype=np.float64)
        assert rows["cls"].shape == (len(batch), 4, 32)
        np.testing.assert_allclose(rows["cls"][:, 3, 0], total + 3, atol=1e-3)
        np.testing.assert_allclose(rows["patch_mean"][:, 31], 2 * total, atol=1e-3)
    np.testing.assert_array_equal(first["cls"], found[0]["cls"])


def test_too_little_memory_says_what_fits(stand_in: StandInBuffers, tmp_path: Path) -> None:
    stand_in.free = 60_000
    runner = tensorrt_runner.TensorRTRunner(_engine(tmp_path), TENSORRT)
    with pytest.raises(EngineError, match="MiB of GPU memory.*are free") as caught, runner:
        pass
    assert "a batch of 1 fits" in caught.value.fix


def test_a_shape_that_the_engine_does_not_have_is_an_error(
    stand_in: StandInBuffers, tmp_path: Path
) -> None:
    runner = tensorrt_runner.TensorRTRunner(_engine(tmp_path, buckets=[2, 4]), TENSORRT)
    with pytest.raises(EngineError, match=r"does not take 2 rows of \(3, 28, 28\)"), runner:
        pass


def test_a_failed_call_is_an_error(
    stand_in: StandInBuffers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInContext, "execute_async_v3", lambda self, stream: False)
    runner = tensorrt_runner.TensorRTRunner(_engine(tmp_path), TENSORRT)
    with pytest.raises(EngineError, match="failed on the GPU"), runner:
        pass


def test_an_unknown_kind_of_buffers_is_refused() -> None:
    with pytest.raises(EngineError, match="torch, cuda-bindings or pycuda"):
        open_buffers("numpy")


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("kind", ["torch", "cuda"])
def test_buffers_carry_bytes_to_the_gpu_and_back(kind: str) -> None:
    buffers = open_buffers(kind)
    stream, there, back = buffers.stream(), buffers.host((5, 7)), buffers.host((5, 7))
    block = buffers.device(5 * 7 * 4)
    there.array[:] = np.arange(35).reshape(5, 7)
    buffers.upload(there, block, 140, stream)
    replay = buffers.capture(stream, lambda: buffers.download(block, back, 140, stream))
    replay()
    buffers.wait(stream)
    np.testing.assert_array_equal(back.array, there.array)
    buffers.close()


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_a_gpu_the_engine_passes_the_gate(
    tiny_graph: Callable[[str], Any], cache: Path, backend: str, precision: str
) -> None:
    if not registry.get_backend(backend).is_available().can_run:
        pytest.skip(registry.get_backend(backend).is_available().reason)
    graph = tiny_graph(precision)
    engine = get_or_build(graph, backend=backend, profile=PROFILE)
    with open_runner(engine) as runner:
        images = (
            np.random.default_rng(0).standard_normal((6, *graph.input_shape)).astype(np.float32)
        )
        assert runner.infer(images)["cls"].shape == (6, *graph.outputs["cls"])
