"""`verify`: every promise of an engine asked again, one line each, down to the task on real data.

export parity   the graph computes what the backbone computes
build parity    the engine computes what the graph computes
finiteness, rows (neighbours, padding)
proof           the precision that the backend shows
task gate       the same AUROC and the same classes as the FP32 reference, on the user's data

Trained runs are checked by `training.verify`, with the same lines and words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.engines.gate import check_engine
from dinorad_rt.engines.mask_gate import SegmentationGate
from dinorad_rt.engines.proof import check_proof
from dinorad_rt.engines.task_gate import TaskGate, judge_stores
from dinorad_rt.errors import BuildError, DinoradError, LintError, ParityError, ProofError
from dinorad_rt.export.recipe import load_recipe
from dinorad_rt.pipeline import EngineRequest, build_engine, engine_for, graph_for, load
from dinorad_rt.pipeline import embed as run_embed
from dinorad_rt.progress import Progress, Say, silent
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.backbones.load import Backbone
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.export.manifest import Graph

Verdict = Literal["passed", "failed", "undecided", "not run"]
REFERENCE = "pytorch"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was asked.
        verdict: the answer.
        text: the numbers behind it, or why there are none.
        fix: what to do about a failure.
        numbers: plain values for JSON.
    """

    name: str
    verdict: Verdict
    text: str
    fix: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """The report of `verify`."""

    model: str
    precision: str
    backend: str
    weights_kind: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return any(check.verdict == "failed" for check in self.checks)

    @property
    def undecided(self) -> bool:
        """Whether the data could not decide a check."""
        return any(check.verdict == "undecided" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "precision": self.precision,
            "backend": self.backend,
            "weights_kind": self.weights_kind,
            "passed": not self.failed and not self.undecided,
            "checks": [
                {
                    "name": check.name,
                    "verdict": check.verdict,
                    "text": check.text,
                    "fix": check.fix,
                    "numbers": dict(check.numbers),
                }
                for check in self.checks
            ],
        }


@dataclass(frozen=True)
class Data:
    """What the task gate is run on.

    Attributes:
        dataset: with train and test images.
        preprocessing: a preset's name.
        workers: decoders; None for every usable core.
        progress: called with (done, total) images.
    """

    dataset: Dataset
    preprocessing: str = "dinorad"
    workers: int | None = None
    progress: Progress | None = None


def verify(
    request: EngineRequest,
    *,
    graph: Graph | None = None,
    data: Data | None = None,
    reference: EngineRequest | None = None,
    say: Say = silent,
) -> Verification:
    """Check an engine from the backbone to the task; build what is not there.

    Args:
        request: model, precision, backend and profile.
        graph: a graph to start from instead of the request's model: then its backbone is not at
            hand, and its own numbers from the export are shown.
        data: for the task gate; None leaves it out.
        reference: of the task gate; None for the request in FP32 on PyTorch.
        say: told of each step.

    Raises:
        DinoradError: what is no answer to a check: unknown names, missing packages, no data.
    """
    checks: list[Check] = []
    step = "export"
    weights_kind = "" if graph is None else graph.weights_kind
    try:
        backbone = None if graph is not None else load(request)
        weights_kind = weights_kind or (backbone.weights.kind if backbone else "")
        dataset = None if data is None else data.dataset
        preset = "dinorad" if data is None else data.preprocessing
        graph = graph or graph_for(request, say=say, calibration=dataset, preprocessing=preset)
        checks.append(export_parity(graph, backbone, say))
        step = "build"
        engine = build_engine(graph, backend=request.backend, profile=request.profile, say=say)
        checks += engine_checks(graph, engine, say)
    except (ParityError, LintError, BuildError) as error:
        checks.append(failed_check(error, step))
        return Verification(
            request.model, request.precision, request.backend, weights_kind, tuple(checks)
        )
    if data is None:
        text = "no data: give --data DIR or --dataset NAME"
        checks.append(Check("task gate", "not run", text))
    elif graph.precision == "fp32" and engine.backend == REFERENCE:
        checks.append(Check("task gate", "not run", "the engine is the reference itself"))
    else:
        wanted = reference or replace(
            request, precision="fp32", backend=REFERENCE, keep_fp32=(), calibration=None
        )
        checks += _task(graph, engine, wanted, data, say)
    return Verification(graph.model, graph.precision, engine.backend, weights_kind, tuple(checks))


def failed_check(error: DinoradError, step: str) -> Check:
    """The line of a step that raised."""
    name = f"{step} parity" if isinstance(error, ParityError) else step
    if isinstance(error, ProofError):
        name = "proof of precision"
    return Check(name, "failed", error.problem, error.fix)


def export_parity(graph: Graph, backbone: Backbone | None, say: Say) -> Check:
    """Compare a graph with its backbone again, or show what its manifest says.

    Raises:
        ParityError: the graph is not its backbone.
    """
    from dinorad_rt.export.parity import check_graph
    from dinorad_rt.export.program import load_program

    when = "as measured when it was exported"
    numbers = graph.manifest.get("parity", {})
    if backbone is not None and graph.precision != "int8":
        recipe = load_recipe(backbone.spec.family)
        dense = bool(graph.manifest.get("dense"))
        program = load_program(graph.program_path)
        numbers = check_graph(
            backbone, recipe, program, graph.path, precision=graph.precision, dense=dense, say=say
        )
        when = "measured now"
    return Check("export parity", "passed", f"{parity_words(numbers)} ({when})", "", numbers)


