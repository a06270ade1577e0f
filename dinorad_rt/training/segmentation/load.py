"""A segmenter of a run, before its checkpoint is loaded. Imported late: it needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from dinorad_rt.errors import RunError
from dinorad_rt.training.segmentation.baselines import build_network
from dinorad_rt.training.segmentation.decoders import PATCH_BLOCKS, build_decoder
from dinorad_rt.training.segmentation.model import Segmenter, encoder_of

if TYPE_CHECKING:
    from dinorad_rt.backbones.load import Backbone
    from dinorad_rt.training.checkpoint import TunedModel
    from dinorad_rt.training.segmentation.predict import AnySegmenter


def build(facts: Mapping[str, Any], backbone: Backbone | None) -> nn.Module:
    """See `checkpoint.BUILDERS`."""
    classes = len(facts["data"]["class_names"])
    if "model" in facts:
        network = facts["model"]
        return build_network(
            network["name"],
            classes=classes,
            size=int(facts["preprocessing"]["image_size"]),
            width=network["width"],
        )
    if backbone is None:
        raise RunError("The run names neither a backbone nor a network.", "Train again.")
    head = facts["head"]
    decoder = build_decoder(
        head["decoder"],
        dim=head["dim"],
        grid=head["grid"],
        classes=classes,
        image_size=backbone.image_size,
    )
    trained = facts["method"]["encoder"] == "trained"
    blocks = PATCH_BLOCKS[head["decoder"]]
    return Segmenter(decoder, encoder_of(backbone.module, blocks, trained=trained))


def grid_side(tokens: int) -> int:
    """Patches per side.

    Raises:
        RunError: they make no square.
    """
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise RunError(
            f"{tokens} patch tokens make no square; decoders take square images.",
            "Export the backbone with one --image-size for both sides.",
        )
    return side


def segmenter_of(tuned: TunedModel, *, device: str = "cpu") -> AnySegmenter:
    """What `predict.segment_study` takes, from a run, in PyTorch."""
    from dinorad_rt.training.segmentation.predict import module_segmenter, volume_segmenter

    classes = len(tuned.class_names)
    network = tuned.facts.get("model")
    if network is None or network["dims"] == 2:
        return module_segmenter(tuned.module, tuned.preprocessing, classes, device=device)
    spacing = network["spacing"]
    return volume_segmenter(
        tuned.module,
        tuned.preprocessing,
        classes,
        tuple(network["patch"]),
        None if spacing is None else tuple(spacing),
        device=device,
    )
