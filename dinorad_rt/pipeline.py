"""The main job in three steps, shared by the command line and the Python API.

    engine_for(request) ─► embed(dataset, engine) ─► evaluate(store, dataset)

Each step stands alone and says what it decided through `progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.errors import UnknownNameError, unknown_name
from dinorad_rt.progress import Say, silent
from dinorad_rt.types import PRECISIONS, Precision

if TYPE_CHECKING:
    from dinorad_rt.backbones.load import Backbone
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.embeddings.store import EmbeddingStore
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.preprocessing.spec import PreprocessSpec

_OF_TABLES = (
    *("image_column", "label_column", "label_separator", "patient_column", "split_column"),
    "mask_column",
)


@dataclass(frozen=True)
class EngineRequest:
    """What engine is wanted: every choice that decides its numbers and its speed.

    Attributes:
        model: short name or timm name.
        weights: hub, random, auto, or a path.
        image_size: input side in pixels; None for the backbone's own.
        precision: a precision, or auto (fp16 on a GPU, fp32 on a CPU).
        backend: a backend, or auto (the fastest measured on this machine).
        profile: name of a profile under `engines/profiles`.
        dense: add the patch tokens of the last blocks to the outputs.
        seed: seed of random weights.
        keep_fp32: blocks (`blocks.3`) that a graph of a lower precision leaves in FP32.
        calibration: folder or CSV whose train split INT8 is calibrated on; None for the data that
            the engine is built for.
    """

    model: str = "vits14"
    weights: str = "hub"
    image_size: int | None = None
    precision: Precision | Literal["auto"] = "auto"
    backend: str = "auto"
    profile: str = "default"
    dense: bool = False
    seed: int = 0
    keep_fp32: tuple[str, ...] = ()
    calibration: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for provenance; a path of weights is reduced to its file name."""
        values = asdict(self)
        values["weights"] = Path(self.weights).name
        values["keep_fp32"] = list(self.keep_fp32)
        del values["calibration"]  # a path; the graph's manifest tells what it was calibrated on
        return values


def load(request: EngineRequest, say: Say = silent) -> Backbone:
    """Load the backbone of a request and say what weights it got."""
    from dinorad_rt.backbones.load import load_backbone

    say(f"loading {request.model}")
    backbone = load_backbone(
        request.model,
        weights=request.weights,
        image_size=request.image_size,
        seed=request.seed,
    )
    for text in backbone.weights.notes:
        say(text)
    return backbone


def graph_for(
    request: EngineRequest,
    *,
    out: Path | None = None,
    say: Say = silent,
    calibration: Dataset | None = None,
    preprocessing: PreprocessSpec | str = "dinorad",
) -> Graph:
    """Export the graph of a request, or reuse it from the cache.

    Args:
        request: what is wanted.
        out: folder of the graph; None for the cache.
        say: told of each step.
        calibration: for INT8, where the request names no images of its own.
        preprocessing: of those images.

    Raises:
        EngineError: INT8 for a backend that has none.
        WeightsError: the weights cannot be had or do not fit.
        ExportError, ParityError: the graph did not pass its checks.
    """
    from dinorad_rt.export.onnx_export import export_onnx
    from dinorad_rt.runners.precision import refuse_int8

    precision = resolve_precision(request.precision, request.backend)
    if precision == "int8":
        refuse_int8(request.backend)
    backbone = load(request, say)
    if precision == "int8":
        return _int8_graph(request, backbone, (out, say), calibration, preprocessing)
    return export_onnx(
        backbone,
        precision=precision,
        dense=request.dense,
        out=out,
        keep_fp32=request.keep_fp32,
        progress=say,
    )


def _int8_graph(
    request: EngineRequest,
    backbone: Backbone,
    where: tuple[Path | None, Say],
    calibration: Dataset | None,
    preprocessing: PreprocessSpec | str,
) -> Graph:
    from dinorad_rt.errors import ExportError
    from dinorad_rt.export.calibration import calibration_images
    from dinorad_rt.export.onnx_export import export_onnx
    from dinorad_rt.export.quantise import quantise_graph

    out, say = where
    if request.calibration is not None:
        calibration = dataset_for(request.calibration, seed=request.seed, say=say)
    if calibration is None:
        raise ExportError(
            "INT8 is calibrated on images, and none were named.",
            "Name training images with --calibration DIR, or use --precision bf16 or fp16.",
        )
    graph = export_onnx(backbone, precision="fp32", dense=request.dense, progress=say)
    images = calibration_images(graph, calibration, preprocessing)
    signed = request.backend.startswith("tensorrt")
    return quantise_graph(
        graph, images, out=out, keep_fp32=request.keep_fp32, signed=signed, progress=say
    )


def engine_for(
    request: EngineRequest,
    say: Say = silent,
    *,
    calibration: Dataset | None = None,
    preprocessing: PreprocessSpec | str = "dinorad",
) -> Engine:
    """Export, choose the backend, and build the engine of a request, or reuse all from the cache.

    Raises:
        WeightsError, ExportError, EngineError, ParityError: with the way out in the message.
    """
    graph = graph_for(request, say=say, calibration=calibration, preprocessing=preprocessing)
    return build_engine(graph, backend=request.backend, profile=request.profile, say=say)


