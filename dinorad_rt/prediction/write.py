"""`bundle_run`: a training run becomes a bundle, calibrated on its validation images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt import __version__
from dinorad_rt.errors import BundleError, DinoradError, OutputExistsError
from dinorad_rt.files import atomic_folder, claimed_dir, sha256_file, write_json
from dinorad_rt.metrics.calibration import (
    OperatingPoint,
    Rule,
    activation_of,
    fit_calibration,
    negative_log_likelihood,
    operating_point,
    probabilities,
)
from dinorad_rt.parts import is_in_use
from dinorad_rt.pipeline import build_engine
from dinorad_rt.prediction.bundle import (
    BUNDLE_FILE,
    CARD_FILE,
    FORMAT,
    GRAPH_FOLDER,
    LOGITS,
    Bundle,
)
from dinorad_rt.prediction.card import model_card
from dinorad_rt.prediction.names import class_names_for
from dinorad_rt.progress import Say, silent
from dinorad_rt.types import Precision

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.preprocessing.spec import PreprocessSpec


@dataclass(frozen=True)
class BundleOptions:
    """Choices of a bundle.

    Attributes:
        name: what answers are signed with; None for the run's folder name.
        class_names: what answers call the classes, see `names.class_names_for`; empty for the
            run's names.
        precision: of the graph.
        backend: whose engine is calibrated; auto for the fastest here.
        rule, least: how thresholds are chosen, see `operating_point`.
    """

    name: str | None = None
    class_names: tuple[str, ...] = ()
    precision: Precision = "fp32"
    backend: str = "auto"
    rule: Rule = "youden"
    least: float = 0.9


@dataclass(frozen=True)
class ValidationScores:
    """What an engine gave for the validation images.

    Attributes:
        logits: (samples, classes).
        labels: (samples,) class indices or (samples, classes) 0/1.
        failed: images that could not be read.
        slices: of the image with the fewest, and of that with the most.
    """

    logits: np.ndarray
    labels: np.ndarray
    failed: int = 0
    slices: tuple[int, int] = (1, 1)


def bundle_run(
    run: Path,
    out: Path,
    dataset: Dataset | None = None,
    options: BundleOptions | None = None,
    *,
    workers: int | None = None,
    say: Say = silent,
) -> Bundle:
    """Export a run, calibrate it on the validation split, and write the bundle.

    Args:
        run: folder of `dinorad-rt train`.
        out: new folder.
        dataset: what the run was trained on, for calibration and operating points. None leaves
            both out, which the bundle says.
        options: name, precision, thresholds.
        workers: decoders.
        say: told of each step.

    Raises:
        RunError: no finished run.
        BundleError: the dataset is not the run's, or the names are not for its classes.
        ExportError, ParityError: the run's model does not pass its checks.
        OutputExistsError, NoSpaceError: the bundle cannot be written.
    """
    _refuse_full(out)
    with claimed_dir(out, BUNDLE_FILE):
        graph, facts = _bundled(run, dataset, options or BundleOptions(), workers=workers, say=say)
        return write_bundle(graph, facts, out)


def _bundled(
    run: Path, dataset: Dataset | None, options: BundleOptions, *, workers: int | None, say: Say
) -> tuple[Graph, dict[str, Any]]:
    """The checked graph of a run, and what the bundle says of it."""
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned

    tuned = load_tuned(run)
    names = tuned.class_names
    if options.class_names:
        names = class_names_for(tuned.facts["data"], options.class_names)
    kind = "segmentation" if tuned.kind == "segmenter" else "classification"
    if dataset is not None and dataset.fingerprint != tuned.facts["data"]["fingerprint"]:
        raise BundleError(
            f"The run was trained on other data than this {dataset.name}: their fingerprints "
            "differ.",
            "Give the data that the run was trained on, unchanged, or leave it out.",
        )
    graph = export_tuned(tuned, precision=options.precision, say=say)
    facts: dict[str, Any] = {
        "name": options.name or run.resolve().name,
        "kind": kind,
        "task": tuned.task,
        "class_names": list(names),
        "activation": activation_of(tuned.task),
        "preprocessing": tuned.preprocessing.as_dict(),
        "precision": options.precision,
        "graph": {"key": graph.key, "sha256": graph.sha256},
        "weights_kind": graph.weights_kind,
        "licence": graph.manifest["weights"]["licence"],
        "training": _training_facts(tuned.facts),
        "test": _test_facts(run, dict(zip(tuned.class_names, names, strict=True))),
    }
    if kind == "classification" and dataset is not None:
        engine = build_engine(graph, backend=options.backend, say=say)
        say("calibrating on the validation images")
        found = validation_scores(engine, dataset, tuned.preprocessing, workers=workers)
        facts |= calibrated(found, facts, options)
        facts["calibrated_engine"] = {"key": engine.key, "backend": engine.backend}
    return graph, facts


def validation_scores(
    engine: Any, dataset: Dataset, spec: PreprocessSpec, *, workers: int | None = None
) -> ValidationScores:
    """Logits of the validation split through an engine; a volume's are the mean of its slices'."""
    from dinorad_rt.embeddings.loader import load_batches
    from dinorad_rt.engines.build import open_runner

    samples = dataset.of_split("val")
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    failed: set[int] = set()
    with open_runner(engine) as runner:
        for batch in load_batches(samples, spec, batch=engine.batch, workers=workers):
            failed |= {row.sample for row in batch.rows if row.reason}
            good = [row for row in batch.rows if not row.reason]
            if not good:
                continue
            for row, logits in zip(good, runner.infer(batch.pixels)[LOGITS], strict=True):
                sums[row.sample] = sums.get(row.sample, 0.0) + logits.astype(np.float64)
                counts[row.sample] = counts.get(row.sample, 0) + 1
    kept = [index for index in sorted(sums) if index not in failed]
    if not kept:
        raise BundleError(f"No validation image of {dataset.name} could be read.", "Check --data.")
    labels = np.asarray([samples[index].labels for index in kept], np.int64)
    return ValidationScores(
        logits=np.stack([sums[index] / counts[index] for index in kept]),
        labels=labels if dataset.task == "multilabel" else labels[:, 0],
        failed=len(failed),
        slices=(min(counts[index] for index in kept), max(counts[index] for index in kept)),
    )


def calibrated(
    found: ValidationScores, facts: Mapping[str, Any], options: BundleOptions
) -> dict[str, Any]:
    """Temperature, offset and thresholds, with what they were fitted on."""
    activation = facts["activation"]
    temperature, bias = fit_calibration(found.logits, found.labels, activation)
    loss = [
        negative_log_likelihood(logits, found.labels, activation)
        for logits in (found.logits, found.logits / temperature + bias)
    ]
    scores = probabilities(found.logits, activation, temperature, bias)
    points, left_out = _thresholds(scores, found.labels, facts, options)
    return {
        "calibration": {
            "method": "platt" if bias.any() else "temperature",
            "temperature": temperature.tolist(),
            "bias": bias.tolist(),
            "images": len(found.labels),
            "unreadable": found.failed,
            "slices": list(found.slices),
            "negative_log_likelihood_before": loss[0],
            "negative_log_likelihood_after": loss[1],
        },
        "operating_points": {name: asdict(point) for name, point in points.items()},
        "without_operating_point": left_out,
    }


def _thresholds(
    scores: np.ndarray, labels: np.ndarray, facts: Mapping[str, Any], options: BundleOptions
) -> tuple[dict[str, OperatingPoint], dict[str, str]]:
    """Class → threshold, and why others have none. Multi-class takes the most probable class."""
    names, task = facts["class_names"], facts["task"]
    if task == "multiclass":
        return {}, {}
    wanted = [(len(names) - 1, labels == 1)] if task == "binary" else None
    columns = wanted or [(index, labels[:, index] == 1) for index in range(len(names))]
    points, left_out = {}, {}
    for index, positive in columns:
        try:
            points[names[index]] = operating_point(
                positive, scores[:, index], rule=options.rule, least=options.least
            )
        except DinoradError as error:
            left_out[names[index]] = error.problem
    return points, left_out


def write_bundle(graph: Graph, facts: Mapping[str, Any], out: Path) -> Bundle:
    """Copy the graph, write card and facts; the folder appears when all is there.

    Raises:
        OutputExistsError: `out` holds something.
        NoSpaceError: the disk is full.
    """
    _refuse_full(out)
    with atomic_folder(out, BUNDLE_FILE) as part:
        shutil.copytree(graph.folder, part / GRAPH_FOLDER)
        (part / CARD_FILE).write_text(model_card(facts), encoding="utf-8")
        files = [path for path in sorted(part.rglob("*")) if path.is_file()]
        hashes = {path.relative_to(part).as_posix(): sha256_file(path) for path in files}
        document = {"format": FORMAT, "made_by": f"dinorad-rt {__version__}", **facts}
        write_json(part / BUNDLE_FILE, document | {"files": hashes})
    return Bundle.open(out)


def _refuse_full(out: Path) -> None:
    """Asked before any work, and again before writing."""
    if out.exists() and (not out.is_dir() or is_in_use(out)):
        raise OutputExistsError(f"{out} is not empty.", "Choose a new folder with --out.")


def _training_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What of train.json belongs into a bundle: no history, no machine."""
    names = ("backbone", "method", "head", "model", "recipe", "data", "parameters", "selection")
    kept = {name: facts[name] for name in names if name in facts}
    best = (facts.get("history") or {}).get("best_epoch")
    return kept | {"best_epoch": best}


def _test_facts(run: Path, renamed: Mapping[str, str]) -> dict[str, Any] | None:
    """Metrics of the run's test split, macro values only; None if there was none.

    Args:
        run: its folder.
        renamed: name of a class in the run → in the bundle.
    """
    from dinorad_rt.reports.results import RESULTS_FILE, Results
    from dinorad_rt.reports.table import unit_of

    if not (run / RESULTS_FILE).is_file():
        return None
    results = Results.open(run)
    names = ("name", "setting", "value", "ci_low", "ci_high", "n", "n_patients")
    return {
        "dataset": results.dataset,
        "unit": unit_of(results),
        "metrics": [
            {key: getattr(value, key) for key in names}
            for value in results.metrics
            if value.class_name is None
        ],
        "excluded_classes": {
            renamed.get(name, name): why for name, why in results.excluded_classes.items()
        },
        "notes": list(results.notes),
    }
