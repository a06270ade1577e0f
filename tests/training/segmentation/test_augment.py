"""Image and mask move together, draws follow the seed, and sides stay where labels need them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dinorad_rt.errors import ProtocolError, UnknownNameError
from dinorad_rt.training.segmentation.augment import (
    may_mirror,
    patch_augmentation,
    slice_augmentation,
)


def lopsided(*shape: int) -> torch.Tensor:
    """A mask that no flip or rotation leaves as it is."""
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[..., shape[-2] // 5 : shape[-2] // 2, shape[-1] // 3 : shape[-1] // 2] = 1
    mask[..., shape[-2] // 5 : shape[-2] // 3, shape[-1] // 3 : -shape[-1] // 5] = 1
    return mask


@pytest.mark.parametrize("name", ["light", "study"])
def test_slices_and_masks_move_together(name: str) -> None:
    mask = lopsided(64, 64)
    augment = slice_augmentation(name, mirror=True)
    moved = 0
    for seed in range(20):
        image, labels = augment((0.1 + 0.8 * mask[None].float(), mask), seed)
        assert image.shape == (1, 64, 64) and labels.dtype == torch.uint8
        bright = image[0] > 0.5 * image.max()
        assert (bright == labels.bool()).float().mean() > 0.97
        moved += not torch.equal(labels, mask)
    assert moved >= 8


def test_draws_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    pair = torch.rand(1, 32, 32), lopsided(32, 32)
    augment = slice_augmentation("light", mirror=True)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (augment(pair, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_study_as_coded_never_mirrors_left_and_right() -> None:
    """Both of its flips are vertical: without its rotation nothing changes columns."""
    from torchvision.transforms import v2

    from dinorad_rt.training.segmentation.augment import _study_steps

    flips = [step for step in _study_steps().transforms if "Flip" in type(step).__name__]
    assert [type(flip) for flip in flips] == [v2.RandomVerticalFlip] * 2
    assert [flip.p for flip in flips] == [0.25, 0.25]


def test_mirroring_is_left_out_where_a_class_has_a_side() -> None:
    assert may_mirror(("background", "liver", "bright spot"))
    assert not may_mirror(("background", "left lung", "right_lung"))
    assert not may_mirror(("background", "kidney_l"))
    assert may_mirror(("background", "left lung"), flip=True)
    assert not may_mirror(("background", "liver"), flip=False)
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[:, 20:] = 1
    augment = slice_augmentation("light", mirror=False)
    for seed in range(12):
        moved = augment((mask[None].float(), mask), seed)[1]
        assert moved[:, 16:].sum() > moved[:, :16].sum()


def test_patches_and_masks_move_together() -> None:
    mask = lopsided(20, 40, 40)
    augment = patch_augmentation("light", (16, 32, 32), mirror=True, left_right=None)
    foreground = 0
    for seed in range(8):
        image, labels = augment((0.8 * mask[None].float(), mask), seed)
        assert image.shape == (1, 16, 32, 32) and labels.shape == (16, 32, 32)
        foreground += bool(labels.any())
        bright = image[0] > 0.5 * max(float(image.max()), 0.5)
        assert (bright == labels.bool()).float().mean() > 0.94
    assert foreground >= 6
    same = [augment((mask[None].float(), mask), 3)[0] for _ in range(2)]
    assert torch.equal(*same)


def test_small_volumes_are_padded_and_sides_kept() -> None:
    mask = torch.zeros(8, 16, 32, dtype=torch.uint8)
    mask[:, :, 20:28] = 1
    augment = patch_augmentation("light", (16, 16, 32), mirror=False, left_right=2)
    for seed in range(6):
        image, labels = augment((mask[None].float(), mask), seed)
        assert image.shape == (1, 16, 16, 32)
        assert labels[..., 16:].sum() > labels[..., :16].sum()


def test_none_changes_nothing() -> None:
    pair = torch.rand(1, 8, 8), lopsided(8, 8)
    assert slice_augmentation("none", mirror=True)(pair, 3) is pair


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="augmentation 'ligth'.*light"):
        slice_augmentation("ligth", mirror=True)
    with pytest.raises(ProtocolError, match="no augmentation of volumes"):
        patch_augmentation("study", (16, 16, 16), mirror=True, left_right=None)


def test_masks_stay_labels() -> None:
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (48, 48)).astype(np.uint8) * 7)
    for name in ("light", "study"):
        for seed in range(5):
            moved = slice_augmentation(name, mirror=True)((torch.rand(1, 48, 48), mask), seed)[1]
            assert set(moved.unique().tolist()) <= {0, 7, 14}
