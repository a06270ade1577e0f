"""The first gate: a graph gives what PyTorch gives in FP32, whatever the batch.

FP32 graphs are compared with the backbone's own code, not with the traced module. Of a typed graph
two things are asked: that its arithmetic stays close to FP32 (emulated, the same on every machine),
and that the ONNX file computes what the typed program computes (both widened to FP32), so that a
failure says whether precision or the export is to blame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.gate import DENSE, compare_output, output_faults, row_distance
from dinorad_rt.engines.reference import fp32_session, probe_images, widen_to_fp32
from dinorad_rt.errors import ParityError
from dinorad_rt.export.recipe import ParityLimits, Recipe
from dinorad_rt.export.sites import Located
from dinorad_rt.progress import Say
from dinorad_rt.types import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram

    from dinorad_rt.backbones.load import Backbone

Rows = dict[str, np.ndarray]


def check_graph(
    backbone: Backbone,
    recipe: Recipe,
    program: ExportedProgram,
    path: Path,
    *,
    precision: Precision,
    dense: bool,
    say: Say,
) -> dict[str, Any]:
    """Compare an exported graph with its backbone.

    Args:
        backbone: what was exported; the reference is its own forward pass.
        recipe: gives probe images, batches and limits.
        program: what was traced and typed.
        path: the ONNX file.
        precision, dense: of the graph.
        say: told of each step.

    Returns:
        The numbers for the manifest: `graph` and, for typed graphs, `precision` (per output),
        `rows`, `limits`, `images`, `batches`.

    Raises:
        ParityError: with the numbers that left the limits, and the way out.
    """
    names = recipe.output_names(dense=dense)
    checked = Checked(recipe, program, path, names, precision)
    report = check_outputs(
        checked,
        lambda images: reference_rows(backbone, images, recipe, dense=dense),
        backbone.input_shape,
        say,
    )
    if report.faults or report.arithmetic:
        from dinorad_rt.export import bisect

        say("parity failed; looking for the block")
        located = bisect.locate(
            bisect.Suspects(
                backbone,
                recipe,
                program,
                path,
                precision,
                arithmetic=bool(report.arithmetic),
                file=bool(report.faults) and not report.leak,
                leak=report.leak,
            ),
            report.images,
        )
        raise _failure(backbone, precision, [*report.arithmetic, *report.faults], located)
    return report.numbers


@dataclass(frozen=True)
class Checked:
    """A graph that is compared: its recipe, program, ONNX file, outputs and precision."""

    recipe: Recipe
    program: ExportedProgram
    path: Path
    names: tuple[str, ...]
    precision: Precision


@dataclass
class Report:
    """What the comparison found.

    Attributes:
        numbers: for the manifest.
        images: that were compared.
        arithmetic: limits that the typed arithmetic left.
        faults: limits that the file left.
        leak: an image's row depends on its batch.
    """

    numbers: dict[str, Any]
    images: np.ndarray
    arithmetic: list[str]
    faults: list[str]
    leak: bool


def check_outputs(
    checked: Checked,
    reference: Callable[[np.ndarray], Rows],
    input_shape: Sequence[int],
    say: Say,
) -> Report:
    """Compare a graph with its model on probe images, without judging.

    Args:
        checked: the graph.
        reference: images (count, *input_shape) → outputs by the model's own code in FP32.
        input_shape: (3, H, W) of images, (1, D, H, W) of patches of volumes.
        say: told of each step.
    """
    recipe, precision = checked.recipe, checked.precision
    images = probe_images(input_shape)[: recipe.images]
    say(f"parity: PyTorch FP32 on {len(images)} images")
    wanted = reference(images)
    numbers: dict[str, Any] = {"images": len(images), "batches": list(recipe.batches)}
    arithmetic: list[str] = []
    if precision != "fp32":
        wanted = _check_precision(
            checked.program,
            images,
            wanted,
            (checked.names, recipe.limits[precision]),
            (numbers, arithmetic, say),
        )
    say("parity: ONNX Runtime")
    found, numbers["rows"] = _run_batches(
        checked.path, images, checked.names, recipe.batches, precision
    )
    numbers["graph"] = _compare(wanted, found)
    limits = recipe.limits["fp32"] if precision == "fp32" else recipe.widened
    faults = output_faults(numbers["graph"], limits, "the ONNX file")
    leak = numbers["rows"] > limits.rows
    if leak:
        faults.append(
            f"an image's embedding depends on its batch: relative L2 {numbers['rows']:.2e}, "
            f"must be at most {limits.rows:.0e}"
        )
    numbers["limits"] = asdict(recipe.limits[precision])
    return Report(numbers, images, arithmetic, faults, leak)


def raise_faults(report: Report, what: str, precision: Precision) -> None:
    """Refuse a graph whose comparison left its limits.

    Args:
        report: from `check_outputs`.
        what: the graph, in words.
        precision: of the graph.

    Raises:
        ParityError: with the numbers.
    """
    faults = [*report.arithmetic, *report.faults]
    if faults:
        raise ParityError(
            f"{what} is not its model: {'; '.join(faults)}. Nothing was kept.",
            way_out(precision, ()),
        )


def reference_rows(backbone: Backbone, images: np.ndarray, recipe: Recipe, *, dense: bool) -> Rows:
    """Outputs by the backbone's own code in FP32, image by image.

    Returns:
        Output name → (images, ...) float32, as the contract of the embedding graph says.
    """
    import torch

    rows: list[Rows] = []
    with torch.inference_mode():
        for image in images:
            batch = torch.from_numpy(image[None])
            if recipe.graph == "tokens":
                rows.append(_token_rows(backbone.module, batch, recipe, dense=dense))
            else:
                rows.append({"cls": backbone.module(batch)[:, None].numpy()})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _token_rows(module: Any, batch: Any, recipe: Recipe, *, dense: bool) -> Rows:
    import torch

    depth = len(module.blocks)
    count = min(depth, max(recipe.cls_blocks, recipe.patch_blocks if dense else 1))
    found = module.forward_intermediates(
        batch,
        indices=count,
        norm=True,
        output_fmt="NLC",
        return_prefix_tokens=True,
        intermediates_only=True,
    )
    if not module.num_prefix_tokens:  # a head pools what stands for the class token
        patches, cls = found, module.forward_head(found[-1])[:, None]
    else:
        if isinstance(module.norm, torch.nn.Identity) and hasattr(module, "fc_norm"):
            found = [tuple(map(module.fc_norm, pair)) for pair in found]
        patches = [tokens for tokens, _ in found]
        cls = torch.stack([prefix[:, 0] for _, prefix in found[-recipe.cls_blocks :]], dim=1)
    rows = {"cls": cls.numpy(), "patch_mean": patches[-1].mean(dim=1).numpy()}
    if dense:
        tokens = patches[-recipe.patch_blocks :]
        rows[DENSE] = torch.stack(tokens, dim=1).numpy()
    return rows


def _check_precision(
    program: ExportedProgram,
    images: np.ndarray,
    wanted: Rows,
    rules: tuple[Sequence[str], ParityLimits],
    report: tuple[dict[str, Any], list[str], Say],
) -> Rows:
    """Compare the typed arithmetic with FP32; give what the widened graph must compute."""
    from dinorad_rt.export.emulate import emulate

    (names, limits), (numbers, faults, say) = rules, report
    say("parity: the arithmetic of the typed graph")
    typed, first_bad = emulate(program, images, rounding=True)
    numbers["precision"] = _compare(wanted, dict(zip(names, typed, strict=True)))
    faults += output_faults(numbers["precision"], limits, "its arithmetic")
    if first_bad:
        faults.append(f"values first leave the type's range in {first_bad}")
    widened, _ = emulate(program, images, rounding=False)
    return dict(zip(names, widened, strict=True))


def _run_batches(
    path: Path,
    images: np.ndarray,
    names: Sequence[str],
    batches: Sequence[int],
    precision: Precision,
) -> tuple[Rows, float]:
    """Outputs of the ONNX file, and how far an image's row moves in other company.

    The images are run once in the recipe's batches in turn, then those of the first batch again
    one by one.
    """
    with _session(path, precision) as session:

        def run(batch: np.ndarray) -> Rows:
            values = session.run(list(names), {"pixel_values": batch})
            return dict(zip(names, values, strict=True))

        parts, start, turn = [], 0, 0
        while start < len(images):
            size = batches[turn % len(batches)]
            parts.append(run(images[start : start + size]))
            start, turn = start + size, turn + 1
        found = {name: np.concatenate([part[name] for part in parts]) for name in names}
        first = images[: batches[0]]
        alone = [run(image[None]) for image in first[:2]]
    moved = max(
        row_distance(name, found[name][index : index + 1], row[name])
        for index, row in enumerate(alone)
        for name in names
    )
    return found, moved


@contextmanager
def _session(path: Path, precision: Precision) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="dinorad-rt-") as folder:
        if precision != "fp32":
            wide = Path(folder) / path.name
            widen_to_fp32(path, wide)
            path = wide
        yield fp32_session(path, prepack=False)


def _compare(wanted: Mapping[str, np.ndarray], found: Rows) -> dict[str, dict[str, float]]:
    return {name: compare_output(name, value, found[name]) for name, value in wanted.items()}


def _failure(
    backbone: Backbone, precision: Precision, faults: list[str], located: Sequence[Located]
) -> ParityError:
    places = [place.words() for place in located]
    return ParityError(
        f"The {precision} graph of {backbone.spec.name} at {backbone.image_size} px is not the "
        f"backbone: {'; '.join([*faults, *places])}. Nothing was kept.",
        way_out(precision, located),
    )


def way_out(precision: Precision, located: Sequence[Located]) -> str:
    """What a user can do about a graph that left its limits."""
    ways = {
        "fp32": "This is a fault of the export. Report it to us with the model's name.",
        "fp16": "Use --precision bf16, mixed or fp32.",
        "bf16": "Use --precision fp16, mixed or fp32.",
        "mixed": "Use --precision bf16 or fp32.",
        "int8": "Use --precision bf16 or fp16.",
    }
    keep = [place.by_growth()[0] for place in located if place.blames_precision and place.site]
    if not keep:
        return ways[precision]
    wanted = "mixed" if precision == "fp16" else precision
    return (
        f"Keep in FP32 the block that adds most of it: --precision {wanted} --keep-fp32 {keep[0]}. "
        f"Or: {ways[precision]}"
    )
