"""The program as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`program("eval", "--data", "x", cwd=folder)`: run it in a fresh interpreter."""

    def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dinorad_rt", *words], capture_output=True, text=True, cwd=cwd
        )

    return run
