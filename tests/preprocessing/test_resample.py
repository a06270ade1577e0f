"""Resampling of volumes against SimpleITK and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dinorad_rt.errors import DataError
from dinorad_rt.preprocessing.resample import resample
from dinorad_rt.studies.study import Study, Window


def volume(rng, shape=(5, 20, 30), spacing=(4.0, 2.0, 1.0), **changes) -> Study:
    pixels = rng.integers(0, 1000, shape).astype(np.int16)
    place = dict(spacing=spacing, orientation=np.eye(3)[::-1].copy(), origin=(10.0, -20.0, 30.0))
    return Study(pixels, **{**place, **changes})


def test_finer_voxels_are_those_of_simpleitk(rng):
    sitk = pytest.importorskip("SimpleITK")
    study = volume(rng)
    ours = resample(study, (2.0, 1.0, 1.0))
    assert ours.pixels.shape == (10, 40, 30) and ours.spacing == (2.0, 1.0, 1.0)
    image = sitk.GetImageFromArray(study.pixels.astype(np.float32))
    image.SetSpacing(study.spacing[::-1])
    image.SetOrigin(study.origin)
    theirs = sitk.Resample(
        image, ours.pixels.shape[::-1], sitk.Transform(), sitk.sitkLinear, ours.origin,
        ours.spacing[::-1], image.GetDirection(), -1.0, sitk.sitkFloat32,
    )  # fmt: skip
    theirs = sitk.GetArrayFromImage(theirs)
    inside = slice(1, -1), slice(1, -1), slice(1, -1)  # beyond the border they differ by rule
    np.testing.assert_allclose(ours.pixels[inside], theirs[inside], atol=1e-2)


def test_coarser_slices_are_antialiased_as_torch_does(rng):
    study = volume(rng, (1, 64, 48), (float("nan"), 0.5, 0.5))
    ours = resample(study, (9.0, 1.25, 1.0))
    tensor = torch.from_numpy(study.pixels.astype(np.float32))[None]
    theirs = F.interpolate(tensor, size=(26, 24), mode="bilinear", antialias=True)[0].numpy()
    np.testing.assert_allclose(ours.pixels, theirs, atol=1e-2)
    assert ours.spacing[1:] == pytest.approx((64 * 0.5 / 26, 1.0)) and np.isnan(ours.spacing[0])


def test_the_field_of_view_stays(rng):
    study = volume(rng, (7, 33, 21))
    for spacing in ((3.0, 3.0, 3.0), (1.0, 0.7, 0.7)):
        ours = resample(study, spacing)
        old, new = study.affine(), ours.affine()
        for corner in np.ndindex(2, 2, 2):
            at = [
                side * (n - 1) + side - 0.5
                for side, n in zip(corner, study.pixels.shape, strict=True)
            ]
            now = [
                side * (n - 1) + side - 0.5
                for side, n in zip(corner, ours.pixels.shape, strict=True)
            ]
            np.testing.assert_allclose(old @ [*at, 1], new @ [*now, 1], atol=1e-9)


def test_labels_stay_labels(rng):
    study = volume(rng)
    ours = resample(study, (8.0, 0.5, 3.0), labels=True)
    assert ours.pixels.dtype == np.int16 and set(np.unique(ours.pixels)) <= set(
        np.unique(study.pixels)
    )
    finer = resample(study, (2.0, 1.0, 0.5), labels=True)
    assert np.array_equal(finer.pixels, study.pixels.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_padding_is_not_blended_and_windows_go_along(rng):
    windows = tuple((Window(index, 10),) for index in range(5))
    study = volume(rng, padding=(-2000.0, -2000.0), slice_windows=windows, windows=windows[0])
    study.pixels[:, :, :5] = -2000
    ours = resample(study, (2.0, 1.0, 1.0))
    assert ours.pixels.min() >= 0 and ours.padding is None
    assert ours.slice(7).windows == windows[3]


@pytest.mark.parametrize(
    ("changes", "spacing"),
    [
        (dict(spacing=None), (1.0, 1.0, 1.0)),
        (dict(spacing=(float("nan"), 1.0, 1.0)), (1.0, 1.0, 1.0)),
        ({}, (1.0, 0.0, 1.0)),
    ],
)
def test_what_cannot_be_resampled_is_told(rng, changes, spacing):
    with pytest.raises(DataError, match="Resampling"):
        resample(volume(rng, **changes), spacing)
