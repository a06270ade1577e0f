"""Every family of graphs in every precision compiles through TensorRT-RTX, without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import BuildError
from dinorad_rt.paths import recipe_dir
from dinorad_rt.runners.tensorrt_flavour import RTX
from dinorad_rt.runners.tensorrt_targets import build_for_targets

TARGETS = ("sm80", "sm89")
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
FAMILIES = {
    "vit": "dino_s16",
    "eva": "dinov3_s16",
    "siglip": "siglip_b16",
    "sam": "sam_b16",
    "cnn": "test_resnet",
}
"""Family → a backbone of it; transformers are made narrow and four blocks deep."""
NETWORKS = {
    "unet3d": ("volume", 8, (32, 32, 32)),
    "segresnet": ("volume", 8, (32, 32, 32)),
    "swinunetr": ("windows3d", 12, (32, 32, 64)),
}
"""Network of patches → its family, width and patch."""
NARROW = {"depth": 4, "embed_dim": 64, "num_heads": 2}
pytestmark = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_compiles_for_ampere_and_ada_and_keeps_its_precision(
    cache: Path, family: str, precision: str, record_property: Callable[[str, object], None]
) -> None:
    _compiles(_graph(family, precision), precision, record_property)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "name",
    [
        "unet3d",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("segresnet", "swinunetr")),
    ],
)
def test_networks_of_patches_compile_too(
    cache: Path, name: str, precision: str, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("monai")
    _compiles(_network(name, precision), precision, record_property)


def test_transposed_convolutions_in_bf16_are_a_clear_refusal(cache: Path) -> None:
    """TensorRT-RTX 1.7 cannot infer their type; a version that can makes this test fail."""
    pytest.importorskip("monai")
    with pytest.raises(BuildError, match=r"refused the graph of unet3d \(bf16\)"):
        build_for_targets(_network("unet3d", "bf16"), Profile("one", batch=2), TARGETS)


def test_no_family_is_forgotten() -> None:
    files = {path.stem for path in recipe_dir("export").glob("*.toml")}
    assert {*FAMILIES, *(family for family, _, _ in NETWORKS.values())} == files - {"common"}


def _compiles(graph: Any, precision: str, record_property: Callable[[str, object], None]) -> None:
    for built in build_for_targets(graph, Profile("one", batch=2), TARGETS):
        proof = built.engine.manifest["proof"]
        print(f"{graph.model} {precision} {built.target}: {proof}")
        record_property(f"proof {built.target}", proof)
        assert set(proof["matrix_products"]) == {TYPES[precision]}
        assert set(proof["softmax"]) <= {"float32"}  # the recipes keep it there
        assert set(proof["normalisation"]) <= {"float32"}
        assert built.size == built.engine.file("engine.plan").stat().st_size > 1000
        assert built.engine.file("engine.plan").read_bytes()[:4] in (b"vtrt", b"ftrt")


def _network(name: str, precision: str) -> Any:
    from dinorad_rt.training.export import export_tuned
    from tests.training.segmentation.untrained import untrained

    return export_tuned(untrained(name, *NETWORKS[name][1:]), precision=precision)  # type: ignore[arg-type]


def _graph(family: str, precision: str) -> Any:
    from dinorad_rt.backbones.load import _random_backbone
    from dinorad_rt.backbones.registry import get_spec
    from dinorad_rt.export.onnx_export import export_onnx

    spec = get_spec(FAMILIES[family])
    if family != "cnn":
        spec = replace(spec, dim=64, create=(*spec.create, *NARROW.items()))
    return export_onnx(_random_backbone(spec, 64, 0), precision=precision)  # type: ignore[arg-type]
