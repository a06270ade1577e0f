"""Augmentation of preprocessed images in [0, 1], by torchvision. Imported late: torch.

It comes before normalisation, so that what a rotation or shift uncovers is black and not the mean.
Left and right are only swapped if asked for: in a chest radiograph the heart's side is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from dinorad_rt.errors import unknown_name

Augmentation = Literal["none", "light", "strong", "study"]
AUGMENTATIONS: tuple[Augmentation, ...] = ("none", "light", "strong", "study")
Augment = Callable[[torch.Tensor], torch.Tensor]


def augmentation(name: Augmentation, size: int, *, flip: bool = False) -> Augment | None:
    """The augmentation of a name; None if it changes nothing.

    Args:
        name: light: crop to 80 % or more, 10°, 5 % shift, brightness and contrast by 15 %.
            strong: crop to 50 % or more, 20°, 10 % shift, 30 %, blur, parts erased. study: crop to
            75 % or more, swap left and right, each image's own minimum and maximum to 0 and 1.
        size: side of the images.
        flip: swap left and right with probability 0.5 (the study always does).

    Returns:
        A function of (channels, size, size) float32 in [0, 1] that draws from torch's generator.

    Raises:
        UnknownNameError: no such augmentation.
    """
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS, "dinorad-rt train --help")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's own deprecations on import
        from torchvision.transforms import v2

    bicubic = v2.InterpolationMode.BICUBIC
    mirror = [v2.RandomHorizontalFlip(0.5)] if flip or name == "study" else []
    if name == "none" and not mirror:
        return None
    whole: Augment
    if name == "none":
        whole = v2.Compose(mirror)
        return whole
    if name == "study":
        crop = v2.RandomResizedCrop(size, scale=(0.75, 1.0), interpolation=bicubic, antialias=False)
        whole = v2.Compose([crop, *mirror, minmax])
        return whole
    light = name == "light"
    parts = [
        v2.RandomResizedCrop(
            size,
            scale=(0.8 if light else 0.5, 1.0),
            ratio=(0.9, 1.1),
            interpolation=bicubic,
            antialias=True,
        ),
        *mirror,
        v2.RandomAffine(
            degrees=10 if light else 20,
            translate=(0.05, 0.05) if light else (0.1, 0.1),
            interpolation=v2.InterpolationMode.BILINEAR,
            fill=0.0,
        ),
        v2.Lambda(lambda image: jitter(image, 0.15 if light else 0.3)),
    ]
    if not light:
        parts += [v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))], 0.3), v2.RandomErasing(0.25)]
    whole = v2.Compose([*parts, v2.Lambda(lambda image: image.clamp(0.0, 1.0))])
    return whole


def jitter(image: torch.Tensor, amount: float) -> torch.Tensor:
    """Brightness and contrast, about the image's own mean; any number of channels."""
    shift, gain = (torch.rand(2) * 2 - 1) * amount
    mean = image.mean()
    changed: torch.Tensor = (image - mean) * (1 + gain) + mean + shift * mean
    return changed


def minmax(image: torch.Tensor) -> torch.Tensor:
    """Each channel's minimum and maximum to 0 and 1; a constant channel to 0."""
    low, high = image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)
    return torch.where(high - low > 1e-6, (image - low) / (high - low).clamp(min=1e-6), 0.0)
