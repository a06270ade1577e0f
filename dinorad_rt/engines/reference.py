"""What a graph must give: probe images, and their outputs computed in FP32 by ONNX Runtime.

A graph typed FP16 or BF16 is widened to FP32 first: its weights keep their rounded values, its
arithmetic does not round. So the reference neither overflows nor depends on kernels that ONNX
Runtime lacks, and what an engine adds is its own.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import DinoradError, EngineError
from dinorad_rt.files import atomic_path
from dinorad_rt.machine import usable_cores
from dinorad_rt.optional import require, version_of
from dinorad_rt.paths import cache_dir
from dinorad_rt.runners.base import Rows

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph

PROBE_VERSION = 1
_BLACK, _WHITE = -2.1, 2.6
"""Roughly 0 and 1 after the usual normalisation."""
_BLOCK = (7, 9, 13)
"""Sides of the blocks with sharp edges along slices, rows and columns."""


def probe_images(input_shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Four normalised images: noise, a smooth one like a radiograph, black, and sharp edges.

    Args:
        input_shape: (channels, *sides), one to three sides.
        seed: of noise and waves.

    Returns:
        (4, channels, *sides) float32, the same for the same shape and seed.
    """
    rng = np.random.default_rng(seed)
    sides = tuple(input_shape[1:])
    axes = np.meshgrid(*(np.linspace(0, 1, side) for side in sides), indexing="ij")
    smooth = np.zeros(sides)
    for _ in range(6):
        waves, phase = [rng.uniform(0.5, 6) for _ in sides], rng.uniform(0, 2 * np.pi)
        smooth += np.cos(2 * np.pi * sum(f * a for f, a in zip(waves, axes, strict=True)) + phase)
    smooth = _BLACK + (_WHITE - _BLACK) * (smooth - smooth.min()) / np.ptp(smooth)
    places = zip(np.indices(sides, sparse=True), _BLOCK[-len(sides) :], strict=True)
    squares = sum(place // step for place, step in places) % 2
    edges = np.where(squares == 0, _BLACK, _WHITE)
    black = np.full(sides, _BLACK)
    grey = np.stack([np.broadcast_to(image, input_shape) for image in (smooth, black, edges)])
    noise = rng.standard_normal((1, *input_shape))
    return np.concatenate([noise, grey]).astype(np.float32)


def reference_outputs(graph: Graph, images: np.ndarray) -> Rows:
    """Outputs of the graph for the probe images in FP32, computed once per graph.

    Raises:
        EngineError: ONNX Runtime cannot run the graph.
    """
    version = (version_of("onnxruntime") or version_of("onnxruntime-gpu") or "").replace("/", "_")
    name = f"{graph.sha256}-{PROBE_VERSION}-{len(images)}-{version}.npz"
    stored = cache_dir("references") / name
    found = _stored_outputs(stored, graph.outputs)
    if found is not None:
        return found
    outputs = _run_graph(graph, images)
    with atomic_path(stored) as part, part.open("wb") as handle:
        np.savez(handle, **outputs)  # type: ignore[arg-type]
    return outputs


def _stored_outputs(path: Path, names: Iterable[str]) -> Rows | None:
    """What was computed before; None if it is not there, or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as values:
            return {name: values[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def fp32_session(path: Path, *, prepack: bool = True) -> Any:
    """An ONNX Runtime session on the processor that fuses nothing and leaves cores to others.

    Args:
        path: a graph without FP16 and BF16 types.
        prepack: False keeps one copy of the weights in memory instead of two, and is slower.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
    """
    onnxruntime = require("onnxruntime", "comparing two forms of a graph")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run_graph(graph: Graph, images: np.ndarray) -> Rows:
    names = list(graph.outputs)
    with _fp32_graph(graph) as path:
        try:
            session = fp32_session(path)
            rows = [
                dict(zip(names, session.run(names, {"pixel_values": image[None]}), strict=True))
                for image in images
            ]
        except DinoradError:
            raise
        except Exception as error:  # ONNX Runtime raises a class per status, all plain Exceptions
            raise EngineError(
                f"The graph of {graph.model} cannot be run for comparison: {error}",
                "Export it again: dinorad-rt export",
            ) from error
    return {name: np.concatenate([row[name] for row in rows]) for name in names}


@contextmanager
def _fp32_graph(graph: Graph) -> Iterator[Path]:
    if graph.precision in ("fp32", "int8"):  # INT8 stands between FP32 values
        yield graph.path
        return
    with tempfile.TemporaryDirectory(prefix="dinorad-rt-") as folder:
        path = Path(folder) / "model.onnx"
        widen_to_fp32(graph.path, path)
        yield path


def widen_to_fp32(source: Path, target: Path) -> None:
    """Write an ONNX graph with every FP16 and BF16 type replaced by FP32.

    Weights keep their values exactly; they go to one file beside `target`.
    """
    import onnx

    model = onnx.load(str(source))
    low = {int(onnx.TensorProto.FLOAT16), int(onnx.TensorProto.BFLOAT16)}
    for tensor in model.graph.initializer:
        _widen_tensor(tensor, low)
    for node in (*model.graph.node, *(node for f in model.functions for node in f.node)):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in low:
                attribute.i = onnx.TensorProto.FLOAT
            _widen_tensor(attribute.t, low)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in low:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del model.graph.value_info[:]
    onnx.save(model, str(target), save_as_external_data=True, location="weights.bin")


def _widen_tensor(tensor: Any, low: set[int]) -> None:
    from onnx import numpy_helper

    if tensor.data_type in low:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
