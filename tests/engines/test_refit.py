"""Refit: other weights in a cached engine give what a build gives, behind the same gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.engines.build import get_or_build, open_runner
from dinorad_rt.engines.cache import list_engines
from dinorad_rt.engines.profile import Profile
from dinorad_rt.engines.reference import probe_images
from dinorad_rt.engines.refit import refit_engine
from dinorad_rt.engines.structure import structure_digest
from dinorad_rt.errors import EngineError
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.machine import has_gpu

PROFILE = Profile("test", batch=2, threads=1)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`graphs(seed, precision)`: the tiny transformer with other weights."""
    root = tmp_path_factory.mktemp("refit")

    def make(seed: int, precision: str = "fp32", size: int = 32) -> Any:
        backbone = load_backbone("test_vit", weights="random", image_size=size, seed=seed)
        out = root / f"{precision}-{seed}-{size}"
        return export_onnx(backbone, precision=precision, out=out)  # type: ignore[arg-type]

    return make


def test_structure_is_all_but_the_weights(graphs: Any) -> None:
    first, second = structure_digest(graphs(0).path), structure_digest(graphs(1).path)
    assert first == second
    assert structure_digest(graphs(0, "bf16").path) != first
    assert structure_digest(graphs(0, size=64).path) != first


@pytest.mark.parametrize(
    ("backend", "precision"), [("openvino", "fp32"), ("pytorch", "fp32"), ("openvino", "bf16")]
)
def test_refitted_engine_is_the_built_one(
    graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, precision: str
) -> None:
    from dinorad_rt.machine import cpu_precisions

    if precision not in cpu_precisions():
        pytest.skip(f"this processor has no {precision}")
    images = probe_images((3, 32, 32))
    found = {}
    for way in ("built", "refitted"):
        monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path / way))
        if way == "built":
            engine = get_or_build(graphs(1, precision), backend=backend, profile=PROFILE)
        else:
            base = get_or_build(graphs(0, precision), backend=backend, profile=PROFILE)
            engine = refit_engine(graphs(1, precision), backend=backend, profile=PROFILE)
            assert engine.manifest["refit"]["base"] == base.key
            again = get_or_build(graphs(1, precision), backend=backend, profile=PROFILE)
            assert again.key == engine.key  # the key that a build would have given
        with open_runner(engine) as runner:
            found[way] = ((engine.key, engine.manifest["proof"]), runner.infer(images))
    assert found["built"][0] == found["refitted"][0]
    for name, value in found["built"][1].items():
        np.testing.assert_allclose(found["refitted"][1][name], value, rtol=1e-5, atol=1e-6)


def test_without_an_engine_of_the_structure_there_is_nothing_to_refit(
    graphs: Any, cache: Path
) -> None:
    with pytest.raises(EngineError, match="has the structure") as caught:
        refit_engine(graphs(0), backend="openvino", profile=PROFILE)
    assert "dinorad-rt build" in caught.value.fix
    get_or_build(graphs(0, size=64), backend="openvino", profile=PROFILE)
    with pytest.raises(EngineError, match="has the structure"):
        refit_engine(graphs(1), backend="openvino", profile=PROFILE)
    assert len(list(list_engines())) == 1


def test_a_backend_that_cannot_says_why(graphs: Any, cache: Path) -> None:
    with pytest.raises(EngineError, match="order of its own kernels"):
        refit_engine(graphs(0), backend="onnxruntime", profile=PROFILE)


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt_refits_through_nvidias_refitter(graphs: Any, cache: Path, backend: str) -> None:
    pytest.importorskip(backend.replace("-", "_"))
    profile = Profile("refit", batch=2, options={backend: {"refittable": True}})
    get_or_build(graphs(0, "fp16"), backend=backend, profile=profile)
    engine = refit_engine(graphs(1, "fp16"), backend=backend, profile=profile)
    assert engine.manifest["parity"]["outputs"]["cls"]["cosine_min"] > 0.999
