"""Sites: the places of a model, in its own order, at which two forms of it can be compared.

A site is a block (`blocks.3`, `features.4`, `stages.2.blocks.1`) or a part beside the blocks
(`patch_embed`, `norm`); `embedding` is what enters the first block: patches, class token and
positions. Its value is the last one that the site makes, for every form: the traced program, the
ONNX file, an engine built with more outputs, the backbone itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.gate import relative_l2
from dinorad_rt.engines.reference import widen_to_fp32

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

    from dinorad_rt.backbones.load import Backbone

Sites = dict[str, np.ndarray]
"""Site → (images, ...) float32, in the model's order."""

EMBEDDING = "embedding"
TAP = "site/"
"""Prefix of the outputs that `tap_onnx` adds."""
_WORDS = {EMBEDDING: "embedding (patches, class token and positions)"}


@dataclass(frozen=True)
class Located:
    """Where two forms part.

    Attributes:
        site: the first whose output leaves the limit; None if none does.
        distances: site → relative L2 of the worst image.
        limit: greatest relative L2.
        what: the form that is compared, such as "the ONNX file".
        blames_precision: whether the arithmetic of the types is to blame, not the file or build.
        kept: sites that are in FP32 already.
    """

    site: str | None
    limit: float
    what: str
    distances: Mapping[str, float] = field(default_factory=dict)
    blames_precision: bool = False
    kept: tuple[str, ...] = ()

    def words(self) -> str:
        """One clause for a message."""
        if self.site is None:
            return (
                f"no block's own output of {self.what} leaves {self.limit:.0e}: the fault lies "
                "behind the last block, or in what is fused across blocks"
            )
        names = list(self.distances)
        place = names.index(self.site)
        before = f"{self.distances[names[place - 1]]:.1e} before it" if place else "the first"
        return (
            f"{self.what} first leaves the limit in {_WORDS.get(self.site, self.site)}: relative "
            f"L2 {self.distances[self.site]:.1e} ({before}), at most {self.limit:.0e}"
        )

    def by_growth(self) -> list[str]:
        """Modules in the order of the error that they add, the largest first.

        Errors of blocks add up like independent ones: in their squares.
        """
        names = list(self.distances)
        squares = {name: self.distances[name] ** 2 for name in names}
        before = {name: squares[last] for last, name in zip(names, names[1:], strict=False)}
        added = {
            name: squares[name] - before.get(name, 0.0)
            if np.isfinite(before.get(name, 0.0))
            else 0.0  # behind an overflow everything is lost: not this block's doing
            for name in keepable(names)
        }
        return sorted(added.keys() - set(self.kept), key=lambda name: -added[name])


def site_of(path: str) -> str:
    """Site of a module path: `blocks.3.attn.q` → `blocks.3`; empty for the model itself."""
    parts = [part for part in path.split(".") if part]
    if parts[:1] == ["backbone"]:
        parts = parts[1:]
    numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    if numbered is None:
        return ".".join(parts[:1])
    end = numbered + 1
    inner = parts[end : end + 2]
    if len(inner) == 2 and inner[0] in ("blocks", "layers") and inner[1].isdigit():
        end += 2
    return ".".join(parts[:end])


def first_difference(wanted: Sites, found: Sites, limit: float, what: str) -> Located:
    """The first site whose worst image leaves the limit; sites of other shapes are left out."""
    distances = {
        name: float(relative_l2(value, found[name]).max())
        for name, value in wanted.items()
        if name in found and found[name].shape == value.shape
    }
    bad = (name for name, distance in distances.items() if not distance <= limit)
    return Located(next(bad, None), limit, what, distances)


def program_taps(program: ExportedProgram) -> dict[Node, str]:
    """The last floating value that each site of a traced program makes."""
    import torch

    from dinorad_rt.export.precision import scope_of

    last: dict[str, Node] = {}
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "call_function" and isinstance(value, torch.Tensor):
            _note(last, site_of(scope_of(node)), node)
    return {node: site for site, node in last.items()}


