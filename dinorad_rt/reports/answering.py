"""The model behind a result, opened again: what it is asked about is what was judged.

    engine of the result's key in this machine's cache           the very engine
    else its checkpoint, beside it or named by --checkpoint      the same engine, built again
    else its bundle, named by --checkpoint                       the same graph, built again
    results of `train` itself                                    the checkpoint, in PyTorch

Nothing of the masks is stored by `eval`: pictures of patients come into being only where somebody
hands over the images and asks for them. A checkpoint belongs to a result if its hash stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.engines.cache import find_engine
from dinorad_rt.errors import DataError, DinoradError
from dinorad_rt.files import sha256_file
from dinorad_rt.pipeline import build_engine
from dinorad_rt.prediction.bundle import BUNDLE_FILE, LOGITS, Bundle, spec_from
from dinorad_rt.progress import Say, silent
from dinorad_rt.reports.runs import Run
from dinorad_rt.training.run_folder import BEST_FILE, RUN_FILE, read_run

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.training.checkpoint import TunedModel
    from dinorad_rt.training.segmentation.predict import AnySegmenter


@dataclass(frozen=True)
class Sources:
    """Where models may be found again.

    Attributes:
        checkpoints: folders of runs, or bundles.
        weights: files of backbones, matched by their hash.
    """

    checkpoints: tuple[Path, ...] = ()
    weights: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Model:
    """A model that answers.

    Attributes:
        words: what it is, for the page.
        spec: what its images go through.
        infer: (rows, 3, H, W) float32 → logits.
        segmenter: for `segment_study`; None for classifiers.
        module: the same from tensors, with gradients; None unless asked for.
    """

    words: str
    spec: PreprocessSpec
    infer: Callable[[np.ndarray], np.ndarray]
    segmenter: AnySegmenter | None = None
    module: Callable[[Any], Any] | None = None


def is_trained(run: Run) -> bool:
    """True if a head or decoder of its own gave the answers, so that it can be asked again."""
    return "run" in run.results.provenance or "training" in run.results.provenance


def digest_of(run: Run) -> str | None:
    """SHA-256 of the checkpoint that a result is of; None if neither it nor its folder tells."""
    found = run.results.provenance.get("run")
    if found is None and run.folder is not None and (run.folder / RUN_FILE).is_file():
        found = _digest(run.folder)
    return None if found is None else str(found)


@contextmanager
def opened_model(
    run: Run, sources: Sources, *, gradients: bool = False, say: Say = silent
) -> Iterator[Model]:
    """Open the model of a result.

    Args:
        run: of a trained classifier or segmenter.
        sources: where to look for what the cache does not hold.
        gradients: also give `module`, which needs the checkpoint or the bundle.
        say: told of each step.

    Raises:
        DataError: neither engine nor checkpoint nor bundle of this result is here.
        DinoradError: it cannot be built or loaded.
    """
    engine = _stored_engine(run)
    folder = _checkpoint(run, sources.checkpoints)
    bundle = None if folder is not None else _bundle(run, sources.checkpoints)
    missing = engine is None and folder is None and bundle is None
    if missing or (gradients and folder is None and bundle is None):
        raise DataError(
            f"The checkpoint of {run.label} on {run.results.dataset} is needed for its pictures.",
            "Name its run folder, or its bundle: --checkpoint DIR",
        )
    tuned = None
    if folder is not None and (engine is None or gradients):
        tuned = _tuned(folder, sources.weights)
    module = _module(tuned, bundle) if gradients else None
    if engine is None and tuned is not None and "run" not in run.results.provenance:
        yield _in_pytorch(tuned, module)
        return
    words = "the engine that was judged, from this machine's cache"
    if engine is None:
        engine = _built(run, folder, tuned, bundle, say)
        same = engine.key == run.engine.get("key")
        words = "the engine that was judged, built again"
        if not same:
            words = "an engine of the same checkpoint, built here: its key is not the judged one's"
    with _running(engine, run, module, words) as model:
        yield model


@contextmanager
def _running(engine: Engine, run: Run, module: Any, words: str) -> Iterator[Model]:
    from dinorad_rt.engines.build import open_runner
    from dinorad_rt.training.segmentation.predict import graph_segmenter

    results = run.results
    spec = spec_from(results.provenance["preprocessing"])
    with open_runner(engine) as runner:

        def infer(pixels: np.ndarray) -> np.ndarray:
            return runner.infer(np.ascontiguousarray(pixels, np.float32))[LOGITS]

        segmenter = None
        if results.task == "segmentation":
            spacing = (results.settings.get("protocol") or {}).get("spacing")
            segmenter = graph_segmenter(runner, spec, len(results.class_names), spacing)
        yield Model(f"{engine.backend} {engine.precision}, {words}", spec, infer, segmenter, module)


def _in_pytorch(tuned: TunedModel, module: Any) -> Model:
    from dinorad_rt.training.evaluate import torch_inference
    from dinorad_rt.training.segmentation.load import segmenter_of

    segmenter = segmenter_of(tuned) if tuned.kind == "segmenter" else None
    words = "the checkpoint in PyTorch, FP32, on the CPU"
    return Model(words, tuned.preprocessing, torch_inference(tuned), segmenter, module)


def _stored_engine(run: Run) -> Engine | None:
    """The engine of the result in the cache, if it is one that answers, not a backbone alone."""
    key = run.engine.get("key")
    try:
        engine = None if key is None else find_engine(str(key))
    except DinoradError:
        return None
    return engine if engine is not None and LOGITS in engine.outputs else None


def _built(
    run: Run, folder: Path | None, tuned: TunedModel | None, bundle: Bundle | None, say: Say
) -> Engine:
    backend = str(run.engine.get("backend") or "auto")
    if bundle is not None:
        return build_engine(bundle.graph, backend=backend, say=say)
    from dinorad_rt.training.evaluate import RunRequest, engine_of_run

    assert folder is not None and tuned is not None
    precision: Any = run.engine.get("precision") or "auto"
    request = RunRequest(folder, precision=precision, backend=backend)
    return engine_of_run(tuned, request, say)


def _checkpoint(run: Run, named: Sequence[Path]) -> Path | None:
    """The run folder of a result: its own, the one above it, or one that was named."""
    wanted = digest_of(run)
    near = [] if run.folder is None else [run.folder, run.folder.resolve().parent]
    for folder in [*near, *named]:
        if wanted is not None and (folder / RUN_FILE).is_file() and _digest(folder) == wanted:
            return folder
    return None


def _bundle(run: Run, named: Sequence[Path]) -> Bundle | None:
    """A named bundle of the graph that was judged."""
    for folder in named:
        if (folder / BUNDLE_FILE).is_file():
            bundle = Bundle.open(folder)
            if bundle.graph.sha256 == run.engine.get("graph_sha256"):
                return bundle
    return None


def _digest(folder: Path) -> str | None:
    from dinorad_rt.training.checkpoint import tuned_digest

    if not (folder / BEST_FILE).is_file():
        return None
    return tuned_digest(read_run(folder), folder)


def _tuned(folder: Path, weights: Sequence[Path]) -> TunedModel:
    from dinorad_rt.training.checkpoint import load_tuned

    below = (read_run(folder).get("backbone") or {}).get("weights") or {}
    same = [path for path in weights if sha256_file(path) == below.get("sha256")]
    return load_tuned(folder, weights=same[0] if same else None)


def _module(tuned: TunedModel | None, bundle: Bundle | None) -> Callable[[Any], Any] | None:
    if tuned is not None:
        return tuned.module
    from dinorad_rt.prediction.saliency import logits_module

    return None if bundle is None else logits_module(bundle)
