"""`verify --checkpoint`: is the engine of a trained run the run, down to its task?

The same lines as for a backbone. The task gate differs: a run has answers of its own, so engine
and PyTorch give theirs to the validation images, and the AUROC (of a classifier) or the mean
foreground Dice (of a segmenter) are compared, paired, by patient. Test images are not looked at.
Imported late: it needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.engines.verify import (
    Check,
    Verification,
    engine_checks,
    export_parity,
    failed_check,
    task_fix,
    task_words,
)
from dinorad_rt.errors import BuildError, LintError, ParityError
from dinorad_rt.pipeline import build_engine, resolve_precision
from dinorad_rt.progress import Say, silent
from dinorad_rt.training.checkpoint import load_tuned
from dinorad_rt.training.evaluate import RunRequest, check_same_task, task_gate
from dinorad_rt.training.export import LOGITS, export_tuned

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.mask_gate import SegmentationGate
    from dinorad_rt.engines.task_gate import TaskGate
    from dinorad_rt.training.checkpoint import TunedModel


@dataclass(frozen=True)
class RunData:
    """What the task gate of a run is asked on.

    Attributes:
        dataset: with validation images and the classes of the run.
        workers: decoders; None for every usable core.
        seed: of the intervals.
    """

    dataset: Dataset
    workers: int | None = None
    seed: int = 0


def verify_run(
    request: RunRequest,
    *,
    keep_fp32: tuple[str, ...] = (),
    data: RunData | None = None,
    say: Say = silent,
) -> Verification:
    """Check the engine of a run from its graph to its task; build what is not there.

    Args:
        request: which run, and how it is deployed.
        keep_fp32: module paths that a typed graph leaves in FP32.
        data: for the task gate; None leaves it out.
        say: told of each step.

    Raises:
        RunError: no run, or data that it cannot answer for.
        EmptyDataError: no validation image.
        DinoradError: what is no answer to a check: missing packages, weights, backends.
    """
    weights = None if request.weights in (None, "hub") else request.weights
    tuned = load_tuned(request.run, weights=weights)
    if data is not None:
        _check_data(tuned, data.dataset)
    precision = resolve_precision(request.precision, request.backend)
    checks: list[Check] = []
    graph = engine = None
    try:
        graph = export_tuned(tuned, precision=precision, keep_fp32=keep_fp32, say=say)
        checks.append(export_parity(graph, None, say))
        engine = build_engine(graph, backend=request.backend, profile=request.profile, say=say)
        checks += engine_checks(graph, engine, say)
    except (ParityError, LintError, BuildError) as error:
        checks.append(failed_check(error, "export" if graph is None else "build"))
    else:
        checks.append(_task(tuned, engine, data, say))
    return Verification(
        model=_model_of(tuned) if graph is None else graph.model,
        precision=precision,
        backend=request.backend if engine is None else engine.backend,
        weights_kind="" if graph is None else graph.weights_kind,
        checks=tuple(checks),
    )


def _model_of(tuned: TunedModel) -> str:
    if tuned.backbone is not None:
        return tuned.backbone.spec.name
    return str(tuned.facts["model"]["name"])


def _check_data(tuned: TunedModel, dataset: Dataset) -> None:
    if tuned.kind == "segmenter":
        from dinorad_rt.training.segmentation.on_engine import check_classes

        check_classes(tuned, dataset)
    else:
        check_same_task(tuned, dataset)


def _task(tuned: TunedModel, engine: Engine, data: RunData | None, say: Say) -> Check:
    if data is None:
        return Check("task gate", "not run", "no data: give --data DIR or --dataset NAME")
    say(f"task gate: PyTorch and {engine.backend} on the validation images")
    gate = _gate(tuned, engine, data)
    return Check("task gate", gate.verdict, task_words(gate), task_fix(gate), gate.as_dict())


def _gate(tuned: TunedModel, engine: Engine, data: RunData) -> TaskGate | SegmentationGate:
    from dinorad_rt.engines.build import open_runner

    with open_runner(engine) as runner:
        if tuned.kind == "segmenter":
            from dinorad_rt.training.segmentation.load import segmenter_of
            from dinorad_rt.training.segmentation.on_engine import segmenter_on
            from dinorad_rt.training.segmentation.task_gate import gate_on_validation

            ours = segmenter_on(runner, tuned)
            return gate_on_validation(ours, segmenter_of(tuned), data.dataset, seed=data.seed)
        return task_gate(
            tuned,
            data.dataset,
            lambda pixels: np.asarray(runner.infer(pixels)[LOGITS]),
            batch=engine.batch,
            workers=data.workers,
        )