def tap_program(program: ExportedProgram) -> list[str]:
    """Let a program also give the value of each site, as FP32, behind its own outputs.

    Returns:
        Names of the added outputs, `site/NAME`, in order.
    """
    import torch
    from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument
    from torch.utils import _pytree as pytree

    graph, (output,) = program.graph, [n for n in program.graph.nodes if n.op == "output"]
    values = list(output.args[0])
    taps = [(node, site) for node, site in program_taps(program).items() if _has_batch(node)]
    for node, _ in taps:
        with graph.inserting_before(output):
            wide = graph.call_function(
                torch.ops.aten._to_copy.default, (node,), {"dtype": torch.float32}
            )
        wide.meta["val"] = node.meta["val"].to(torch.float32)
        values.append(wide)
        program.graph_signature.output_specs.append(
            OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=wide.name), None)
        )
    output.args = (tuple(values),)
    output.meta["val"] = tuple(value.meta["val"] for value in values)
    whole: Any = program.module_call_graph[0].signature
    whole.out_spec = pytree.tree_structure(tuple(range(len(values))))
    whole.outputs = [TensorArgument(name=value.name) for value in values]
    graph.lint()
    program.graph_module.recompile()
    return [f"{TAP}{site}" for _, site in taps]


def _has_batch(node: Node) -> bool:
    shape = node.meta["val"].shape
    return len(shape) > 0 and not isinstance(shape[0], int)


def tap_onnx(source: Path, target: Path, *, typed: bool) -> list[str]:
    """Write an ONNX graph that also gives the value of each site, as FP32 output `site/NAME`.

    Args:
        source: the graph.
        target: in an empty folder; weights go into a file beside it.
        typed: widen the graph to FP32 afterwards.

    Returns:
        Names of the added outputs, in the graph's order.
    """
    import onnx

    model = onnx.load(str(source))
    last: dict[str, str] = {}
    for node in model.graph.node:
        scope = node.name.rpartition(".")[0]
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Constant", "Shape"):
            _note(last, site_of(scope), node.output[0])
    names = []
    for site, value in last.items():
        name = f"{TAP}{site}"
        cast = onnx.helper.make_node("Cast", [value], [name], name=name, to=onnx.TensorProto.FLOAT)
        model.graph.node.append(cast)
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
        names.append(name)
    onnx.save(model, str(target), save_as_external_data=True, location="taps.bin")
    if typed:
        widen_to_fp32(target, target)
        (target.parent / "taps.bin").unlink(missing_ok=True)
    return names


def onnx_sites(path: Path, images: np.ndarray, *, typed: bool, batch: bool = False) -> Sites:
    """Values of the sites of an ONNX file, computed by ONNX Runtime.

    Args:
        path: the graph.
        images: (images, 3, H, W) float32.
        typed: whether to widen it to FP32 first.
        batch: run the images in one batch instead of one by one.
    """
    from dinorad_rt.engines.reference import fp32_session

    with tempfile.TemporaryDirectory(prefix="dinorad-rt-") as folder:
        target = Path(folder) / "model.onnx"
        names = tap_onnx(path, target, typed=typed)
        session = fp32_session(target)
        calls = [images] if batch else [image[None] for image in images]
        parts = [session.run(names, {"pixel_values": call}) for call in calls]
    joined = [np.concatenate(values) for values in zip(*parts, strict=True)]
    return {
        name.removeprefix(TAP): value
        for name, value in zip(names, joined, strict=True)
        if value.ndim and len(value) == len(images)
    }


def backbone_sites(backbone: Backbone, images: np.ndarray) -> Sites:
    """What enters the first block and what leaves each, by the backbone's own code in FP32."""
    import torch

    module: Any = backbone.module
    found: dict[str, list[np.ndarray]] = {}
    plain = isinstance(getattr(module, "norm_pre", None), torch.nn.Identity)
    first = EMBEDDING if plain else "norm_pre"
    hooks = [
        module.blocks[0].register_forward_pre_hook(lambda _, inputs: _keep(found, first, inputs[0]))
    ]
    for index, block in enumerate(module.blocks):
        name = f"blocks.{index}"
        hooks.append(
            block.register_forward_hook(
                lambda _, inputs, output, name=name: _keep(found, name, output)
            )
        )
    try:
        with torch.no_grad():
            for image in images:
                module(torch.from_numpy(image[None]))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: np.concatenate(values) for name, values in found.items()}


def keepable(sites: Iterable[str]) -> list[str]:
    """Those that `--keep-fp32` takes: modules of the backbone."""
    return [site for site in sites if site != EMBEDDING]


def _note(last: dict[str, Any], site: str, value: Any) -> None:
    """Take `value` as the site's; what has no module is the embedding until a block was seen."""
    if not site:
        if any(known.split(".")[-1].isdigit() for known in last):
            return
        site = EMBEDDING
    last.pop(site, None)
    last[site] = value


def _keep(found: dict[str, list[np.ndarray]], name: str, value: Any) -> None:
    found.setdefault(name, []).append(np.array(value.float().numpy()))
