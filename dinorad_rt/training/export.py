"""`export_tuned`: a trained model becomes one graph through the same lint and parity as any other.

Backbone and head, or encoder and decoder, are traced together; adapters are merged already, and
what is linear in a row is folded. Imported late: it needs torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import ExportError, RunError
from dinorad_rt.export.manifest import FORMAT, MANIFEST, MODEL, PROGRAM, Graph, write_manifest
from dinorad_rt.export.recipe import Recipe, load_recipe
from dinorad_rt.files import atomic_folder, sha256_json
from dinorad_rt.optional import version_of
from dinorad_rt.paths import cache_dir
from dinorad_rt.progress import Say, silent
from dinorad_rt.training.checkpoint import TunedModel
from dinorad_rt.types import Precision

if TYPE_CHECKING:
    from torch import nn

LOGITS = "logits"
TUNED_VERSION = 2
"""Raised whenever the same run gives another graph than before; part of every key."""


@dataclass(frozen=True)
class _Traceable:
    """What is traced, and how it is judged."""

    module: nn.Module
    names: tuple[str, ...]
    recipe: Recipe


def export_tuned(
    tuned: TunedModel,
    *,
    precision: Precision = "fp32",
    out: Path | None = None,
    keep_fp32: Sequence[str] = (),
    say: Say = silent,
) -> Graph:
    """Export a trained model as one graph with the output `logits`.

    A classifier keeps `cls` and `patch_mean` beside it, so that the tuned embeddings can be stored
    and judged like any others. The folder appears when lint and parity passed.

    Args:
        tuned: from `load_tuned`.
        precision: written into the graph.
        out: an empty or new folder; None for the cache.
        keep_fp32: module paths that a typed graph leaves in FP32.
        say: told of each step.

    Raises:
        ExportError, LintError, ParityError: see `export_onnx`.
        OutputExistsError, NoSpaceError: it cannot be stored at `out`.
    """
    from dinorad_rt.export.onnx_export import (
        KIND,
        cached_graph,
        claimed_graph_folder,
        graph_lock,
    )

    if precision == "int8":
        raise ExportError(
            "INT8 is calibrated for embeddings only; a tuned graph cannot be typed so.",
            "Use --precision fp16, bf16, mixed or fp32.",
        )
    recipe = load_recipe(_family_of(tuned))
    facts = _request_facts(tuned, recipe, precision, tuple(keep_fp32))
    key = sha256_json(facts)
    facts["key"] = key
    if out is not None:
        with claimed_graph_folder(out, key) as found:
            return found or _export(out, tuned, recipe, facts, say)
    folder = cache_dir(KIND) / key
    with graph_lock(key, say):
        found = cached_graph(key)
        if found is not None:
            say(f"graph of the run ({precision}) from the cache")
            return found
        shutil.rmtree(folder, ignore_errors=True)
        return _export(folder, tuned, recipe, facts, say)


def reference_outputs(tuned: TunedModel, images: np.ndarray, recipe: Recipe) -> dict[str, Any]:
    """Outputs by the model's own code in FP32, image by image; what the graph must give."""
    import torch

    from dinorad_rt.export.parity import reference_rows

    rows: dict[str, Any] = {}
    if tuned.kind == "classifier" and tuned.backbone is not None:
        rows = reference_rows(tuned.backbone, images, recipe, dense=False)
    with torch.inference_mode():
        logits = [tuned.module(torch.from_numpy(image[None])).numpy() for image in images]
    return {**rows, LOGITS: np.concatenate(logits)}


