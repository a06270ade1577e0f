"""A classifier of a run, before its checkpoint is loaded. Imported late: it needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from dinorad_rt.backbones.load import Backbone
from dinorad_rt.errors import RunError
from dinorad_rt.training.classifier import Classifier, HeadSpec
from dinorad_rt.training.methods import Method, apply_method


def build(facts: Mapping[str, Any], backbone: Backbone | None) -> nn.Module:
    """See `checkpoint.BUILDERS`."""
    if backbone is None:
        raise RunError("The run is of a classifier without a backbone.", "Train again.")
    model = Classifier(
        backbone, HeadSpec(**facts["head"]), classes=len(facts["data"]["class_names"])
    )
    apply_method(backbone.module, backbone.spec.family, Method(**facts["method"]))
    return model
