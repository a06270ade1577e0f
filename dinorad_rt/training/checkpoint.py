"""`load_tuned`: a run folder becomes a module to deploy, adapters merged.

A kind of run (classifier, segmenter) names the function that builds its module again; everything
else is the same for all. Imported late: it needs torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dinorad_rt.backbones.load import Backbone, WeightsInfo
from dinorad_rt.errors import RunError
from dinorad_rt.files import sha256_file, sha256_json
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.base import empty_base, load_base
from dinorad_rt.training.methods import merge_adapters
from dinorad_rt.training.run_folder import BEST_FILE, read_best, read_run
from dinorad_rt.training.state import load_trained

Build = Callable[[Mapping[str, Any], Backbone | None], nn.Module]
BUILDERS = {
    "classifier": "dinorad_rt.training.classify_load:build",
    "segmenter": "dinorad_rt.training.segmentation.load:build",
}
"""Kind → function(facts, backbone) → the untrained module, in the form that was trained: the names
of its `trained_tensors` are those in best.safetensors. `backbone` is None for baselines trained
from scratch, which have no `backbone` among their facts."""


@dataclass(frozen=True)
class TunedModel:
    """A trained model, ready to run or to export.

    Attributes:
        kind: classifier or segmenter.
        module: in eval mode, FP32, on the CPU, without adapter layers; maps normalised pixels to
            logits. It holds `backbone.module`.
        backbone: with the tuned weights; `weights` tell of the run. None if there is none.
        facts: train.json.
        preprocessing: what its images went through.
        sha256: of everything that decides its numbers.
    """

    kind: str
    module: nn.Module
    backbone: Backbone | None
    facts: dict[str, Any]
    preprocessing: PreprocessSpec
    sha256: str

    @property
    def task(self) -> str:
        """binary, multiclass, multilabel or segmentation."""
        return str(self.facts["data"]["task"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Index → name."""
        return tuple(self.facts["data"]["class_names"])

    @property
    def image_size(self) -> int:
        """Input side in pixels."""
        return self.preprocessing.image_size

    @property
    def patch(self) -> tuple[int, int, int] | None:
        """(slices, rows, columns) that a 3-D network takes; None for models of images."""
        network = self.facts.get("model") or {}
        if network.get("dims") != 3:
            return None
        slices, rows, columns = (int(side) for side in network["patch"])
        return slices, rows, columns

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row: (3, H, W) of images, (1, D, H, W) of patches of volumes."""
        return (3, self.image_size, self.image_size) if self.patch is None else (1, *self.patch)


def load_tuned(run: Path | str, *, weights: str | Path | None = None) -> TunedModel:
    """Load the best checkpoint of a run.

    Args:
        run: folder that `dinorad-rt train` wrote.
        weights: of the backbone below; None to find them again by their hash.

    Raises:
        RunError: no run, no checkpoint, or one that does not fit.
        WeightsError: the weights below cannot be had.
    """
    run = Path(run)
    facts = read_run(run)
    tensors = read_best(run)
    backbone = _base(facts, weights)
    module = build_untrained(facts, backbone)
    load_trained(module, tensors, BEST_FILE)
    merge_adapters(module)
    module.eval().requires_grad_(False)
    digest = tuned_digest(facts, run)
    if backbone is not None:
        backbone = _tuned_backbone(backbone, facts, digest)
    spec = PreprocessSpec(**_tuples(facts["preprocessing"]))
    return TunedModel(str(facts["kind"]), module, backbone, facts, spec, digest)


def build_untrained(facts: Mapping[str, Any], backbone: Backbone | None) -> nn.Module:
    """The module of a run before its checkpoint is loaded.

    Raises:
        RunError: a kind that this version does not know.
    """
    if facts.get("kind") not in BUILDERS:
        raise RunError(
            f"The run is of kind {facts.get('kind')!r}; known: {', '.join(BUILDERS)}.",
            "Use the version of dinorad-rt that wrote it.",
        )
    module, _, name = BUILDERS[facts["kind"]].partition(":")
    build: Build = getattr(importlib.import_module(module), name)
    return build(facts, backbone)


def tuned_digest(facts: Mapping[str, Any], run: Path) -> str:
    """SHA-256 over the checkpoint and what is below and around it."""
    parts = ("kind", "backbone", "method", "head", "model", "preprocessing")
    known = {name: facts[name] for name in parts if name in facts}
    return sha256_json({"best": sha256_file(run / BEST_FILE), **known})


def _base(facts: Mapping[str, Any], weights: str | Path | None) -> Backbone | None:
    if "backbone" not in facts:
        return None
    method = facts.get("method", {})
    trained = method.get("protocol") == "finetune" or method.get("encoder") == "trained"
    if trained and weights is None:
        return empty_base(facts["backbone"])
    return load_base(facts["backbone"], weights)


def _tuned_backbone(backbone: Backbone, facts: Mapping[str, Any], digest: str) -> Backbone:
    below = backbone.weights
    method = facts.get("method", {}).get("protocol") or facts["kind"]
    note = f"tuned ({method}) on {facts['data']['name']}"
    info = WeightsInfo(
        kind="random" if below.kind == "random" else "file",
        sha256=digest,
        source=f"{note}, from {below.source}",
        licence=below.licence,
        notes=(note,),
    )
    return Backbone(backbone.spec, backbone.module, info, backbone.image_size)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that they were."""

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return {name: tuples(value) for name, value in values.items()}
