"""Small architectures under our own names, so that whole loads take milliseconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from dinorad_rt.backbones import registry
from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.backbones.spec import BackboneSpec

WIDTH, DEPTH, HEADS = 48, 3, 3


@pytest.fixture
def shrink(monkeypatch: pytest.MonkeyPatch) -> Callable[..., BackboneSpec]:
    """Register a registered backbone again, shrunken, under `tiny`."""

    def make(base: str, *, native_size: int = 70, **create: Any) -> BackboneSpec:
        original = get_spec(base)
        sizes = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
        spec = dataclasses.replace(
            original,
            name="tiny",
            dim=WIDTH,
            image_size=native_size,
            native_size=native_size,
            sha256=None,
            create=(*original.create, *{**sizes, **create}.items()),
        )
        monkeypatch.setitem(registry._registered, "tiny", spec)
        return spec

    return make
