"""Which provider runs where, and what a session is given; the GPU itself is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import EngineError
from dinorad_rt.runners import onnxruntime
from dinorad_rt.runners import onnxruntime_providers as providers


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`gpu(tensorrt="11.4")`: onnxruntime-gpu and a GPU are here, with this TensorRT or none."""

    def pretend(tensorrt: str | None = None) -> None:
        versions = {"onnxruntime-gpu": "1.31.1", "tensorrt": tensorrt}
        monkeypatch.setattr(providers, "version_of", versions.get)
        monkeypatch.setattr(providers, "has_gpu", lambda: True)
        monkeypatch.setattr(providers, "is_installed", lambda name: False)
        monkeypatch.setattr(providers, "TENSORRT_LIBRARY", "libnone.so.10")

    return pretend


def test_without_a_gpu_only_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "has_gpu", lambda: False)
    providers.check_device("cpu")
    for device in ("cuda", "tensorrt", "tpu"):
        with pytest.raises(EngineError, match=f"cannot run on '{device}' here") as caught:
            providers.check_device(device)
        assert "device = 'cpu'" in caught.value.fix


def test_the_tensorrt_provider_needs_tensorrt_10(gpu: Callable[..., None]) -> None:
    gpu(tensorrt="11.4.0.106")
    providers.check_device("cuda")
    with pytest.raises(EngineError, match=r"needs TensorRT 10 .* installed is 11\.4") as caught:
        providers.check_device("tensorrt")
    assert "--backend tensorrt" in caught.value.fix
    gpu(tensorrt="10.16.0")
    providers.check_device("tensorrt")


def test_its_options_name_one_shape_and_the_engines_own_folder(
    gpu: Callable[..., None], tiny_graph: Callable[[str], Any], cache: Path, tmp_path: Path
) -> None:
    gpu(tensorrt="10.16.0")
    graph = tiny_graph("fp16")
    profile = Profile("test", batch=6, options={"onnxruntime": {"device": "tensorrt"}})
    plan = onnxruntime.plan(graph, profile)
    assert (plan.settings["device"], plan.settings["matrix_type"]) == ("tensorrt", "float16")
    (name, options), behind = providers.session_providers(
        plan.settings, tmp_path, plan.batch, graph.input_shape
    )
    assert (name, behind) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    shapes = {options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")}
    assert shapes == {"pixel_values:6x3x32x32"}
    assert options["trt_fp16_enable"] and not options["trt_bf16_enable"]
    assert options["trt_engine_cache_path"] == str(tmp_path)
    plain = onnxruntime.plan(graph, replace(profile, options={}))
    assert providers.session_providers(plain.settings, tmp_path, 6, (3, 32, 32)) == [
        "CUDAExecutionProvider"
    ]


def test_an_option_that_onnxruntime_does_not_know_would_be_an_error(tmp_path: Path) -> None:
    """The provider names are ONNX Runtime's own."""
    import onnxruntime as runtime

    assert set(providers.PROVIDERS.values()) <= set(runtime.get_all_providers())
