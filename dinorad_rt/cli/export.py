"""`dinorad-rt export`: a backbone leaves PyTorch as a checked ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, warn
from dinorad_rt.cli.groups import GraphOptions, MaskSource, ModelOptions, engine_request, grouped

FP32 = GraphOptions(precision="fp32")
OF_MODEL = ("model", "image_size", "calibration", "dense")
OF_RUN = tuple(item.name for item in fields(MaskSource))


@grouped
def export(
    *,
    context: typer.Context,
    model: ModelOptions,
    numbers: GraphOptions = FP32,
    dense: Annotated[
        bool,
        typer.Option("--dense", help="Add the patch tokens of the last blocks (segmentation)."),
    ] = False,
    out: options.OutOrCache = None,
    checkpoint: options.Checkpoint = None,
    source: MaskSource,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Export a backbone to ONNX: traced by its recipe, linted, and compared with PyTorch.

    The graph gets its name only after parity passed. In the cache, build, embed and eval find it.

    With --checkpoint the run's adapters are merged, and backbone and head (or decoder) become one
    graph with the output `logits`; a 3-D network takes patches. With --data of the run, too, an
    engine is built from it and compared with PyTorch on the validation images: the difference of
    AUROC or Dice, with its interval. An engine that differs is refused.
    """
    options.refuse_mixed(context, of_model=OF_MODEL, of_run=OF_RUN)
    if checkpoint is not None:
        from dinorad_rt.cli.checkpoints import export_checkpoint

        exported = (checkpoint, model.weights, numbers.precision, options.names(numbers.keep_fp32))
        export_checkpoint(exported, source, seed=seed, out=out, as_json=as_json)
        return
    from dinorad_rt.pipeline import graph_for

    request = engine_request(model, numbers, dense=dense, seed=seed)
    graph = graph_for(request, out=out, say=note)
    if graph.weights_kind == "random":
        warn("weights: random. This graph is for tests; its embeddings mean nothing.")
    if as_json:
        print_json(graph.manifest)
        return
    print_graph(graph.manifest, str(graph.path))


def print_graph(manifest: Mapping[str, Any], path: str) -> None:
    """The facts of a graph as a table."""
    from dinorad_rt.engines.verify import parity_words
    from dinorad_rt.reports.table import key_value_table, print_table

    weights, parity = manifest["weights"], manifest["parity"]
    limits = parity["limits"]
    rows = {
        "graph": path,
        "model": manifest["model"],
        "weights": f"{weights['source']}, SHA-256 {weights['sha256'][:12]}",
        "licence": weights["licence"],
        "precision": manifest["precision"],
        "input": f"B x {_shape(manifest['input_shape'])}",
        "outputs": ", ".join(f"{k}: B x {_shape(v)}" for k, v in manifest["outputs"].items()),
        "opset": str(manifest["opset"]),
        "parity": f"{parity_words(parity)} ({parity['images']} images against PyTorch FP32)",
        "limits": f"cosine {limits['cosine']:g}, relative L2 {limits['relative_l2']:.0e}",
    }
    print_table(key_value_table("Exported", rows))


def _shape(sides: Sequence[int]) -> str:
    return " x ".join(str(side) for side in sides)
