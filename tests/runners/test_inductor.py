"""Inductor's package gives what PyTorch gives for the program, keeps its types, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.engines.build import get_or_build, open_runner
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import BackendMissingError, BuildError, EngineError, ProofError
from dinorad_rt.machine import has_gpu
from dinorad_rt.runners import inductor, pytorch

PROFILE = Profile(
    "test", batch=3, threads=2, options={"inductor": {"device": "cpu", "max_autotune": False}}
)
PRODUCTS = 6 * 8 + 1
"""Of test_vit: six blocks (query, key, value, attention twice, three more), patch embedding."""
compiler = pytest.mark.skipif(inductor._compiler() is None, reason="no C++ compiler")


@pytest.fixture(autouse=True)
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiled before is reused."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


def _images(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, 3, 32, 32)).astype(np.float32)


def _wanted(graph: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    import torch

    module = torch.export.load(str(graph.program_path)).module()
    with torch.inference_mode():
        values = module(torch.from_numpy(images))
    return {n: v.float().numpy() for n, v in zip(graph.outputs, values, strict=True)}


@compiler
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_outputs_are_those_of_pytorch_for_any_batch(
    tiny_graph: Callable[[str], Any], cache: Path, precision: str, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = tiny_graph(precision)
    engine = get_or_build(graph, backend="inductor", profile=PROFILE)
    kind = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    assert engine.manifest["proof"]["matrix_products"] == {kind: PRODUCTS}
    batches = [_images(rows) for rows in (2, 3, 4, 7)]
    with open_runner(engine) as runner:
        found = list(runner.infer_stream(batches))
        alone = runner.infer(batches[0][:1])
    tolerance = 2e-5 if precision == "fp32" else 0.1
    for batch, rows in zip(batches, found, strict=True):
        for name, value in _wanted(graph, batch).items():
            assert rows[name].dtype == np.float32
            np.testing.assert_allclose(rows[name], value, atol=tolerance)
    np.testing.assert_array_equal(alone["cls"], found[0]["cls"][:1])
    assert "Autotune" not in capfd.readouterr().err


@compiler
def test_a_silent_fp32_build_is_an_error(tiny_graph: Callable[[str], Any], cache: Path) -> None:
    graph = tiny_graph("fp32")
    liar = replace(graph, manifest=graph.manifest | {"precision": "fp16"})
    with pytest.raises(BuildError, match=f"should be float16, and are {PRODUCTS} in float32"):
        get_or_build(liar, backend="inductor", profile=PROFILE)


def test_bad_requests_are_refused(
    tiny_graph: Callable[[str], Any],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = tiny_graph("fp32")
    monkeypatch.setattr(inductor, "_compiler", lambda: "g++")
    for options, message in (
        ({"freeze": True}, "the options freeze"),
        ({"device": "tpu"}, "cannot run on 'tpu'"),
    ):
        with pytest.raises(EngineError, match=message):
            inductor.plan(graph, replace(PROFILE, options={"inductor": options}))
    with pytest.raises(BuildError, match=r"holds no model\.pt2"):
        plan = inductor.plan(graph, PROFILE)
        inductor.build(replace(graph, folder=tmp_path), plan, tmp_path)
    monkeypatch.setattr(inductor, "_compiler", lambda: None)
    with pytest.raises(BackendMissingError, match=r"no C\+\+ compiler") as caught:
        get_or_build(graph, backend="inductor", profile=PROFILE)
    assert "g++" in caught.value.fix


def test_products_in_fp32_stand_beside_others_where_they_were_asked_for(
    tiny_graph: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", lambda *_, **__: None)
    monkeypatch.setattr(inductor, "_products", lambda _: {"bfloat16": 89, "float32": 8})
    graph = tiny_graph("bf16")
    plan = inductor.plan(graph, PROFILE)
    with pytest.raises(ProofError, match="89 in bfloat16, 8 in float32"):
        inductor.build(graph, plan, tmp_path)
    kept = replace(graph, manifest=graph.manifest | {"keep_fp32": ["blocks.3"]})
    inductor.build(kept, plan, tmp_path)


@pytest.mark.parametrize("backend", [inductor, pytorch])
def test_a_program_is_never_int8(tiny_graph: Callable[[str], Any], backend: Any) -> None:
    graph = tiny_graph("fp32")
    graph = replace(graph, manifest=graph.manifest | {"precision": "int8"})
    with pytest.raises(EngineError, match="cannot run int8"):
        backend.plan(graph, PROFILE)


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("graphs", [True, False])
def test_on_a_gpu(
    tiny_graph: Callable[[str], Any], cache: Path, precision: str, graphs: bool
) -> None:
    graph = tiny_graph(precision)
    options = {"inductor": {"device": "cuda", "max_autotune": False, "cuda_graphs": graphs}}
    engine = get_or_build(graph, backend="inductor", profile=replace(PROFILE, options=options))
    images = _images(7)
    with open_runner(engine) as runner:
        found = runner.infer(images)
    for name, value in _wanted(graph, images).items():
        np.testing.assert_allclose(found[name], value, atol=1e-4 if precision == "fp32" else 0.1)
