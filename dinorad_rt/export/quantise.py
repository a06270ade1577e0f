"""`quantise_graph`: the FP32 graph of a backbone becomes an INT8 graph, calibrated on images.

Weights and activations are rounded where QuantizeLinear and DequantizeLinear stand in the ONNX
graph, so every backend sees the same types. NNCF finds the scales (with smoothing for transformers
and bias correction), by images of the train split of the user's own data. The gate judges the
result by other images of that split: scales are only valid for images like these.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.gate import compare_output, output_faults, relative_l2
from dinorad_rt.engines.reference import fp32_session
from dinorad_rt.errors import ExportError, ParityError
from dinorad_rt.export.lint import matrix_nodes
from dinorad_rt.export.manifest import FORMAT, MANIFEST, MODEL, Graph, write_manifest
from dinorad_rt.export.onnx_export import KIND, cached_graph, claimed_graph_folder, graph_lock
from dinorad_rt.export.parity import way_out
from dinorad_rt.export.recipe import ParityLimits, Recipe, load_recipe
from dinorad_rt.export.sites import Located, first_difference, onnx_sites, site_of
from dinorad_rt.files import atomic_folder, sha256_json
from dinorad_rt.optional import require, version_of
from dinorad_rt.paths import cache_dir
from dinorad_rt.progress import Say, silent

if TYPE_CHECKING:
    from dinorad_rt.export.calibration import CalibrationImages

QUANTISATION_VERSION = 1
"""Raised whenever the same request gives another INT8 graph than before; part of every key."""
LEAST_IMAGES = 8
AUTO = "auto"
"""As `keep_fp32`: blocks are chosen until the gate passes."""
LEAST_SHARE = 0.5
"""`auto` gives up when less than this share of the matrix products would be INT8."""
_LOCATE_IMAGES = 4


@dataclass(frozen=True)
class _Job:
    graph: Graph
    recipe: Recipe
    images: CalibrationImages
    keep_fp32: tuple[str, ...]
    facts: dict[str, Any]
    say: Say


def quantise_graph(
    graph: Graph,
    images: CalibrationImages,
    *,
    out: Path | None = None,
    keep_fp32: Sequence[str] = (),
    signed: bool = False,
    limits: ParityLimits | None = None,
    progress: Say | None = None,
) -> Graph:
    """Make the INT8 form of an FP32 graph; the same request is answered from disk.

    Args:
        graph: FP32, from `export_onnx`.
        images: from `calibration_images`.
        out: an empty or new folder; None for the cache.
        keep_fp32: blocks (`blocks.3`) that are not quantised, beside what the recipe keeps; `auto`
            chooses them.
        signed: all activations as signed INT8, for TensorRT.
        limits: other ones than the recipe's, for measuring what INT8 would cost.
        progress: told of each step.

    Raises:
        MissingPackageError: NNCF is not installed.
        ExportError: no FP32 graph, too few images, a block that does not exist, or one that NNCF
            cannot quantise.
        ParityError: on held-out images the INT8 graph is not the FP32 one.
    """
    say = progress or silent
    require("nncf", "INT8")
    recipe = load_recipe(str(graph.manifest["recipe"]["family"]))
    _check(graph, images)
    facts = {**_facts(graph, recipe, images, tuple(keep_fp32)), "signed": signed}
    if limits is not None:
        recipe = replace(recipe, limits={**recipe.limits, "int8": limits})
        facts["limits"] = asdict(limits)
    key = sha256_json(facts)
    job = _Job(graph, recipe, images, tuple(keep_fp32), {**facts, "key": key}, say)
    if out is not None:
        with claimed_graph_folder(out, key) as found:
            return found or _quantise(out, job)
    folder = cache_dir(KIND) / key
    with graph_lock(key, say):
        found = cached_graph(key)
        if found is not None:
            say(f"graph of {graph.model} (int8) from the cache")
            return found
        shutil.rmtree(folder, ignore_errors=True)
        return _quantise(folder, job)


def _check(graph: Graph, images: CalibrationImages) -> None:
    if graph.precision != "fp32":
        raise ExportError(
            f"INT8 is made from an FP32 graph; this one is {graph.precision}.",
            "Export with --precision fp32, or ask for --precision int8 at once.",
        )
    if min(len(images.calibration), len(images.held_out)) < LEAST_IMAGES:
        raise ExportError(
            f"INT8 needs at least {LEAST_IMAGES} training images to calibrate on and as many "
            f"others to judge it by; there are {len(images.calibration)} and "
            f"{len(images.held_out)}.",
            "Give more training images with --calibration, or use --precision bf16 or fp16.",
        )


def _facts(
    graph: Graph, recipe: Recipe, images: CalibrationImages, keep_fp32: tuple[str, ...]
) -> dict[str, Any]:
    kept = ("model", "family", "weights", "weights_kind", "image_size", "mean", "std", "dense")
    names = (
        *("architecture", "create", "position", "input_shape", "outputs", "opset"),
        "normalisation",
    )
    base = {name: graph.manifest[name] for name in (*kept, *names) if name in graph.manifest}
    return {
        "format": FORMAT,
        "quantisation_version": QUANTISATION_VERSION,
        **base,
        "source": graph.sha256,
        "precision": "int8",
        "keep_fp32": list(keep_fp32),
        "recipe": {"family": recipe.family, "sha256": recipe.digest},
        "calibration": dict(images.facts),
        "versions": {name: version_of(name) for name in ("nncf", "onnx")},
    }


def _quantise(folder: Path, job: _Job) -> Graph:
    import onnx

    job.say(f"calibrating INT8 on {len(job.images.calibration)} training images")
    kept = () if job.keep_fp32 == (AUTO,) else job.keep_fp32
    with atomic_folder(folder, MANIFEST) as part:
        while True:
            model = _calibrated(onnx.load(str(job.graph.path)), job, kept)
            onnx.save(model, str(part / MODEL))
            outputs, faults = _compared(part / MODEL, job)
            if not faults:
                break
            kept = _more_fp32(part / MODEL, job, (kept, faults, matrix_types(model)))
        limits = asdict(job.recipe.limits["int8"])
        images = len(job.images.held_out)
        facts = {
            "lint": {"matrix_products": matrix_types(model)},
            "kept_fp32": list(kept),
            "parity": {"images": images, "precision": outputs, "limits": limits},
        }
        write_manifest(part, {**job.facts, **facts})
    job.say("parity passed on held-out images")
    return Graph.open(folder, verify=False)


def _more_fp32(
    path: Path, job: _Job, state: tuple[tuple[str, ...], list[str], dict[str, int]]
) -> tuple[str, ...]:
    """With `auto`, the blocks to keep in the next round: those so far and the two worst others.

    Raises:
        ParityError: the blocks were named by the user, or too little would be left in INT8.
    """
    kept, faults, products = state
    located = _locate(path, job, kept)
    share = products.get("INT8", 0) / max(1, sum(products.values()))
    if job.keep_fp32 == (AUTO,) and share >= LEAST_SHARE:
        worst = located.by_growth()[:2]
        if worst:
            job.say(f"INT8 leaves the limits: {', '.join(worst)} stay in FP32")
            return (*kept, *worst)
    tried = (
        f", with {', '.join(kept)} in FP32 ({share:.0%} of the products in INT8)" if kept else ""
    )
    raise ParityError(
        f"The int8 graph of {job.graph.model} is not the FP32 graph on {len(job.images.held_out)} "
        f"training images that calibrated nothing{tried}: "
        f"{'; '.join([*faults, located.words()])}. Nothing was kept.",
        way_out("int8", [located] if job.keep_fp32 != (AUTO,) else []),
    )


def _calibrated(model: Any, job: _Job, kept: tuple[str, ...]) -> Any:
    """The model with Q/DQ pairs: symmetric, weights per channel, activations per tensor."""
    import nncf

    transformer = job.recipe.graph in ("tokens", "sam")
    data = nncf.Dataset(
        [image[None] for image in job.images.calibration],
        lambda image: {"pixel_values": image},
    )
    try:
        with _quiet():
            quantised = nncf.quantize(
                model,
                data,
                preset=nncf.QuantizationPreset.PERFORMANCE,
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
                subset_size=len(job.images.calibration),
                ignored_scope=nncf.IgnoredScope(names=_ignored(model, job, kept)),
            )
    except Exception as error:  # NNCF raises plain errors of its own and of ONNX Runtime
        raise ExportError(
            f"NNCF {version_of('nncf')} cannot quantise {job.graph.model}: "
            f"{type(error).__name__}: {str(error).strip()[:300]}",
            "Use --precision bf16 or fp16.",
        ) from error
    _adapt(quantised, signed=bool(job.facts["signed"]))
    return quantised


def _ignored(model: Any, job: _Job, kept: tuple[str, ...]) -> list[str]:
    """Names of the matrix products that stay in FP32."""
    names = matrix_nodes(model.graph)
    sites = dict.fromkeys(site_of(name.rpartition(".")[0]) for name in names)
    unknown = [site for site in kept if site not in sites]
    if unknown:
        raise ExportError(
            f"{job.graph.model} has no {', '.join(unknown)}.",
            f"--keep-fp32 takes: {', '.join(sites)}",
        )

    def stays(name: str) -> bool:
        plain = name.removeprefix("backbone.")
        by_recipe = any(fnmatch.fnmatchcase(plain, rule) for rule in job.recipe.int8.keep_fp32)
        return by_recipe or site_of(name.rpartition(".")[0]) in kept

    return [name for name in names if stays(name)]


def _adapt(model: Any, *, signed: bool) -> None:
    """Drop `output_dtype`, which NNCF sets beside a zero point that says the same.

    With `signed`, unsigned values with zero point 0 become signed with twice the step: TensorRT
    takes nothing else. On processors they stay unsigned: the step is half, and OpenVINO does not
    compute max pooling of the signed form as ONNX defines it (SqueezeNet: cosine 0.68).
    """
    from onnx import numpy_helper

    tensors = {item.name: item for item in model.graph.initializer}
    done: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for attribute in [item for item in node.attribute if item.name == "output_dtype"]:
            node.attribute.remove(attribute)
        scale, zero = (tensors[name] for name in node.input[1:3])
        unsigned = numpy_helper.to_array(zero).dtype == np.uint8
        if not signed or not unsigned or zero.name in done:
            continue
        done.add(zero.name)
        step = numpy_helper.to_array(scale) * np.float32(255 / 127)
        scale.CopyFrom(numpy_helper.from_array(np.asarray(step, np.float32), scale.name))
        zeros = np.zeros(numpy_helper.to_array(zero).shape, np.int8)
        zero.CopyFrom(numpy_helper.from_array(zeros, zero.name))
    del model.graph.value_info[:]


def matrix_types(model: Any) -> dict[str, int]:
    """Matrix products of a Q/DQ graph by the type that they are computed in.

    NNCF quantises a product's second operand exactly if it quantises the first, which may reach it
    through pooling or a concatenation.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    counts = {"INT8": 0, "FLOAT": 0}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            weight = made_by.get(node.input[1])
            quantised = weight is not None and weight.op_type == "DequantizeLinear"
            counts["INT8" if quantised else "FLOAT"] += 1
    return {name: count for name, count in counts.items() if count}


