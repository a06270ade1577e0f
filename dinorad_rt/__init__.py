"""Vision backbones on radiology: evaluated and deployed through the same engine.

The names below are the public API; `dinorad_rt.api` documents them. Importing this package loads
nothing heavy: each name is imported on first use.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on it reports to its maker

__version__ = "0.1.0"

TYPE_CHECKING = False  # as typing's own, whose import would keep Ctrl-C waiting

if TYPE_CHECKING:
    from dinorad_rt.api import (
        Backbone,
        Bundle,
        Dataset,
        DinoradError,
        EmbeddingStore,
        Engine,
        Prediction,
        Predictor,
        PreprocessSpec,
        Results,
        build_engine,
        bundle,
        compare,
        embed,
        evaluate,
        evaluate_run,
        export_onnx,
        list_models,
        load_backbone,
        open_dataset,
        open_runner,
        predict,
        read_study,
        report,
        train,
        verify,
    )

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


def __getattr__(name: str) -> object:
    if name in __all__:
        from dinorad_rt import api

        return getattr(api, name)
    raise AttributeError(f"module 'dinorad_rt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
