"""How much memory an engine takes on the processor, before it is built.

Weights are held twice (as stored, and packed for the kernels); each call in flight holds the
tensors that are alive at once. What is alive is read from the graph; backends reuse memory about
as well, so this is an estimate, and only what surely does not fit is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dinorad_rt.cgroups import memory_left
from dinorad_rt.errors import NoMemoryError
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.runners.base import Plan

_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 16: 2}
"""Size of an element by ONNX's number of its type."""


def needed_bytes(graph: Graph, batch: int, calls: int = 1) -> int:
    """Estimated memory of an engine.

    Args:
        graph: with the shapes of its values.
        batch: images per call.
        calls: in flight at once.
    """
    weights, row = _weights_and_row(graph.path)
    return 2 * weights + calls * batch * row


def largest_batch(graph: Graph, available: int, calls: int = 1) -> int:
    """The largest batch that fits in so many bytes; 0 if none does."""
    weights, row = _weights_and_row(graph.path)
    return max(0, (available - 2 * weights) // max(1, calls * row))


def check_memory(graph: Graph, plan: Plan) -> None:
    """Refuse an engine that surely does not fit, and name the batch that does.

    Raises:
        NoMemoryError: with what is needed, what is there, and the way out.
    """
    if plan.device.get("kind") != "cpu" or not graph.path.is_file():
        return  # on a GPU the backend asks the device itself
    available, calls = available_bytes(), int(plan.settings.get("streams") or 1)
    needed = needed_bytes(graph, plan.batch, calls)
    if available is None or needed <= available:
        return
    fits = largest_batch(graph, available, calls)
    way = f"Set batch = {fits} or less in the profile." if fits else "Use a smaller backbone."
    raise NoMemoryError(
        f"The {plan.backend} engine of {graph.model} with a batch of {plan.batch} and "
        f"{count_of(calls, 'call')} in flight takes about {needed / 2**30:.1f} GiB; "
        f"{available / 2**30:.1f} GiB are free.",
        f"{way} Fewer streams, a smaller --image-size or a lower precision take less too.",
    )


def available_bytes() -> int | None:
    """Memory that this process may still take: of the machine, and of its container."""
    found = [value for value in (_machine(), memory_left()) if value is not None]
    return min(found) if found else None


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else kib * 1024


def _weights_and_row(path: Path) -> tuple[int, int]:
    """Bytes of the weights, and of the most that one image keeps alive at once."""
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:  # no readable ONNX file: the backend says so, in its own words
        return 0, 0
    weights = sum(
        _BYTES.get(item.data_type, 4) * _product(list(item.dims)) for item in graph.initializer
    )
    sizes = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        sides = [dim.dim_value for dim in kind.shape.dim if not dim.dim_param]
        sizes[value.name] = _BYTES.get(kind.elem_type, 4) * _product(sides)
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    kept = {value.name for value in graph.output}
    alive, most = sizes.get("pixel_values", 0), 0
    for index, node in enumerate(graph.node):
        alive += sum(sizes.get(name, 0) for name in node.output)
        most = max(most, alive)
        done = {name for name in node.input if last.get(name) == index and name not in kept}
        alive -= sum(sizes.get(name, 0) for name in done)
    return weights, most


def _product(sides: list[int]) -> int:
    size = 1
    for side in sides:
        size *= max(1, side)
    return size
