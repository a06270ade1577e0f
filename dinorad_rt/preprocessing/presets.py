"""Named choices: preprocessing presets and CT windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import UnknownNameError, unknown_name
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


STUDY_CLIPS: dict[str, dict[str, Any]] = {
    "NIHChestXray": {"clip": "none"},
    "CheXpert": {"clip": "none"},
    "SARSCoV2CT": {"clip": "none"},
    "BrainTumor": {"clip": "percentile-zero"},
    "MC": {"clip": "none"},
    "Shenzhen": {"clip": "none"},
    "AMOS": {"clip": "window"},
    "MSDHeart": {"clip": "percentile"},
    "MSDHipp": {"clip": "percentile"},
    "MSDSpleen": {"clip": "percentile"},
    "BTCV": {"clip": "upper"},
    "BTCVSlice": {"clip": "window"},
}
"""The study's name of a dataset → what its loader does to stored values (PROTOCOLS.md 1.2)."""

STUDY_NAMES: dict[str, str] = {
    "nih-chestxray14": "NIHChestXray",
    "chexpert": "CheXpert",
    "sars-cov-2-ct": "SARSCoV2CT",
    "brain-tumor": "BrainTumor",
    "montgomery": "MC",
    "shenzhen": "Shenzhen",
    "amos22": "AMOS",
    "msd-heart": "MSDHeart",
    "msd-hippocampus": "MSDHipp",
    "msd-spleen": "MSDSpleen",
    "btcv": "BTCV",
    "btcv-slices": "BTCVSlice",
}
"""Registered dataset → the study's name of it."""


def preset(name: str, backbone_spec: BackboneSpec, image_size: int) -> PreprocessSpec:
    """The preprocessing of a preset for one backbone.

    Args:
        name: `dinorad` (the whole image, window or percentiles by modality), `model` (the
            backbone's own evaluation transform: shorter side, central crop) or `study` (the
            study's kNN transform: ImageNet normalisation for every backbone, min-max, no
            antialias). After a colon, options with commas between:
            one of `WINDOWS`, or three for the three channels (CT in HU; not with `study`);
            `body`, cut to the body; `spacing=MM`, every pixel that large;
            with `study`, a name of `STUDY_CLIPS`, and `uncropped` for the transform of its linear
            probes and segmentation. Such as `dinorad:lung,soft-tissue,bone` or `study:BrainTumor`.
        backbone_spec: gives mean and std.
        image_size: side of the network's input in pixels.

    Raises:
        UnknownNameError: no such preset or option.
    """
    base, _, listed = name.partition(":")
    if base not in PRESETS:
        raise unknown_name("preprocessing preset", base, PRESETS, "dinorad-rt list presets")
    changes: dict[str, Any] = {"preset": name}
    windows: list[tuple[float, float]] = []
    for option in filter(None, listed.split(",")):
        if option in WINDOWS and base != "study":
            windows.append(WINDOWS[option])
        else:
            changes |= _option(option, base)
    if len(windows) not in (0, 1, 3):
        raise UnknownNameError(
            f"Preprocessing {name!r} names {len(windows)} windows; allowed: one, or three for the "
            "three channels.",
            "Such as dinorad:lung,soft-tissue,bone",
        )
    if windows:
        changes |= {"windows": tuple(windows)} if len(windows) == 3 else {"window": windows[0]}
    return replace(PRESETS[base](backbone_spec, image_size), **changes)


def preset_of(name: str, manifest: Mapping[str, Any]) -> PreprocessSpec:
    """The preprocessing of a preset for a graph or an engine, by its manifest.

    Where a file beside the weights states another normalisation, the manifest carries it.

    Raises:
        UnknownNameError: no such preset, option or model.
    """
    from dinorad_rt.backbones.registry import get_spec

    spec, stated = get_spec(str(manifest["model"])), manifest.get("normalisation")
    if stated is not None:
        spec = replace(spec, mean=tuple(stated["mean"]), std=tuple(stated["std"]))
    return preset(name, spec, int(manifest["input_shape"][-1]))


def preset_for_dataset(name: str, dataset: str | None) -> str:
    """The preset with the study's rule for a registered dataset, where that is asked for.

    Args:
        name: as for `preset`.
        dataset: registered name; None for the user's own data.

    Returns:
        `study:BrainTumor` of `study` and brain-tumor; `name` itself if it is another preset, names
        a rule already, or the study has none for the dataset.
    """
    base, _, listed = name.partition(":")
    options = [option for option in listed.split(",") if option]
    if base != "study" or dataset not in STUDY_NAMES or any(o in STUDY_CLIPS for o in options):
        return name
    return ":".join([base, ",".join([STUDY_NAMES[dataset], *options])])


def _option(option: str, base: str) -> dict[str, Any]:
    """What one option of a preset changes in its spec."""
    known = {"body": {"crop": "body"}}
    if base == "study":
        known |= STUDY_CLIPS | {"uncropped": {"resize_to": None}}
    if option in known:
        return known[option]
    value = option.removeprefix("spacing=")
    if value != option and value.replace(".", "", 1).isdigit() and float(value) > 0:
        return {"spacing": float(value), "resize": "spacing", "resize_to": None}
    names = [*known, "spacing=MM", *(WINDOWS if base != "study" else ())]
    raise unknown_name(f"option of preprocessing {base}", option, names, "dinorad-rt list presets")


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
    """The publisher's evaluation transform: resize, central crop, colours kept."""
    return PreprocessSpec(
        image_size=image_size,
        mean=backbone.mean,
        std=backbone.std,
        preset="model",
        resize=backbone.resize,
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


def listed_presets() -> list[tuple[str, str]]:
    """(name, what it does) of every preset and option, for `list presets`."""
    windows = [
        (f"dinorad:{name}", f"CT window, centre {centre:g}, width {width:g} HU")
        for name, (centre, width) in WINDOWS.items()
        if name not in ("CT", "study")
    ]
    return [
        *((name, rule.__doc__ or "") for name, rule in PRESETS.items()),
        *windows,
        ("dinorad:lung,soft-tissue,bone", "Three CT windows, one for each channel."),
        ("dinorad:body", "Each slice cut to the body; any preset."),
        ("dinorad:spacing=1", "Pixels of 1 mm, the same field of view for all; any preset."),
        ("study:uncropped", "The study's transform for linear probes and segmentation."),
        *(
            (f"study:{name}", f"As the study's loader of {name}: clip {change['clip']}.")
            for name, change in STUDY_CLIPS.items()
        ),
    ]
