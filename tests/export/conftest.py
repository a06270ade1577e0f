"""Graphs of a tiny vision transformer, exported once per session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph


@pytest.fixture(scope="session")
def tiny_graph(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Graph]:
    """`tiny_graph("fp16")`: a tiny graph in a precision; shared by the folders of one session."""
    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.export.onnx_export import export_onnx

    root = tmp_path_factory.getbasetemp() / "tiny_graphs"

    def make(precision: str) -> Graph:
        backbone = load_backbone("test_vit", weights="random", image_size=32)
        return export_onnx(backbone, precision=precision, out=root / precision)  # type: ignore[arg-type]

    return functools.cache(make)
