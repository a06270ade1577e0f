"""The gate: its measures are those of others, and each planted fault is caught and named."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from dinorad_rt.engines import gate
from dinorad_rt.engines.gate import check_engine, compare, relative_l2
from dinorad_rt.errors import ParityError
from dinorad_rt.export.recipe import load_recipe
from dinorad_rt.runners.base import AbstractRunner, Rows

SHAPE = (3, 14, 14)


def test_measures_are_scipys() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((5, 4, 16)).astype(np.float32)
    found = wanted + 0.1 * rng.standard_normal(wanted.shape).astype(np.float32)
    pairs = zip(wanted.reshape(-1, 16), found.reshape(-1, 16), strict=True)
    worst = min(1 - cosine(a, b) for a, b in pairs)
    distances = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(wanted, found)]  # noqa: B905
    numbers = compare(wanted, found, dense=True)
    assert numbers["cosine_min"] == pytest.approx(worst, abs=1e-6)
    assert numbers["relative_l2_max"] == pytest.approx(max(distances), rel=1e-5)
    assert numbers["cosine_min"] <= numbers["cosine_p01"] <= 1
    assert relative_l2(wanted, found) == pytest.approx(distances, rel=1e-5)


def test_the_worst_image_counts_not_the_mean() -> None:
    wanted = np.eye(100, dtype=np.float32)
    found = wanted.copy()
    found[7] = np.roll(found[7], 1)
    assert compare(wanted, found)["cosine_min"] == pytest.approx(0)


def test_rows_without_length_have_no_direction() -> None:
    wanted = np.ones((3, 8), np.float32)
    wanted[1] = 0
    found = wanted.copy()
    found[1] = 1e-7
    assert compare(wanted, found)["cosine_min"] == pytest.approx(1)


def test_another_shape_and_nan_never_pass() -> None:
    wanted = np.ones((2, 8), np.float32)
    assert compare(wanted, wanted[:1])["cosine_min"] == -1
    found = wanted.copy()
    found[0, 0] = np.nan
    numbers = compare(wanted, found)
    assert numbers["finite"] == pytest.approx(15 / 16)
    assert numbers["relative_l2_max"] == np.inf


def _features(images: np.ndarray) -> np.ndarray:
    weights = np.random.default_rng(1).standard_normal((np.prod(SHAPE), 12)).astype(np.float32)
    return np.asarray(images.reshape(len(images), -1) @ weights + 3.0, np.float32)


def _dropped_bias(images: np.ndarray) -> np.ndarray:
    return _features(images) - 3.0


def _overflow(images: np.ndarray) -> np.ndarray:
    values = _features(images)
    return np.where(np.abs(values) > np.abs(values).max() * 0.9, np.inf, values)


def _batch_leak(images: np.ndarray) -> np.ndarray:
    values = _features(images)
    return values + 0.05 * np.roll(values, 1, axis=0) * (np.arange(len(values)) > 3)[:, None]


def _padding(images: np.ndarray) -> np.ndarray:
    values = _features(images)
    return values * np.float32(1.01) if len(values) == 1 else values


def _rounded(images: np.ndarray) -> np.ndarray:
    return _features(images.astype(np.float16).astype(np.float32))


class _Runner(AbstractRunner):
    backend = "planted"

    def __init__(self, engine: Any, model: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(engine)
        self._model = model

    def _activate(self) -> None:
        pass

    def _release(self) -> None:
        pass

    def _submit(self, chunk: np.ndarray) -> Rows:
        return {"patch_mean": self._model(chunk)}

    def _collect(self, ticket: Rows) -> Rows:
        return ticket


def _check(
    monkeypatch: pytest.MonkeyPatch, model: Callable[[np.ndarray], np.ndarray], precision: str
) -> dict[str, Any]:
    engine: Any = SimpleNamespace(
        input_shape=SHAPE,
        batch=8,
        outputs={"patch_mean": (12,)},
        backend="planted",
        model="tiny",
        precision=precision,
    )
    backend = SimpleNamespace(load=lambda engine: _Runner(engine, model))
    monkeypatch.setattr(gate, "get_backend", lambda name: backend)
    monkeypatch.setattr(
        gate, "reference_outputs", lambda graph, images: {"patch_mean": _features(images)}
    )
    graph: Any = SimpleNamespace(manifest={"recipe": {"family": "vit"}})
    return check_engine(graph, engine)


def test_an_honest_engine_passes_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = _check(monkeypatch, _features, "fp32")
    assert numbers["outputs"]["patch_mean"]["cosine_min"] == pytest.approx(1)
    assert numbers["rows"]["neighbours"] <= load_recipe("vit").limits["fp32"].rows


@pytest.mark.parametrize(
    ("model", "precision", "message"),
    [
        (_dropped_bias, "fp16", "patch_mean: cosine_min"),
        (_overflow, "fp16", "not finite"),
        (_batch_leak, "fp16", "depends on its neighbours"),
        (_padding, "fp16", "depends on padding"),
        (_rounded, "fp32", "relative L2"),
    ],
)
def test_planted_faults_are_caught_and_named(
    monkeypatch: pytest.MonkeyPatch,
    model: Callable[[np.ndarray], np.ndarray],
    precision: str,
    message: str,
) -> None:
    with pytest.raises(ParityError, match=message) as caught:
        _check(monkeypatch, model, precision)
    assert "Nothing was cached" in caught.value.problem
    assert "--backend" in caught.value.fix


def test_fp32_is_held_to_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _check(monkeypatch, _rounded, "fp16")["limits"]["cosine"] == 0.999
    with pytest.raises(ParityError):
        _check(monkeypatch, _rounded, "fp32")
