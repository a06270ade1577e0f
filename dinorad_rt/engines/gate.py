"""The parity gate between a graph and its engine: nothing is cached before it passed.

Checked for every output: cosine (the worst vector, not the mean), relative L2 (the worst image),
the first percentile of the patch tokens' cosine, finiteness, and that an image's row does not
depend on its neighbours, its place in the batch, or padding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.manifest import Engine
from dinorad_rt.engines.reference import PROBE_VERSION, probe_images, reference_outputs
from dinorad_rt.errors import ParityError
from dinorad_rt.export.recipe import ParityLimits, load_recipe
from dinorad_rt.runners.base import AbstractRunner, Rows
from dinorad_rt.runners.registry import get_backend

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

DENSE = "patch_tokens"
LOGITS = "logits"
_SMALL = 1e-3
"""Vectors shorter than this share of the median length have no direction worth comparing."""


def check_engine(graph: Graph, engine: Engine) -> dict[str, Any]:
    """Compare an engine with its graph on probe images, within the limits of its recipe.

    Returns:
        The numbers, for the manifest: `outputs` (per output), `rows`, `limits`, `load_seconds`.

    Raises:
        ParityError: with the numbers that left the limits, and the way out.
    """
    recipe = load_recipe(str(graph.manifest["recipe"]["family"]))
    images = probe_images(engine.input_shape)[: recipe.images]
    wanted = reference_outputs(graph, images)
    start = time.perf_counter()
    with get_backend(engine.backend).load(engine) as runner:
        load_seconds = time.perf_counter() - start
        found = runner.infer(images)
        rows = row_differences(runner, images, found)
    limits = recipe.build_limits(engine.precision)
    outputs = {name: compare_output(name, wanted[name], found[name]) for name in wanted}
    faults = output_faults(outputs, limits, "the engine") + _row_faults(rows, limits)
    if faults:
        raise ParityError(
            f"The {engine.backend} engine of {engine.model} ({engine.precision}) is not its "
            f"graph: {'; '.join(faults)}. Nothing was cached.",
            "Choose another backend with --backend, or keep more in FP32 with --precision mixed "
            "or fp32.",
        )
    return {
        "probe": PROBE_VERSION,
        "images": len(images),
        "outputs": outputs,
        "rows": rows,
        "limits": asdict(limits),
        "load_seconds": round(load_seconds, 4),
    }


def compare_output(name: str, wanted: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Distance of two forms of an output, by its name.

    Logits have no direction worth comparing, and an image's may all be near zero: their distance
    is measured against the usual length of the logits. `cosine_min` is left out.
    """
    if name != LOGITS:
        return compare(wanted, found, dense=name == DENSE)
    if wanted.shape != found.shape:
        return {"relative_l2_max": float("inf"), "finite": 0.0}
    return {
        "relative_l2_max": float(relative_l2(wanted, found, floor=1.0).max()),
        "finite": float(np.isfinite(found).mean()),
    }


def compare(wanted: np.ndarray, found: np.ndarray, *, dense: bool = False) -> dict[str, float]:
    """Distance of two forms of one output.

    Args:
        wanted, found: (images, ..., dim), one vector along the last axis.
        dense: also give the first percentile over vectors.

    Returns:
        `cosine_min`, `relative_l2_max`, `finite` (share of finite values of `found`), and for
        dense outputs `cosine_p01`.
    """
    if wanted.shape != found.shape:
        return {"cosine_min": -1.0, "relative_l2_max": float("inf"), "finite": 0.0}
    good = np.isfinite(found)
    cosines = _cosines(wanted, np.where(good, found, 0.0))
    numbers = {
        "cosine_min": float(cosines.min()),
        "relative_l2_max": float(relative_l2(wanted, found).max()),
        "finite": float(good.mean()),
    }
    if dense:
        numbers["cosine_p01"] = float(np.percentile(cosines, 1))
    return numbers


def output_faults(
    outputs: Mapping[str, Mapping[str, float]], limits: ParityLimits, what: str
) -> list[str]:
    """What left the limits, one clause each; `outputs` as `compare` gives them."""
    faults = []
    for name, numbers in outputs.items():
        if numbers["finite"] < 1.0:
            faults.append(f"{name}: {1 - numbers['finite']:.1%} of the values are not finite")
        dense = name == DENSE
        key, least = ("cosine_p01", limits.patch_cosine) if dense else ("cosine_min", limits.cosine)
        value = 1.0 if name == LOGITS else numbers.get(key, -1.0)
        if value < least:
            faults.append(f"{name}: {key} of {what} is {value:.6f}, must be at least {least}")
        if numbers["relative_l2_max"] > limits.relative_l2:
            faults.append(
                f"{name}: relative L2 of {what} is {numbers['relative_l2_max']:.2e}, must be at "
                f"most {limits.relative_l2:.0e}"
            )
    return faults


def relative_l2(wanted: np.ndarray, found: np.ndarray, *, floor: float = _SMALL) -> np.ndarray:
    """Per image: length of the difference over the length of what was wanted.

    Lengths below `floor` times the median length count as that.
    """
    first = wanted.reshape(len(wanted), -1).astype(np.float64)
    second = found.reshape(len(found), -1).astype(np.float64)
    second[~np.isfinite(second)] = np.nan
    length = np.linalg.norm(first, axis=1)
    least = max(float(np.median(length)) * floor, 1e-12)
    distance = np.linalg.norm(first - second, axis=1) / np.maximum(length, least)
    return np.where(np.isfinite(distance), distance, np.inf)


def row_differences(runner: AbstractRunner, images: np.ndarray, found: Rows) -> dict[str, float]:
    """How far an image's row moves in other company.

    Args:
        runner: active.
        images: the probe images.
        found: outputs of `runner` for them in their own order.

    Returns:
        `neighbours`: the images in every row of a full batch, in another order. `alone`: the
        first image by itself, padded as the backend pads.
    """
    count = len(images)
    places = np.random.default_rng(0).permutation(max(runner.batch, count)) % count
    moved = runner.infer(images[places])
    alone = runner.infer(images[:1])
    return {
        "neighbours": max(
            row_distance(name, value[places], moved[name]) for name, value in found.items()
        ),
        "alone": max(row_distance(name, value[:1], alone[name]) for name, value in found.items()),
    }


def row_distance(name: str, wanted: np.ndarray, found: np.ndarray) -> float:
    """Greatest relative L2 distance of an output's rows, by its name."""
    floor = 1.0 if name == LOGITS else _SMALL
    return float(relative_l2(wanted, found, floor=floor).max())


def _cosines(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    first = wanted.reshape(-1, wanted.shape[-1]).astype(np.float64)
    second = found.reshape(-1, found.shape[-1]).astype(np.float64)
    lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    floor = max(float(np.median(lengths[0])) * _SMALL, 1e-12)
    product = np.maximum(lengths[0] * lengths[1], 1e-300)
    cosine = np.sum(first * second, axis=1) / product
    short = (lengths[0] < floor) & (lengths[1] < 2 * floor)
    return np.where(short, 1.0, np.clip(cosine, -1.0, 1.0))


def _row_faults(rows: Mapping[str, float], limits: ParityLimits) -> list[str]:
    faults = []
    for name, distance in rows.items():
        if distance > limits.rows:
            company = "its neighbours" if name == "neighbours" else "padding"
            faults.append(
                f"an image's embedding depends on {company}: relative L2 {distance:.2e}, must be "
                f"at most {limits.rows:.0e}"
            )
    return faults
