"""Experiment trackers that people already use, through one small hook.

A tracker is called once per finished run, with its choices, its numbers and its files. Where it
writes is the tracker's own business, by its own variables: MLFLOW_TRACKING_URI and
MLFLOW_EXPERIMENT_NAME, TENSORBOARD_LOGDIR, WANDB_PROJECT and WANDB_MODE. Only results.json is
given away, never the images' scores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dinorad_rt.errors import unknown_name
from dinorad_rt.optional import require

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results

PROJECT = "dinorad-rt"


class Tracker(Protocol):
    """Takes one finished run."""

    def __call__(
        self,
        name: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path],
    ) -> None:
        """Record it."""


def tracker_named(name: str) -> Tracker:
    """A tracker, whose package is there.

    Raises:
        UnknownNameError: no such tracker.
        MissingPackageError: its package is not installed; the message has the command.
    """
    if name not in TRACKERS:
        raise unknown_name("tracker", name, TRACKERS, f"they are {', '.join(TRACKERS)}")
    require(name, f"--track {name}")
    return TRACKERS[name]


def track_results(tracker: Tracker, results: Results, artifacts: Sequence[Path] = ()) -> None:
    """Give a run to a tracker: its choices, every metric of the whole, and files.

    Args:
        tracker: from `tracker_named`.
        results: of the run.
        artifacts: files to keep with it, such as results.json.
    """
    from dinorad_rt.reports.run_names import labelled
    from dinorad_rt.reports.runs import words_of

    (run,) = labelled([results])
    data = results.provenance.get("dataset") or {}
    params = {
        "model": run.model,
        "protocol": results.protocol,
        "preset": results.preset,
        "dataset": results.dataset,
        "dataset_fingerprint": data.get("fingerprint"),
        "split_hash": data.get("split_hash"),
        "weights": results.weights_kind,
        "precision": run.engine.get("precision"),
        "backend": run.engine.get("backend"),
        "engine_key": run.engine.get("key"),
        "setting": run.setting_words,
    }
    params |= {f"settings.{key}": value for key, value in results.settings.items()}
    metrics: dict[str, float] = {}
    for value in results.metrics:
        if value.class_name is None and value.value is not None:
            setting = words_of(value.setting).replace(",", "").replace(" ", "_")
            key = "/".join(filter(None, (value.name, setting)))
            metrics[key] = value.value
            if value.setting == run.setting and value.ci_low is not None:
                metrics |= {value.name: value.value, f"{value.name}_low": value.ci_low}
                metrics |= {} if value.ci_high is None else {f"{value.name}_high": value.ci_high}
    name = f"{results.dataset} {run.model} {results.protocol}"
    kept = {key: str(value) for key, value in params.items() if value is not None}
    tracker(name, kept, metrics, artifacts)


def _mlflow(
    name: str, params: Mapping[str, str], metrics: Mapping[str, float], artifacts: Sequence[Path]
) -> None:
    mlflow: Any = require("mlflow", "--track mlflow")
    if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
        mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=name):
        mlflow.log_params({_allowed(key): value for key, value in params.items()})
        mlflow.log_metrics({_allowed(key): value for key, value in metrics.items()})
        for path in artifacts:
            mlflow.log_artifact(str(path))


def _tensorboard(
    name: str, params: Mapping[str, str], metrics: Mapping[str, float], artifacts: Sequence[Path]
) -> None:
    require("tensorboard", "--track tensorboard")
    tensorboard: Any = require("torch.utils.tensorboard", "--track tensorboard")
    root = Path(os.environ.get("TENSORBOARD_LOGDIR", "runs/tensorboard"))
    folder = root / f"{_allowed(name).replace(' ', '-')}-{params.get('engine_key', '')[:8]}"
    with tensorboard.SummaryWriter(log_dir=str(folder)) as writer:
        rows = "\n".join(f"| {key} | {value} |" for key, value in params.items())
        writer.add_text("params", f"| choice | value |\n|---|---|\n{rows}")
        for key, value in metrics.items():
            writer.add_scalar(_allowed(key), value)
        for path in artifacts:
            writer.add_text(path.name, f"```\n{path.read_text(encoding='utf-8')}\n```")


def _wandb(
    name: str, params: Mapping[str, str], metrics: Mapping[str, float], artifacts: Sequence[Path]
) -> None:
    wandb: Any = require("wandb", "--track wandb")
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    with wandb.init(project=project, name=name, config=dict(params), reinit=True) as run:
        run.log(dict(metrics))
        if artifacts:
            kept = wandb.Artifact(_allowed(name).replace(" ", "-"), type="results")
            for path in artifacts:
                kept.add_file(str(path))
            run.log_artifact(kept)


def _allowed(text: str) -> str:
    """Names that all of them take: letters, digits, and `_ - . / space`."""
    return "".join(char if char.isalnum() or char in "_-./ " else "_" for char in text)


TRACKERS: dict[str, Tracker] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}