def _export(
    folder: Path, tuned: TunedModel, recipe: Recipe, facts: dict[str, Any], say: Say
) -> Graph:
    from dinorad_rt.export.onnx_export import write_onnx
    from dinorad_rt.export.parity import Checked, check_outputs, raise_faults
    from dinorad_rt.export.program import save_program, size_words, trace_program

    precision, size = facts["precision"], size_words(tuned.input_shape)
    item = _traceable(tuned, recipe)
    typing = recipe.typing(precision, tuple(facts["keep_fp32"]))
    say(f"tracing {facts['title']} at {size} ({precision})")
    program = trace_program(item.module, tuned.input_shape, typing, str(facts["title"]))
    with atomic_folder(folder, MANIFEST) as part:
        say("writing the graph")
        lint = write_onnx(program, part / MODEL, recipe, typing, item.names)
        save_program(program, part / PROGRAM)
        checked = Checked(recipe, program, part / MODEL, item.names, precision)
        report = check_outputs(
            checked,
            lambda images: reference_outputs(tuned, images, recipe),
            tuned.input_shape,
            say,
        )
        raise_faults(report, f"The {precision} graph of {facts['title']} at {size}", precision)
        output = next(node for node in program.graph.nodes if node.op == "output")
        shapes = [[int(side) for side in node.meta["val"].shape[1:]] for node in output.args[0]]
        write_manifest(
            part,
            {
                **facts,
                "input_shape": list(tuned.input_shape),
                "outputs": dict(zip(item.names, shapes, strict=True)),
                "opset": recipe.opset,
                "lint": lint,
                "parity": report.numbers,
            },
        )
    say(f"parity passed: {facts['title']}")
    return Graph.open(folder, verify=False)


def _traceable(tuned: TunedModel, recipe: Recipe) -> _Traceable:
    if tuned.kind == "segmenter":
        from dinorad_rt.training.segmentation.export import segmentation_graph

        return _Traceable(segmentation_graph(tuned), (LOGITS,), recipe)
    from dinorad_rt.export.graphs.build import traced_module
    from dinorad_rt.export.graphs.tuned import ClassifierGraph
    from dinorad_rt.training.classifier import Classifier

    if tuned.backbone is None or not isinstance(tuned.module, Classifier):
        raise RunError(f"The run of kind {tuned.kind} has no backbone to export.", "Train again.")
    model = tuned.module
    graph = ClassifierGraph(
        traced_module(tuned.backbone, recipe, dense=False),
        model.head.folded(),
        blocks=model.spec.blocks,
        patch_mean=model.spec.patch_mean,
    )
    return _Traceable(graph.eval(), (*recipe.output_names(), LOGITS), recipe)


def _family_of(tuned: TunedModel) -> str:
    if tuned.backbone is not None:
        return tuned.backbone.spec.family
    from dinorad_rt.training.segmentation.baselines import network_named

    return network_named(str(tuned.facts["model"]["name"])).family


def _request_facts(
    tuned: TunedModel, recipe: Recipe, precision: Precision, keep_fp32: tuple[str, ...]
) -> dict[str, Any]:
    """Everything that decides the graph, in plain values: the content of its key."""
    model, weights = _source(tuned)
    if tuned.patch is None:
        size: dict[str, Any] = {"image_size": tuned.image_size}
    else:
        size = {"patch": list(tuned.patch), "spacing": tuned.facts["model"]["spacing"]}
    return {
        "format": FORMAT,
        "tuned_version": TUNED_VERSION,
        "model": model,
        "title": f"tuned {model}",
        "family": recipe.family,
        "weights": weights,
        "weights_kind": weights["kind"],
        **size,
        "mean": list(tuned.preprocessing.mean),
        "std": list(tuned.preprocessing.std),
        "precision": precision,
        "dense": False,
        "keep_fp32": list(keep_fp32),
        "recipe": {"family": recipe.family, "sha256": recipe.digest},
        "tuned": {
            "kind": tuned.kind,
            "task": tuned.task,
            "class_names": list(tuned.class_names),
            "sha256": tuned.sha256,
            "preprocessing": tuned.preprocessing.digest(),
        },
        "versions": {name: version_of(name) for name in ("torch", "timm", "onnx", "onnxscript")},
    }


def _source(tuned: TunedModel) -> tuple[str, dict[str, Any]]:
    """Name of the model, and where its weights came from."""
    if tuned.backbone is None:
        facts = tuned.facts["model"]
        origin = f"trained from scratch on {tuned.facts['data']['name']}"
        weights = {
            "kind": "file",
            "sha256": tuned.sha256,
            "source": origin,
            "licence": "the user's",
        }
        return str(facts["name"]), weights
    info = tuned.backbone.weights
    weights = {name: getattr(info, name) for name in ("kind", "sha256", "source", "licence")}
    return tuned.backbone.spec.name, weights