def build_engine(
    graph: Graph, *, backend: str = "auto", profile: str = "default", say: Say = silent
) -> Engine:
    """Build an engine from a graph, or take it from the cache, behind the parity gate.

    Raises:
        BackendMissingError: the backend is not installed.
        BuildError, ParityError: the build failed or its numbers differ.
    """
    from dinorad_rt.engines.build import get_or_build
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.runners.auto import choose_backend

    shape = load_profile(profile)
    if backend == "auto":
        choice = choose_backend(graph, shape, progress=say)
        say(f"backend {choice.backend}: {choice.reason}")
        backend = choice.backend
    return get_or_build(graph, backend=backend, profile=shape, progress=say)


def resolve_precision(precision: Precision | Literal["auto"], backend: str) -> Precision:
    """`auto` is fp16 where a GPU backend will run the engine, else fp32."""
    check_precision(precision)
    if precision != "auto":
        return precision
    from dinorad_rt.machine import has_gpu

    return "fp16" if backend != "openvino" and has_gpu() else "fp32"


def check_precision(precision: str) -> None:
    """Refuse what is no precision.

    Raises:
        UnknownNameError: naming the closest.
    """
    known = ("auto", *PRECISIONS)
    if precision not in known:
        raise unknown_name("precision", precision, known, "dinorad-rt export --help")


def dataset_for(
    data: Path | None,
    dataset: str | None = None,
    root: Path | None = None,
    *,
    seed: int = 0,
    say: Say = silent,
    **choices: Any,
) -> Dataset:
    """Open the user's data, a registered dataset, or the embedded phantoms if nothing is named.

    Args:
        data, dataset, root: one of the first two, or neither.
        seed: of splits that are made.
        say: told of what takes long.
        choices: columns, `class_names`, `task` and `splits` of `open_dataset`; of these the last
            two count for registered datasets too.

    Raises:
        UnknownNameError: both are named, or what belongs to the other one.
        DataError: it cannot be opened.
    """
    check_source(data, dataset, root, choices)
    if data is not None:
        from dinorad_rt.datasets.open import open_dataset
        from dinorad_rt.datasets.registry import counted

        return open_dataset(data, seed=seed, progress=counted(say), **choices)
    from dinorad_rt.datasets.registry import dataset_named

    shared = {name: choices[name] for name in ("task", "splits") if choices.get(name) is not None}
    return dataset_named(dataset or "phantom", root=root, progress=say, seed=seed, **shared)


def as_option(name: str) -> str:
    """image_column → --image-column."""
    return "--" + name.replace("_", "-")


def check_source(
    data: object,
    dataset: str | None,
    root: object,
    choices: Mapping[str, Any],
    spelled: Callable[[str], str] = as_option,
) -> None:
    """Refuse two sources at once, and what would be passed over: a root beside data, columns alone.

    Args:
        data, dataset, root, choices: as for `dataset_for`.
        spelled: how people wrote a name, for the message.

    Raises:
        UnknownNameError: naming what does not belong together.
    """
    if data is not None and dataset is not None:
        raise UnknownNameError(
            f"Both {spelled('data')} {data} and {spelled('dataset')} {dataset} were given.",
            "Give one of the two.",
        )
    if data is not None and root is not None:
        raise UnknownNameError(
            f"{spelled('root')} is where a registered dataset lies, and {spelled('data')} was "
            "given.",
            f"Leave {spelled('root')} out, or name the dataset with {spelled('dataset')}.",
        )
    columns = [name for name in _OF_TABLES if choices.get(name) is not None]
    if data is None and columns:
        listed = ", ".join(map(spelled, columns))
        what = f"the registered dataset {dataset}" if dataset else "the default data (phantoms)"
        raise UnknownNameError(
            f"{listed}: a table of yours is read so, and this is {what}.",
            f"Leave this out, or give a table with {spelled('data')}.",
        )


def preprocessing_for(engine: Engine, preset: str = "dinorad") -> PreprocessSpec:
    """The preprocessing of a preset for an engine's backbone and input size."""
    from dinorad_rt.preprocessing.presets import preset_of

    return preset_of(preset, engine.manifest)


def embed(
    dataset: Dataset,
    engine: Engine,
    *,
    preprocessing: PreprocessSpec | str = "dinorad",
    out: Path | None = None,
    **options: Any,
) -> EmbeddingStore:
    """Embed every sample of a dataset with an engine; resumes what was begun.

    Args:
        dataset: from `open_dataset`.
        engine: from `build_engine`.
        preprocessing: a preset's name or a full spec.
        out: folder of the store; None for the cache.
        options: `workers`, `shard_rows`, `shard`, `progress` of `embeddings.embed.embed`.
    """
    from dinorad_rt.embeddings.embed import embed as run

    spec = (
        preprocessing_for(engine, preprocessing)
        if isinstance(preprocessing, str)
        else preprocessing
    )
    return run(dataset, engine, spec, out, **options)