def parity_words(numbers: Mapping[str, Any]) -> str:
    """`file: worst cosine 0.999999, relative L2 7.0e-07`: the parity of a graph's manifest."""
    words = {"graph": "file", "precision": "arithmetic"}
    return "; ".join(
        f"{word}: {_worst(numbers[part])}" for part, word in words.items() if part in numbers
    )


def _worst(outputs: Mapping[str, Mapping[str, float]]) -> str:
    """The worst cosine, and the distance; logits have no cosine."""
    cosines = [item["cosine_min"] for item in outputs.values() if "cosine_min" in item]
    found = [f"worst cosine {min(cosines):.6f}"] if cosines else []
    distance = max(item["relative_l2_max"] for item in outputs.values())
    return ", ".join([*found, f"relative L2 {distance:.1e}"])


def engine_checks(graph: Graph, engine: Engine, say: Say) -> list[Check]:
    """Build parity, finiteness, rows and proof of an engine, in the order of the report.

    Raises:
        ParityError, ProofError, CacheError: the engine is not its graph, or not in its precision.
    """
    say("comparing the engine with its graph")
    engine.verify()
    numbers = check_engine(graph, engine)
    outputs, rows = numbers["outputs"], numbers["rows"]
    finite = min(item["finite"] for item in outputs.values())
    products = check_proof(graph, engine.backend, engine.manifest["proof"])
    shown = ", ".join(f"{count} x {name}" for name, count in products.items())
    what = "matrix products" if "matrix_products" in engine.manifest["proof"] else "weights"
    moved = ", ".join(f"{name} {value:.1e}" for name, value in rows.items())
    return [
        Check("build parity", "passed", _worst(outputs), numbers=numbers),
        Check("finiteness", "passed", f"{finite:.0%} of the values"),
        Check("rows alone and in company", "passed", f"relative L2: {moved}", numbers=rows),
        Check("proof of precision", "passed", f"{what}: {shown}", numbers=engine.manifest["proof"]),
    ]


def _task(
    graph: Graph, engine: Engine, reference: EngineRequest, data: Data, say: Say
) -> list[Check]:
    """What the user's own images say: the worst embedding, and the metric."""
    say("task gate: embedding with the FP32 reference and with the engine")
    other = engine_for(reference, say)
    stores = [
        run_embed(
            data.dataset,
            item,
            preprocessing=data.preprocessing,
            workers=data.workers,
            progress=data.progress,
        )
        for item in (other, engine)
    ]
    gate = judge_stores(*stores)
    numbers = gate.as_dict()
    task = Check("task gate", gate.verdict, task_words(gate), task_fix(gate), numbers)
    return [images_check(graph, gate), task]


def images_check(graph: Graph, gate: TaskGate) -> Check:
    """The gate's limit for the worst image, on the user's images: probe images can be too kind."""
    recipe = load_recipe(str(graph.manifest["recipe"]["family"]))
    limit = recipe.limits[graph.precision].cosine
    fine = gate.cosine_min >= limit
    return Check(
        "embeddings of your images",
        "passed" if fine else "failed",
        f"worst cosine of {count_of(gate.images, 'image')} {gate.cosine_min:.6f}, must be at least "
        f"{limit}",
        "" if fine else "Use --precision mixed or fp32, or keep blocks in FP32: --keep-fp32.",
        {"cosine_min": gate.cosine_min, "limit": limit},
    )


def task_words(gate: TaskGate | SegmentationGate) -> str:
    """The numbers of the task gate in one line."""
    if isinstance(gate, SegmentationGate):
        missing = f", {gate.unreadable} could not be read" if gate.unreadable else ""
        return (
            f"Dice {gate.dice_reference:.4f} → {gate.dice_engine:.4f}, difference "
            f"{gate.difference:+.4f} [{gate.low:+.4f}, {gate.high:+.4f}]; same class for "
            f"{gate.agreement:.3%} of the voxels; {count_of(gate.volumes, 'validation case')} of "
            f"{count_of(gate.patients, 'patient')}{missing}: {gate.reason}"
        )
    which = "test" if gate.k else "validation"  # a head of its own is asked about validation
    return (
        f"AUROC {gate.auroc_reference:.4f} → {gate.auroc_engine:.4f}, difference "
        f"{gate.difference:+.4f} [{gate.low:+.4f}, {gate.high:+.4f}]; same class "
        f"{gate.agreement:.2%}; worst cosine {gate.cosine_min:.6f}; "
        f"{count_of(gate.images, f'{which} image')} of {count_of(gate.patients, 'patient')}: "
        f"{gate.reason}"
    )


def task_fix(gate: TaskGate | SegmentationGate) -> str:
    """The way out of a verdict."""
    if gate.verdict == "failed":
        return "Use --precision mixed or fp32, or keep the blocks with the largest error in FP32."
    if gate.verdict == "undecided":
        return "Give more patients: with these the answer stays open."
    return ""


def open_graph(folder: Path | None) -> Graph | None:
    """A graph's folder from the command line."""
    from dinorad_rt.export.manifest import Graph

    return None if folder is None else Graph.open(folder)
