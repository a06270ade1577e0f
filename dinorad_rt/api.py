"""The public Python API: the verbs of the command line as functions.

    import dinorad_rt as dr

    dataset = dr.open_dataset("phantom")
    engine = dr.build_engine("vits14", weights="auto")
    store = dr.embed(dataset, engine)
    results = dr.evaluate(store, protocol="knn")
    print(results)

    dr.train(dataset, "runs/lora", protocol="lora", model="vits14")
    dr.bundle("runs/lora", "BUNDLE", dataset)
    with dr.Predictor("BUNDLE") as predictor:
        print(predictor.answer("scan.dcm").probabilities)

`dinorad_rt` itself re-exports these names and imports this module on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.backbones.load import Backbone, load_backbone
from dinorad_rt.backbones.registry import list_specs as list_models
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.embeddings.store import EmbeddingStore
from dinorad_rt.engines.build import open_runner
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.errors import DinoradError
from dinorad_rt.evaluation import evaluate_store
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.pipeline import EngineRequest, dataset_for, embed, engine_for
from dinorad_rt.prediction.bundle import Bundle
from dinorad_rt.prediction.predictor import Prediction, Predictor
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.progress import Progress as _Progress
from dinorad_rt.progress import Say as _Say
from dinorad_rt.progress import silent
from dinorad_rt.reports.results import Results
from dinorad_rt.studies.read import read_study

if TYPE_CHECKING:
    from dinorad_rt.engines.verify import Verification
    from dinorad_rt.metrics.compare import Comparison
    from dinorad_rt.prediction.predict import PredictSummary
    from dinorad_rt.training.classify import Trained
    from dinorad_rt.training.segmentation.run import TrainedSegmenter

__all__ = [
    "Backbone",
    "Bundle",
    "Dataset",
    "DinoradError",
    "EmbeddingStore",
    "Engine",
    "Prediction",
    "Predictor",
    "PreprocessSpec",
    "Results",
    "build_engine",
    "bundle",
    "compare",
    "embed",
    "evaluate",
    "evaluate_run",
    "export_onnx",
    "list_models",
    "load_backbone",
    "open_dataset",
    "open_runner",
    "predict",
    "read_study",
    "report",
    "train",
    "verify",
]


def open_dataset(data: str | Path = "phantom", *, seed: int = 0, **columns: Any) -> Dataset:
    """Open a folder or CSV of the user, or a registered dataset by name.

    Args:
        data: a path that exists, else a name of `dinorad-rt list datasets`.
        seed: seed of patient-level splits, where the data brings none.
        columns: `image_column`, `label_column`, `label_separator`, `patient_column`,
            `split_column`, `mask_column` of a CSV; of masks `task="segmentation"` and
            `class_names`.

    Raises:
        DataError: nothing usable is there, or a patient stands in two splits.
        UnknownNameError: neither a path nor a registered name, or columns for the latter.
    """
    if isinstance(data, Path) or Path(data).exists():
        from dinorad_rt.datasets.open import open_dataset as open_path

        return open_path(Path(data), seed=seed, **columns)
    return dataset_for(None, data, seed=seed, **columns)


def build_engine(
    model: str = "vits14",
    *,
    weights: str | Path = "hub",
    backend: str = "auto",
    say: _Say = silent,
    **choices: Any,
) -> Engine:
    """Export a backbone and build its engine for this machine, or take both from the cache.

    Args:
        model: short name or timm name.
        weights: hub, random, auto, or a checkpoint's path.
        backend: a backend, or auto for the fastest measured here.
        say: called with each decision and step, such as `print`.
        choices: other fields of `EngineRequest`: image_size, precision, profile, dense, seed.

    Raises:
        WeightsError, ExportError, EngineError, ParityError: with the way out in the message.
    """
    request = EngineRequest(model=model, weights=str(weights), backend=backend, **choices)
    return engine_for(request, say)


def evaluate(
    store: EmbeddingStore,
    *,
    protocol: str = "knn",
    protocol_preset: str = "dinorad",
    seed: int = 0,
    **options: Any,
) -> Results:
    """Judge stored embeddings by a protocol: test images choose nothing.

    Args:
        store: from `embed`.
        protocol: one of `dinorad-rt list protocols`.
        protocol_preset: who fixed its settings: study, dinov2 or dinorad.
        seed: of the protocol and of the intervals' resampling; same seed, same bits.
        options: settings that differ from the preset's, such as `ks=(5, 20)` or `shots=(1, 4)`.

    Raises:
        UnknownNameError: no such protocol, preset or setting.
        ProtocolError: the protocol does not fit the data.
        LeakageError: a patient stands in two splits.
    """
    return evaluate_store(
        store, protocol=protocol, protocol_preset=protocol_preset, seed=seed, **options
    )


def compare(
    runs: Sequence[Results | str | Path],
    *,
    metric: str | None = None,
    class_name: str | None = None,
    margin: float | None = None,
    seed: int = 0,
    **setting: Any,
) -> list[Comparison]:
    """Is one run better than another on the same patients? Every pair, in numbers and words.

    Args:
        runs: results with their scores, or folders of runs; of segmenters the folders.
        metric: such as auroc, average_precision, accuracy, f1, brier, dice or hd95. None for auroc;
            of segmenters dice, hd95 and nsd, as far as all runs hold them.
        class_name: of one class; None for the mean over classes.
        margin: largest difference that does not matter; None for 0.02, of hd95 1 mm (or pixel).
        seed: of bootstrap and permutations.
        setting: which setting of runs that have several, such as `k=20`; without it the one that
            validation chose.

    Raises:
        ProtocolError: different test sets, or a metric that the task does not have.
    """
    from dinorad_rt.metrics.compare_cases import Asked, answer_runs

    paths = [run if isinstance(run, Results) else Path(run) for run in runs]
    answers, _ = answer_runs(paths, Asked(metric, class_name, margin, seed=seed), setting)
    return [item for _, found in answers for item in found]


def train(
    dataset: Dataset,
    out: str | Path,
    *,
    protocol: Literal["finetune", "lora", "bitfit", "linear", "segmentation"] = "lora",
    model: str = "vits14",
    weights: str | Path = "hub",
    image_size: int | None = None,
    preset: Literal["modern", "study"] = "modern",
    seed: int = 0,
    workers: int | None = None,
    say: _Say = silent,
    progress: _Progress | None = None,
    **choices: Any,
) -> Trained | TrainedSegmenter:
    """Train, or go on with an interrupted run; judge it once on the test split.

    Args:
        dataset: from `open_dataset`; for segmentation with `task="segmentation"`.
        out: run folder. The same call goes on with the run in it.
        protocol: what is trained beside the head; segmentation: a decoder, or a network from
            scratch (`model="unet3d"`).
        model: short name or timm name.
        weights: hub, random, auto, or a checkpoint's path.
        image_size: input side in pixels; None for the backbone's own.
        preset: whose recipe.
        seed: of order, augmentation and new layers.
        workers: decoders of images; None for every usable core.
        say, progress: told of decisions, and of (done, all) steps.
        choices: fields that differ from the preset's: of `TrainSettings` (`epochs=20`, `lr=1e-4`)
            and of `ClassifyRecipe` or `SegmentationSettings` (`augmentation="none"`,
            `decoder="linear"`).

    Raises:
        UnknownNameError: no such protocol, preset or choice.
        DataError, TrainingError, WeightsError, OutputError: with the way out in the message.
    """
    request = EngineRequest(model=model, weights=str(weights), image_size=image_size, seed=seed)
    told: dict[str, Any] = {"workers": workers, "say": say, "progress": progress}
    if protocol == "segmentation":
        from dinorad_rt.training.segmentation.presets import segmentation_preset
        from dinorad_rt.training.segmentation.run import train_segmentation

        of_model = {"model": model, "weights": str(weights), "image_size": image_size}
        masks = segmentation_preset(preset).changed(**choices, **of_model, seed=seed)
        return train_segmentation(
            masks.settings, masks.loop, dataset, Path(out), request=request, **told
        )
    from dinorad_rt.training.presets import classify_preset

    recipe = classify_preset(protocol, preset).changed(**choices, seed=seed)
    from dinorad_rt.training.classify import train_classifier

    return train_classifier(request, recipe, dataset, Path(out), **told)


def evaluate_run(
    run: str | Path,
    dataset: Dataset,
    *,
    out: str | Path | None = None,
    backend: str = "auto",
    precision: str = "auto",
    trained_on: Literal["refuse", "leave-out", "keep"] = "refuse",
    seed: int = 0,
    say: _Say = silent,
) -> Results:
    """Judge a trained run on the test split through its engine.

    Args:
        run: folder of `train`.
        dataset: with the classes of the run.
        out: folder of the results; None for `engine` in the run folder.
        backend, precision: of the engine.
        trained_on: what is done with test patients that the run was trained on, where the dataset
            is another one, or split otherwise.
        seed: of the intervals.
        say: told of each step.

    Raises:
        LeakageError: there are such patients, and they are to be refused.
        RunError: no finished run, or other classes.
        ExportError, EngineError, ParityError: with the way out in the message.
    """
    from dinorad_rt.training.evaluate import RunRequest
    from dinorad_rt.training.evaluate import evaluate_run as judge

    request = RunRequest(Path(run), precision=precision, backend=backend)  # type: ignore[arg-type]
    folder = None if out is None else Path(out)
    return judge(request, dataset, out=folder, seed=seed, trained_on=trained_on, say=say)[0]


def verify(
    model: str = "vits14",
    dataset: Dataset | None = None,
    *,
    weights: str | Path = "hub",
    backend: str = "auto",
    say: _Say = silent,
    **choices: Any,
) -> Verification:
    """Check an engine from the backbone to the task; `passed` is in its `as_dict()`.

    Args:
        model: short name or timm name.
        dataset: for the task gate; None leaves it out.
        weights: hub, random, auto, or a checkpoint's path.
        backend: a backend, or auto.
        say: told of each step.
        choices: other fields of `EngineRequest`: precision, image_size, profile, keep_fp32.

    Raises:
        DinoradError: the checks could not be run. A check that failed is part of the answer.
    """
    from dinorad_rt.engines.verify import Data
    from dinorad_rt.engines.verify import verify as check

    request = EngineRequest(model=model, weights=str(weights), backend=backend, **choices)
    return check(request, data=None if dataset is None else Data(dataset), say=say)


def bundle(
    run: str | Path,
    out: str | Path,
    dataset: Dataset | None = None,
    *,
    say: _Say = silent,
    **choices: Any,
) -> Bundle:
    """Make a trained run one folder to deploy: graph, calibration, thresholds, model card.

    Args:
        run: folder of `train`.
        out: new folder.
        dataset: what the run was trained on: its validation split calibrates and chooses
            thresholds. None leaves both out, which the bundle says.
        say: told of each step.
        choices: fields of `BundleOptions`: name, class_names, precision, backend, rule, least.

    Raises:
        RunError, BundleError, ExportError, ParityError, OutputError: with the way out.
    """
    from dinorad_rt.prediction.write import BundleOptions, bundle_run

    return bundle_run(Path(run), Path(out), dataset, BundleOptions(**choices), say=say)


def predict(
    bundle: Bundle | str | Path,
    path: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    say: _Say = silent,
    progress: _Progress | None = None,
    **choices: Any,
) -> PredictSummary:
    """Answer for every series, volume and image under a path, into files; goes on if stopped.

    `Predictor` answers in memory, image by image.

    Args:
        bundle: from `bundle`, or its folder.
        path: a file, a folder, or a DICOMDIR.
        out: folder of predictions.parquet and .csv, masks and overlays.
        workers: threads that read; None for every usable core.
        say, progress: told of decisions, and of (done, all) items.
        choices: fields of `PredictOptions`: backend, profile, masks, overlays, saliency,
            keep_identifiers.

    Raises:
        BundleError, EmptyDataError, OutputExistsError, EngineError: with the way out.
    """
    from dinorad_rt.prediction.predict import PredictOptions
    from dinorad_rt.prediction.predict import predict as answer

    model = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    options = PredictOptions(**choices)
    told: dict[str, Any] = {"workers": workers, "say": say, "progress": progress}
    return answer(model, Path(path), Path(out), options, **told)


def report(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "dinorad-rt report",
    plots: Sequence[str] = (),
    say: _Say = silent,
) -> tuple[Path, ...]:
    """Write report.html (one file, no network), report.md and report.csv from runs.

    Args:
        runs: folders of runs, or folders that hold such.
        out: folder; its older report is replaced.
        title: of the page.
        plots: formats in which the plots are also written, such as svg and pdf.
        say: told each step.

    Returns:
        The files, the page first.

    Raises:
        DataError: there are no results.
        UnknownNameError: a format of plots that does not exist.
    """
    from dinorad_rt.reports.material import read_material
    from dinorad_rt.reports.report import Extras, write_report

    material = read_material([Path(run) for run in runs])
    return write_report(material, Path(out), Extras(title, tuple(plots)), say=say)
