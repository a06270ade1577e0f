"""Runs of 3-D networks with random weights, without training."""

from __future__ import annotations

import torch

from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.checkpoint import TunedModel
from dinorad_rt.training.segmentation.baselines import build_network

PATCH = (16, 16, 32)
CLASSES = ["background", "front", "back"]


def untrained(name: str, width: int, patch: tuple[int, int, int] = PATCH) -> TunedModel:
    """A run of a 3-D network, with random weights."""
    torch.manual_seed(0)
    module = build_network(name, classes=3, width=width).eval().requires_grad_(False)
    network = {"name": name, "dims": 3, "width": width, "patch": list(patch), "spacing": None}
    data = {"name": "none", "class_names": CLASSES, "task": "segmentation"}
    spec = PreprocessSpec(224, (0, 0, 0), (1, 1, 1))
    facts = {"model": network, "data": data}
    return TunedModel("segmenter", module, None, facts, spec, f"{name} {width} {patch}")
