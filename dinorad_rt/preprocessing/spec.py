"""`PreprocessSpec`: every choice between a stored pixel and the network's input, as one value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dinorad_rt.files import sha256_json

Intensity = Literal["auto", "window", "percentile", "minmax", "range"]
"""How values become grey in [0, 1]:
auto        the sound default by units: HU → the file's window, else `presets.WINDOWS["CT"]`;
            SUV → 0 to 10; stored → the file's VOI LUT or window, else percentiles; display → full
            range for 8 bits, percentiles for wider types (16-bit PNGs often hold 12 bits).
window      `window` (centre, width) in the units of the pixels (HU for CT), edges exact.
percentile  clip to `percentiles` of the slice, then scale to [0, 1].
minmax      the image's own minimum and maximum after resizing (the study's `RescaleImage`). Before
            it, the clips that the study's loaders make: HU to `window`, MR to `percentiles`.
range       the full range of the stored type (8 bit: 0 to 255).
"""

Resize = Literal["squash", "shortest", "pad"]
"""squash: both sides to `resize_to`, aspect not kept. shortest: shorter side to `resize_to`. Both
then take a central crop of `image_size`. pad: longer side to `image_size`, the rest filled with
grey 0."""

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class PreprocessSpec:
    """What `Preprocessor` does, in this order: grey in [0, 1] → resize → crop → normalise.

    Attributes:
        preset: name of the preset this came from (`dinorad`, `model`, `study`).
        image_size: side of the network's input in pixels.
        resize: how the aspect is treated.
        resize_to: side before the central crop; None or `image_size` for no crop.
        interpolation: bicubic or bilinear.
        antialias: widen the filter when shrinking (bicubic with a = -0.5), as PIL and torch's
            antialiased resize do; False is torch's plain one (bicubic with a = -0.75).
        intensity: see `Intensity`.
        window: (centre, width) for intensity `window`; see `presets.WINDOWS` for named ones.
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
    interpolation: Interpolation = "bicubic"
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
