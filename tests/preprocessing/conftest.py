"""Specs, images and implementations that the preprocessing tests share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytest

from dinorad_rt.preprocessing import native
from dinorad_rt.preprocessing.spec import PreprocessSpec

PLAIN = PreprocessSpec(image_size=40, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class MakeSpec(Protocol):
    """Type of the fixture `make_spec`."""

    def __call__(self, **changes: Any) -> PreprocessSpec: ...


@pytest.fixture
def make_spec() -> MakeSpec:
    """A spec of side 40 whose output is the grey itself, with changes."""

    def make(**changes: Any) -> PreprocessSpec:
        return replace(PLAIN, **changes)

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240229)


@pytest.fixture(params=["reference", "native"])
def implementation(request: pytest.FixtureRequest) -> str:
    """Both implementations, where the kernel is built."""
    if request.param == "native" and not native.is_available():
        pytest.skip("this installation has no native kernel")
    return str(request.param)
