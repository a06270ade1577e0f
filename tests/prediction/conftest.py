"""Bundles around a stand-in runner whose logits depend on the pixels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dinorad_rt.engines.manifest import Engine
from dinorad_rt.prediction.bundle import Bundle
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.runners.base import AbstractRunner, Rows, pad_rows

SIZE = 32
SPEC = PreprocessSpec(SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), resize="pad")


def logits_of(pixels: np.ndarray, classes: int, kind: str) -> np.ndarray:
    """(rows, 3, size, size) → logits that a test can compute again."""
    if kind == "segmentation":
        bright = pixels[:, 0] - 0.5
        return np.stack([-bright, *(bright - 0.1 * i for i in range(classes - 1))], axis=1)
    mean = pixels.reshape(len(pixels), -1).mean(axis=1)
    return np.stack([mean * (i - 0.5 * (classes - 1)) for i in range(classes)], axis=1)


def stand_in_engine(bundle: Bundle) -> Engine:
    """The manifest of an engine of a bundle; there is no file behind it."""
    manifest = {
        "key": "e" * 64,
        "model": "tiny",
        "backend": "stand-in",
        "precision": "fp32",
        "batch": 4,
        "input_shape": [3, SIZE, SIZE],
        "outputs": {"logits": [len(bundle.class_names)]},
        "weights_kind": "random",
    }
    return Engine(Path("."), manifest)


class StandInRunner(AbstractRunner):
    backend = "stand-in"

    def __init__(self, engine: Engine, bundle: Bundle) -> None:
        super().__init__(engine, look_ahead=2)
        self.bundle = bundle
        self.rows = 0
        self.fail_after: int | None = None

    def _activate(self) -> None:
        pass

    def _release(self) -> None:
        pass

    def _submit(self, chunk: np.ndarray) -> np.ndarray:
        self.rows += len(chunk)
        if self.fail_after is not None and self.rows > self.fail_after:
            raise KeyboardInterrupt
        return np.array(pad_rows(chunk, self.batch))

    def _collect(self, ticket: np.ndarray) -> Rows:
        classes = len(self.bundle.class_names)
        found = logits_of(ticket.astype(np.float64), classes, self.bundle.kind)
        return {"logits": found.astype(np.float32)}


@pytest.fixture
def bundle_of() -> Callable[..., Bundle]:
    """`bundle_of(kind, task, classes, **facts)`, not on disk."""

    def make(
        kind: str = "classification",
        task: str = "binary",
        classes: tuple[str, ...] = ("no", "yes"),
        **facts: Any,
    ) -> Bundle:
        graph: Any = SimpleNamespace(weights_kind="random", sha256="ab" * 32)
        spec = SPEC.as_dict()
        values = {
            "name": "tiny",
            "kind": kind,
            "task": task,
            "class_names": list(classes),
            "activation": "sigmoid" if task == "multilabel" else "softmax",
            "preprocessing": {k: list(v) if isinstance(v, tuple) else v for k, v in spec.items()},
        }
        return Bundle(Path("."), values | facts, graph)

    return make


@pytest.fixture
def predict_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`predict` on a stand-in engine; `predict_with.runner` is the last one."""
    from dinorad_rt.prediction import predict as module

    def run(bundle: Bundle, path: Path, out: Path, *, fail_after: int | None = None, **kw: Any):
        engine = stand_in_engine(bundle)
        runner = StandInRunner(engine, bundle)
        runner.fail_after = fail_after
        run.runner = runner  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "build_engine", lambda *_, **__: engine)
        monkeypatch.setattr(module, "open_runner", lambda _: runner)
        options = module.PredictOptions()
        options = replace(options, **{k: kw.pop(k) for k in list(kw) if hasattr(options, k)})
        return module.predict(bundle, path, out, options, workers=2, **kw)

    return run
