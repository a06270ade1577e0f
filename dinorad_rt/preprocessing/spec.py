"""`PreprocessSpec`: every choice between a stored pixel and the network's input, as one value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dinorad_rt.files import sha256_json

Intensity = Literal["auto", "window", "percentile", "minmax", "range"]
"""How values become grey in [0, 1]:
auto        the sound default by units: HU → window (the file's first, else the preset of the
            modality); display → full range of the stored type; stored → the file's window or VOI
            LUT if it has one, else percentiles.
window      `window` in the units of the pixels (HU for CT).
percentile  clip to `percentiles` of the slice, then scale to [0, 1].
minmax      the image's own minimum and maximum, after resizing (the study's `RescaleImage`).
range       the full range of the stored type (8 bit: 0 to 255).
"""

Resize = Literal["squash", "shortest", "pad"]
"""squash: both sides to the size, aspect not kept. shortest: shorter side to `resize_to`, then a
central crop of `image_size`. pad: longer side to the size, the rest filled with 0."""


@dataclass(frozen=True)
class PreprocessSpec:
    """What `Preprocessor` does, in this order: grey in [0, 1] → resize → crop → normalise.

    Attributes:
        preset: name of the preset this came from (`dinorad`, `model`, `study`).
        image_size: side of the network's input in pixels.
        resize: how the aspect is treated.
        resize_to: side before the central crop; equals `image_size` for no crop.
        interpolation: bicubic (a = -0.5, as PIL and torch's antialiased one) or bilinear.
        antialias: widen the filter when shrinking.
        intensity: see `Intensity`.
        window: (centre, width) for intensity `window`, or a preset's name resolved to it.
        percentiles: (low, high) in percent for intensity `percentile`.
        channels: grey stacked three times, or RGB kept for colour images.
        mean, std: normalisation of the backbone, per channel.
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    preset: str = "dinorad"
    resize: Resize = "squash"
    resize_to: int | None = None
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    antialias: bool = True
    intensity: Intensity = "auto"
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    channels: Literal["grey", "rgb"] = "grey"

    def as_dict(self) -> dict[str, Any]:
        """The spec as plain values, for provenance."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 over every field: part of the key of stored embeddings."""
        return sha256_json(self.as_dict())
