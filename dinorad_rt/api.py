"""The public Python API: the verbs of the command line as functions.

    import dinorad_rt as dr

    dataset = dr.open_dataset("phantom")
    engine = dr.build_engine("vits14", weights="auto")
    store = dr.embed(dataset, engine)
    results = dr.evaluate(store, protocol="knn")
    print(results)

`dinorad_rt` itself re-exports these names and imports this module on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.progress import Say as _Say
from dinorad_rt.progress import silent
from dinorad_rt.reports.results import Results
from dinorad_rt.studies.read import read_study

if TYPE_CHECKING:
    from dinorad_rt.metrics.compare import Comparison

__all__ = [
    "Backbone",
    "Dataset",
    "DinoradError",
    "EmbeddingStore",
    "Engine",
    "PreprocessSpec",
    "Results",
    "build_engine",
    "compare",
    "embed",
    "evaluate",
    "export_onnx",
    "list_models",
    "load_backbone",
    "open_dataset",
    "open_runner",
    "read_study",
]


def open_dataset(data: str | Path = "phantom", *, seed: int = 0, **columns: Any) -> Dataset:
    """Open a folder or CSV of the user, or a registered dataset by name.

    Args:
        data: a path that exists, else a name of `dinorad-rt list datasets`.
        seed: seed of patient-level splits, where the data brings none.
        columns: `image_column`, `label_column`, `label_separator`, `patient_column`,
            `split_column` of a CSV.

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
