"""Images that may not be shown, for tests of pages with pictures."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType
from typing import Any

import pytest


def hide(monkeypatch: pytest.MonkeyPatch, module: ModuleType, sample_ids: Collection[str]) -> None:
    """Let a module's `shown_study` refuse these samples and read the others."""
    read = module.shown_study

    def forbidding(sample: Any, *, burned_in: bool) -> Any:
        return None if sample.sample_id in sample_ids else read(sample, burned_in=burned_in)

    monkeypatch.setattr(module, "shown_study", forbidding)
