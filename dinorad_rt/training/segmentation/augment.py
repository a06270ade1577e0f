"""Augmentation by torchvision (slices) and MONAI (volumes): image and mask always move together.

    none      nothing
    study     the study's, as coded (PROTOCOLS.md 1.3): vertical flips of probability 1/4, twice,
              and a rotation by up to 90 degrees with nearest pixels
    light     flips, small rotations, shifts and scalings, and changes of brightness, contrast,
              noise and blur of the image alone

Masks are resampled by nearest neighbours, images linearly. What is drawn depends on the seed that
is given and on nothing else. Imported late: torch, torchvision or MONAI.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from dinorad_rt.errors import ProtocolError, unknown_name
from dinorad_rt.optional import require
from dinorad_rt.training.segmentation.names import AUGMENTATIONS

Pair = tuple[torch.Tensor, torch.Tensor]
Augment = Callable[[Pair, int], Pair]
"""((channels, *size) image in [0, 1], (*size) mask), seed → the same shapes."""

_SIDED = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])", re.IGNORECASE)


def may_mirror(class_names: Sequence[str], flip: bool | None = None) -> bool:
    """Whether left and right may be swapped: as asked for, else unless a class is called so."""
    if flip is not None:
        return flip
    return not any(_SIDED.search(name.replace("_", " ")) for name in class_names)


def check_augmentation(name: str) -> None:
    """Raises: UnknownNameError."""
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS, "dinorad-rt train --help")


def slice_augmentation(name: str, *, mirror: bool) -> Augment:
    """Augmentation of slices: image (channels, height, width), mask (height, width).

    Args:
        name: as above.
        mirror: whether `light` may swap left and right.

    Raises:
        UnknownNameError: no such augmentation.
    """
    check_augmentation(name)
    if name == "none":
        return lambda pair, _: pair
    from torchvision import tv_tensors

    steps = _study_steps() if name == "study" else _slice_steps(mirror=mirror)

    def augment(pair: Pair, seed: int) -> Pair:
        image, mask = tv_tensors.Image(pair[0]), tv_tensors.Mask(pair[1][None])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            image, mask = steps(image, mask)
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)[0]

    return augment


def _study_steps() -> Any:
    from torchvision.transforms import v2

    nearest = v2.InterpolationMode.NEAREST
    return v2.Compose(
        [
            v2.RandomVerticalFlip(0.25),
            v2.RandomVerticalFlip(0.25),
            v2.RandomRotation(90, interpolation=nearest),
        ]
    )


def _slice_steps(*, mirror: bool) -> Any:
    from torchvision.transforms import v2

    affine = v2.RandomAffine(
        degrees=15,
        translate=(0.08, 0.08),
        scale=(0.85, 1.15),
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    steps = [
        v2.RandomApply([affine], 0.8),
        v2.RandomApply([v2.ColorJitter(brightness=0.2, contrast=0.2)], 0.5),
        v2.RandomApply([v2.GaussianBlur(3, sigma=(0.3, 1.0))], 0.15),
        v2.RandomApply([v2.GaussianNoise(sigma=0.02, clip=True)], 0.15),
    ]
    return v2.Compose([v2.RandomHorizontalFlip(0.5), *steps] if mirror else steps)


def patch_augmentation(
    name: str, patch: Sequence[int], *, mirror: bool, left_right: int | None
) -> Augment:
    """A random patch of a volume, augmented: image (1, slices, height, width), mask (slices, ...).

    Every second patch is centred on foreground; smaller volumes are padded with zeros.

    Args:
        name: none or light; the study augmented no volumes.
        patch: (slices, height, width) of the result.
        mirror: whether left and right may be swapped.
        left_right: spatial axis from left to right, 0 to 2, or None if unknown.

    Raises:
        UnknownNameError: no such augmentation.
        ProtocolError: `study`.
        MissingPackageError: MONAI is not installed.
    """
    check_augmentation(name)
    if name == "study":
        raise ProtocolError(
            "The study augmented slices; it has no augmentation of volumes.",
            "Use --augment light or none, or a 2-D network: --model unet",
        )
    transforms = require("monai.transforms", "augmenting volumes")
    steps = _crop_steps(transforms, patch)
    if name == "light":
        steps += _volume_steps(transforms, -1 if mirror else left_right)
    compose = transforms.Compose(steps)

    def augment(pair: Pair, seed: int) -> Pair:
        compose.set_random_state(seed=seed % 2**32)
        found = compose({"image": pair[0], "mask": pair[1][None]})
        found = found[0] if isinstance(found, list) else found
        image, mask = (torch.as_tensor(found[key]) for key in ("image", "mask"))
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)[0]

    return augment


_KEYS = ("image", "mask")


def _crop_steps(transforms: Any, patch: Sequence[int]) -> list[Any]:
    return [
        transforms.SpatialPadd(_KEYS, spatial_size=patch, mode="constant"),
        transforms.RandCropByPosNegLabeld(
            _KEYS, label_key="mask", spatial_size=patch, pos=1, neg=1, num_samples=1
        ),
    ]


def _volume_steps(transforms: Any, fixed: int | None) -> list[Any]:
    """Flips along all axes but the fixed one (None: along none), affine, intensity."""
    axes = [] if fixed is None else [axis for axis in range(3) if axis != fixed]
    return [
        *(transforms.RandFlipd(_KEYS, prob=0.5, spatial_axis=axis) for axis in axes),
        transforms.RandAffined(
            _KEYS,
            prob=0.5,
            rotate_range=(0.26, 0.26, 0.26),
            scale_range=(0.15, 0.15, 0.15),
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        transforms.RandScaleIntensityd("image", factors=0.2, prob=0.5),
        transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
        transforms.RandGaussianNoised("image", prob=0.15, std=0.03),
    ]