def _compared(path: Path, job: _Job) -> tuple[dict[str, dict[str, float]], list[str]]:
    """The numbers against the FP32 graph on held-out images, and what leaves the limits."""
    images = job.images.held_out
    wanted, found = (_run(source, job.graph, images) for source in (job.graph.path, path))
    outputs = {name: compare_output(name, wanted[name], found[name]) for name in job.graph.outputs}
    faults = output_faults(outputs, job.recipe.limits["int8"], "INT8 on held-out images")
    return outputs, faults


def _run(path: Path, graph: Graph, images: np.ndarray) -> dict[str, np.ndarray]:
    session, names = fp32_session(path), list(graph.outputs)
    rows = [session.run(names, {"pixel_values": image[None]}) for image in images]
    return {
        name: np.concatenate(values)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def _locate(path: Path, job: _Job, kept: tuple[str, ...]) -> Located:
    """Where the error comes in; blocks that are kept already are left out."""
    images = job.images.held_out[_worst(path, job)]
    wanted = onnx_sites(job.graph.path, images, typed=False)
    found = onnx_sites(path, images, typed=False)
    limit = job.recipe.limits["int8"].relative_l2
    place = first_difference(wanted, found, limit, "the arithmetic of int8")
    return replace(place, blames_precision=True, kept=kept)


def _worst(path: Path, job: _Job) -> np.ndarray:
    """Held-out images that INT8 moves farthest."""
    name = next(iter(job.graph.outputs))
    images = job.images.held_out
    wanted, found = (_run(source, job.graph, images)[name] for source in (job.graph.path, path))
    return np.argsort(-relative_l2(wanted, found))[:_LOCATE_IMAGES]


def digest_of(images: np.ndarray) -> str:
    """SHA-256 of pixels: what a calibration depends on."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF without its progress bars and log lines."""
    import nncf

    logger = logging.getLogger("nncf")
    level = logger.level
    nncf.set_log_level(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
