"""Every family of graphs in every precision compiles through TensorRT-RTX, without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt.engines.profile import Profile
from dinorad_rt.paths import recipe_dir
from dinorad_rt.runners.tensorrt_flavour import RTX
from dinorad_rt.runners.tensorrt_targets import build_for_targets

TARGETS = ("sm80", "sm89")
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
FAMILIES = {"vit": "dino_s16", "eva": "dinov3_s16", "cnn": "test_resnet", "sam": "sam_b16"}
"""Family → a backbone of it; transformers are made narrow and four blocks deep."""
NARROW = {"depth": 4, "embed_dim": 64, "num_heads": 2}
pytestmark = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_compiles_for_ampere_and_ada_and_keeps_its_precision(
    cache: Path, family: str, precision: str, record_property: Callable[[str, object], None]
) -> None:
    for built in build_for_targets(_graph(family, precision), Profile("one", batch=2), TARGETS):
        proof = built.engine.manifest["proof"]
        print(f"{family} {precision} {built.target}: {proof}")
        record_property(f"proof {built.target}", proof)
        assert set(proof["matrix_products"]) == {TYPES[precision]}
        assert set(proof["softmax"]) <= {"float32"}  # the recipes keep it there
        assert set(proof["normalisation"]) <= {"float32"}
        assert built.size == built.engine.file("engine.plan").stat().st_size > 1000
        assert built.engine.file("engine.plan").read_bytes()[:4] in (b"vtrt", b"ftrt")


def test_no_family_is_forgotten() -> None:
    files = {path.stem for path in recipe_dir("export").glob("*.toml")}
    assert set(FAMILIES) == files - {"common"}


def _graph(family: str, precision: str) -> Any:
    from dinorad_rt.backbones.load import _random_backbone
    from dinorad_rt.backbones.registry import get_spec
    from dinorad_rt.export.onnx_export import export_onnx

    spec = get_spec(FAMILIES[family])
    if family != "cnn":
        spec = replace(spec, dim=64, create=(*spec.create, *NARROW.items()))
    return export_onnx(_random_backbone(spec, 64, 0), precision=precision)  # type: ignore[arg-type]
