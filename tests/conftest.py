"""Fixtures that every folder of tests uses."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

SHARED_VARIABLE = "DINORAD_RT_SHARED"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and weights beside the checkout; skips where it is absent."""
    root = Path(os.environ.get(SHARED_VARIABLE, Path(__file__).resolve().parents[2] / "shared"))
    data = root / "data"
    if not data.is_dir():
        pytest.skip("no real data beside this checkout")
    return data


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DINORAD_RT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_graph(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Graph]:
    """`tiny_graph("fp16")`: a graph of a tiny vision transformer, exported once per session."""
    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.export.onnx_export import export_onnx

    root = tmp_path_factory.getbasetemp() / "tiny_graphs"

    def make(precision: str) -> Graph:
        backbone = load_backbone("test_vit", weights="random", image_size=32)
        return export_onnx(backbone, precision=precision, out=root / precision)  # type: ignore[arg-type]

    return functools.cache(make)
