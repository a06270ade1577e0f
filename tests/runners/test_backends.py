"""Every backend gives what PyTorch gives for the graph's program, or refuses aloud."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.engines.build import get_or_build, open_runner
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import (
    BackendMissingError,
    BuildError,
    EngineError,
    NoMemoryError,
    NoSpaceError,
)
from dinorad_rt.machine import cpu_precisions
from dinorad_rt.runners import onnxruntime, openvino, registry
from dinorad_rt.runners.base import Availability, Rows

BATCH = 3
PROFILE = Profile("test", batch=BATCH, threads=2)
BACKENDS = ("openvino", "onnxruntime", "pytorch")


def _images(graph: Any, rows: int) -> np.ndarray:
    rng = np.random.default_rng(rows)
    return rng.standard_normal((rows, *graph.input_shape)).astype(np.float32)


def _wanted(graph: Any, images: np.ndarray) -> Rows:
    import torch

    module = torch.export.load(str(graph.program_path)).module()
    with torch.inference_mode():
        values = module(
            torch.from_numpy(np.resize(images, (max(len(images), 2), *images.shape[1:])))
        )
    pairs = zip(graph.outputs, values, strict=True)
    return {name: value[: len(images)].float().numpy() for name, value in pairs}


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_are_those_of_pytorch_for_any_batch(
    tiny_graph: Callable[[str], Any], cache: Path, backend: str
) -> None:
    graph = tiny_graph("fp32")
    with open_runner(get_or_build(graph, backend=backend, profile=PROFILE)) as runner:
        sizes = (1, BATCH, BATCH + 1, 2 * BATCH + 1)
        batches = [_images(graph, rows) for rows in sizes]
        streamed = list(runner.infer_stream(batches))
        for batch, rows in zip(batches, streamed, strict=True):
            alone = runner.infer(batch)
            assert list(rows) == list(graph.outputs)
            for name, value in _wanted(graph, batch).items():
                assert rows[name].dtype == np.float32
                assert rows[name].flags.owndata or rows[name].base is not None
                np.testing.assert_allclose(rows[name], value, atol=2e-5)
                np.testing.assert_allclose(alone[name], rows[name], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_the_callers_own(
    tiny_graph: Callable[[str], Any], cache: Path, backend: str
) -> None:
    graph = tiny_graph("fp32")
    with open_runner(get_or_build(graph, backend=backend, profile=PROFILE)) as runner:
        first = runner.infer(_images(graph, BATCH))
        kept = {name: value.copy() for name, value in first.items()}
        for rows in (1, 2, 3, 4):
            runner.infer(_images(graph, rows))
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_call_without_copies_can_be_timed(
    tiny_graph: Callable[[str], Any], cache: Path, backend: str
) -> None:
    graph = tiny_graph("fp32")
    runner = open_runner(get_or_build(graph, backend=backend, profile=PROFILE))
    with pytest.raises(EngineError, match="not active"):
        runner.resident_call()
    with runner:
        images = _images(graph, BATCH)
        before = runner.infer(images)
        call = runner.resident_call()
        assert call is not None
        for _ in range(3):
            call()
        for name, value in runner.infer(images).items():
            np.testing.assert_allclose(value, before[name], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_thread_can_use_the_runner(
    tiny_graph: Callable[[str], Any], cache: Path, backend: str
) -> None:
    graph = tiny_graph("fp32")
    results: list[Rows] = []
    with open_runner(get_or_build(graph, backend=backend, profile=PROFILE)) as runner:
        images = _images(graph, 2)
        thread = threading.Thread(target=lambda: results.append(runner.infer(images)))
        thread.start()
        thread.join()
    np.testing.assert_allclose(results[0]["cls"], _wanted(graph, images)["cls"], atol=2e-5)


def test_bf16_keeps_its_type_where_the_processor_has_it(
    tiny_graph: Callable[[str], Any], cache: Path
) -> None:
    if "bf16" not in cpu_precisions():
        pytest.skip("no BF16 arithmetic here")
    graph = tiny_graph("bf16")
    engine = get_or_build(graph, backend="openvino", profile=PROFILE)
    assert set(engine.manifest["proof"]["matrix_products"]) == {"bf16"}
    images = _images(graph, BATCH)
    with open_runner(engine) as runner:
        found = runner.infer(images)
    for name, value in _wanted(graph, images).items():
        np.testing.assert_allclose(found[name], value, atol=0.1)
        assert np.abs(found[name] - value).max() > 0 or name == "cls"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_precision_without_arithmetic_is_refused(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    precision: str,
) -> None:
    monkeypatch.setattr(openvino, "cpu_precisions", lambda: ("fp32",))
    monkeypatch.setattr(onnxruntime, "cuda_is_here", lambda: False)
    with pytest.raises(EngineError, match=f"cannot run {precision}.*it runs fp32") as caught:
        get_or_build(tiny_graph(precision), backend=backend, profile=PROFILE)
    assert "--precision fp32" in caught.value.fix


def test_openvino_cannot_lower_fp16_to_bf16_in_silence(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the processor were said to have FP16, the proof after the build finds out."""
    if "fp16" in cpu_precisions():
        pytest.skip("this processor has FP16 arithmetic")
    monkeypatch.setattr(openvino, "cpu_precisions", lambda: ("fp32", "fp16"))
    with pytest.raises(BuildError, match="would not keep fp16.*should be f16"):
        get_or_build(tiny_graph("fp16"), backend="openvino", profile=PROFILE)


