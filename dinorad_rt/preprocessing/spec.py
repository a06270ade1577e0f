"""`PreprocessSpec`: every choice between a stored pixel and the network's input, as one value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dinorad_rt.files import sha256_json

Intensity = Literal["auto", "window", "percentile", "minmax", "range"]
"""How values become grey in [0, 1]:
auto        the sound default by units: HU → `window` or `windows`, else the file's window, else
            `presets.WINDOWS["CT"]`; SUV → 0 to 10; MR → percentiles (the windows of its files are
            often those of another slice, scan or software); other stored values → the file's VOI
            LUT or window, else percentiles; display → full range for 8 bits, percentiles for wider
            types (16-bit PNGs often hold 12 bits).
window      `window` or `windows` in the units of the pixels (HU for CT), edges exact.
percentile  clip to `percentiles` of the slice, then scale to [0, 1].
minmax      the image's own minimum and maximum after resizing (the study's `RescaleImage`), after
            the `clip` that the study's loader makes.
range       the full range of the stored type (8 bit: 0 to 255).
"""

Clip = Literal["units", "none", "window", "upper", "percentile", "percentile-zero"]
"""What the study's loaders do to stored values before the resize (PROTOCOLS.md 1.2):
units            by the file: HU as `window`, MR as `percentile`, the rest as `none`.
none             nothing (NIH, CheXpert, Montgomery, Shenzhen, SARS-CoV-2).
window           both edges of `window` (AMOS, BTCV slices).
upper            the upper edge of `window` only (BTCV volumes).
percentile       to `percentiles` of the slice (the three sets of MSD, the CT one included).
percentile-zero  to the upper one; values up to the lower one become 0 (brain tumour). Meant for
                 values that are not negative.
"""

Resize = Literal["squash", "shortest", "pad", "spacing"]
"""squash: both sides to `resize_to`, aspect not kept. shortest: shorter side to `resize_to`. Both
then take a central crop of `image_size`. pad: longer side to `image_size`, the rest filled with
grey 0. spacing: pixels of `spacing` mm, then a central crop or grey 0 around, so that every image
shows the same field of view."""

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class PreprocessSpec:
    """What `Preprocessor` does, in this order: body crop → grey in [0, 1] → resize → central crop →
    normalise.

    Attributes:
        preset: name of the preset this came from (`dinorad`, `model`, `study`).
        image_size: side of the network's input in pixels.
        resize: how the aspect is treated.
        resize_to: side before the central crop; None or `image_size` for no crop.
        interpolation: bicubic or bilinear.
        antialias: widen the filter when shrinking (bicubic with a = -0.5), as PIL and torch's
            antialiased resize do; False is torch's plain one (bicubic with a = -0.75).
        intensity: see `Intensity`.
        window: (centre, width); see `presets.WINDOWS` for named ones.
        windows: three of them instead, one for each channel of a grey image.
        clip: see `Clip`; for intensity `minmax`.
        percentiles: (low, high) in percent for intensity `percentile`.
        crop: `body` cuts each slice to the largest bright object before the resize.
        spacing: mm per pixel for resize `spacing`.
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
    windows: tuple[tuple[float, float], ...] = ()
    clip: Clip = "units"
    percentiles: tuple[float, float] = (0.5, 99.5)
    channels: Literal["grey", "rgb"] = "grey"
    crop: Literal["none", "body"] = "none"
    spacing: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The spec as plain values, for provenance."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 over every field: part of the key of stored embeddings."""
        return sha256_json(self.as_dict())
