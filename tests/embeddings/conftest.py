"""The stand-ins of `fakes.py`, and an `embed` that runs on them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FAKES = Path(__file__).with_name("fakes.py")


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("embeddings_fakes", FAKES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, fakes: ModuleType) -> Callable[..., Any]:
    """`embed` with two workers; `run.runners` are the runners that were opened."""
    from dinorad_rt.embeddings.embed import embed

    def embed_with_fake(dataset: Any, out: Any, **options: Any) -> Any:
        engine = options.pop("engine", fakes.fake_engine())
        poison = options.pop("poison", False)

        def open_runner(engine: Any) -> Any:
            runner = fakes.FakeRunner(engine, poison=poison)
            embed_with_fake.runners.append(runner)  # type: ignore[attr-defined]
            return runner

        monkeypatch.setattr("dinorad_rt.engines.build.open_runner", open_runner)
        spec = options.pop("spec", fakes.SPEC)
        return embed(dataset, engine, spec, out, **{"workers": 2, "shard_rows": 8, **options})

    embed_with_fake.runners = []  # type: ignore[attr-defined]
    return embed_with_fake
