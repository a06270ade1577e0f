"""Named choices: preprocessing presets and CT windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dinorad_rt.errors import unknown_name
from dinorad_rt.preprocessing.spec import PreprocessSpec

if TYPE_CHECKING:
    from dinorad_rt.backbones.spec import BackboneSpec

WINDOWS: dict[str, tuple[float, float]] = {
    "CT": (40.0, 400.0),
    "soft-tissue": (40.0, 400.0),
    "abdomen": (60.0, 400.0),
    "angio": (300.0, 600.0),
    "bone": (480.0, 2500.0),
    "brain": (40.0, 80.0),
    "liver": (70.0, 150.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "stroke": (40.0, 40.0),
    "subdural": (75.0, 215.0),
    "study": (-212.0, 1624.0),
}
"""Name → (centre, width) in HU. `CT` serves where a CT file names no window of its own; `study` is
the study's clamp to [-1024, 600]."""

SUV_WINDOW = (5.0, 10.0)
"""(centre, width): SUV from 0 to 10."""

CROP_RATIO = 224 / 256
"""Share of the resized side that the study's kNN transform keeps."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def preset(name: str, backbone_spec: BackboneSpec, image_size: int) -> PreprocessSpec:
    """The preprocessing of a preset for one backbone.

    Args:
        name: `dinorad` (the whole image, window or percentiles by modality), `model` (the
            backbone's own evaluation transform: shorter side, central crop) or `study` (the
            study's kNN transform: ImageNet normalisation for every backbone, min-max, no
            antialias).
        backbone_spec: gives mean and std.
        image_size: side of the network's input in pixels.

    Raises:
        UnknownNameError: no such preset.
    """
    if name not in PRESETS:
        raise unknown_name("preprocessing preset", name, PRESETS, "dinorad-rt eval --help")
    return PRESETS[name](backbone_spec, image_size)


def window_preset(name: str) -> tuple[float, float]:
    """(centre, width) in HU of a named window.

    Raises:
        UnknownNameError: no such window.
    """
    if name not in WINDOWS:
        raise unknown_name("window", name, WINDOWS, "dinorad_rt.preprocessing.presets.WINDOWS")
    return WINDOWS[name]


def _dinorad(backbone: BackboneSpec, image_size: int) -> PreprocessSpec:
    """Whole image, grey, window or percentiles by modality, antialiased."""
    return PreprocessSpec(
        image_size=image_size, mean=backbone.mean, std=backbone.std, preset="dinorad"
    )


def _model(backbone: BackboneSpec, image_size: int) -> PreprocessSpec:
    """The publisher's evaluation transform: shorter side, central crop, colours kept."""
    return PreprocessSpec(
        image_size=image_size,
        mean=backbone.mean,
        std=backbone.std,
        preset="model",
        resize="shortest",
        resize_to=round(image_size / backbone.crop),
        interpolation=backbone.interpolation,
        channels="rgb",
    )


def _study(_: BackboneSpec, image_size: int) -> PreprocessSpec:
    """The study's kNN transform: squashed, central crop, min-max, no antialias, ImageNet's mean."""
    return PreprocessSpec(
        image_size=image_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        preset="study",
        resize="squash",
        resize_to=round(image_size / CROP_RATIO),
        antialias=False,
        intensity="minmax",
        window=WINDOWS["study"],
        percentiles=(5.0, 95.0),
        channels="rgb",
    )


PRESETS: dict[str, Callable[[BackboneSpec, int], PreprocessSpec]] = {
    "dinorad": _dinorad,
    "model": _model,
    "study": _study,
}