@pytest.mark.parametrize(("batch", "spins"), [(1, "1"), (8, "0")])
def test_onnxruntime_spins_where_latency_is_asked_for(
    tiny_graph: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, batch: int, spins: str
) -> None:
    import onnxruntime as runtime

    opened = []
    session = runtime.InferenceSession

    def spy(path: str, options: Any, **more: Any) -> Any:
        opened.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
        return session(path, options, **more)

    monkeypatch.setattr(runtime, "InferenceSession", spy)
    profile = Profile("test", batch=batch)
    engine = get_or_build(tiny_graph("fp32"), backend="onnxruntime", profile=profile)
    opened.clear()
    with open_runner(engine):
        assert opened == [spins]


@pytest.mark.parametrize("backend", ["onnxruntime", "pytorch"])
def test_a_silent_fp32_build_is_an_error(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """A graph that says FP16 and holds FP32 weights."""
    monkeypatch.setattr(onnxruntime, "_CPU_PRECISIONS", ("fp32", "fp16"))
    graph = tiny_graph("fp32")
    liar = replace(graph, manifest=graph.manifest | {"precision": "fp16"})
    with pytest.raises(BuildError, match="should be float16, and are .* in float32"):
        get_or_build(liar, backend=backend, profile=PROFILE)


def test_pytorch_runs_fp16_anywhere_and_says_that_it_is_slow(
    tiny_graph: Callable[[str], Any], cache: Path
) -> None:
    said: list[str] = []
    graph = tiny_graph("fp16")
    engine = get_or_build(graph, backend="pytorch", profile=PROFILE, progress=said.append)
    if "fp16" not in cpu_precisions() and engine.settings["device"] == "cpu":
        assert any("emulates" in text for text in said)
    images = _images(graph, 2)
    with open_runner(engine) as runner:
        np.testing.assert_allclose(
            runner.infer(images)["cls"], _wanted(graph, images)["cls"], atol=5e-3
        )


def test_a_graph_that_a_backend_refuses(
    tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    broken = replace(tiny_graph("fp32"), folder=tmp_path)
    with pytest.raises(BuildError, match="holds no model.pt2"):
        get_or_build(broken, backend="pytorch", profile=PROFILE)
    with pytest.raises(BuildError, match="refused the graph"):
        get_or_build(broken, backend="openvino", profile=PROFILE)


@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX")
@pytest.mark.parametrize("backend", [openvino, onnxruntime])
def test_a_full_disk_is_no_refusal(
    tiny_graph: Callable[[str], Any], tmp_path: Path, backend: Any
) -> None:
    import resource

    graph = tiny_graph("fp32")
    plan = backend.plan(graph, PROFILE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(NoSpaceError, match=r"while writing model\.(xml|onnx)"):
            backend.build(graph, plan, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_missing_backend_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda name: False)
    with pytest.raises(BackendMissingError, match="not installed") as caught:
        registry.require_backend("openvino")
    assert "pip install openvino" in caught.value.fix


def test_engine_of_another_version_is_not_opened(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = get_or_build(tiny_graph("fp32"), backend="onnxruntime", profile=PROFILE)
    state = Availability("onnxruntime", True, True, version="0.1")
    monkeypatch.setattr(onnxruntime, "is_available", lambda: state)
    with pytest.raises(BackendMissingError, match=r"built by onnxruntime .*; here is 0\.1"):
        open_runner(engine)


def test_listing_names_every_backend() -> None:
    states = registry.list_backends()
    assert tuple(state.backend for state in states) == registry.backend_names()
    for state in states:
        assert state.can_run or state.install


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_corrupted_image_reaches_neither_its_neighbours_nor_the_next_call(
    tiny_graph: Callable[[str], Any], cache: Path, backend: str, value: float
) -> None:
    graph = tiny_graph("fp32")
    images = _images(graph, BATCH)
    spoilt = images.copy()
    spoilt[1] = value
    with open_runner(get_or_build(graph, backend=backend, profile=PROFILE)) as runner:
        before, beside, after = map(runner.infer, (images, spoilt, images))
    for name, rows in before.items():
        np.testing.assert_array_equal(beside[name][[0, 2]], rows[[0, 2]])
        assert not np.isfinite(beside[name][1]).any()  # and it is no silent zero
        np.testing.assert_array_equal(after[name], rows)


def test_a_full_gpu_is_told_in_our_words(
    tiny_graph: Callable[[str], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    runner: Any = open_runner(get_or_build(tiny_graph("fp32"), backend="pytorch", profile=PROFILE))

    def full(pixels: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")

    with runner:
        monkeypatch.setattr(runner, "_module", full)
        with pytest.raises(NoMemoryError, match="GPU is full: .*Tried to allocate 2.00 GiB") as e:
            runner.infer(_images(tiny_graph("fp32"), 1))
    assert "smaller batch" in e.value.fix
