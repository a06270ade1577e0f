"""Fixtures that every folder of tests uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
