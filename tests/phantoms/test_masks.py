"""Masks, read back by Pillow, nibabel and SimpleITK."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from PIL import Image

from dinorad_rt.phantoms.masks import write_nifti, write_png

LABELS = np.random.default_rng(0).integers(0, 8, (3, 5, 7)).astype(np.uint8)


def test_png_is_what_pillow_reads(tmp_path: Path) -> None:
    write_png(tmp_path / "mask.png", LABELS[0])
    with Image.open(tmp_path / "mask.png") as image:
        image.load()
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), LABELS[0])


def test_nifti_lies_where_simpleitk_expects_it(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    write_nifti(path, LABELS, (9.0, 1.5, 1.25), (-10.0, 20.0, -30.5))
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), LABELS)
    np.testing.assert_allclose(image.GetSpacing(), (1.25, 1.5, 9.0), rtol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), (-10.0, 20.0, -30.5), rtol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)


def test_nifti_is_what_nibabel_reads(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    write_nifti(path, LABELS, (9.0, 1.5, 1.25), (-10.0, 20.0, -30.5))
    image = nibabel.load(path)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), LABELS)
    np.testing.assert_allclose(image.affine @ (0, 0, 0, 1), (10.0, -20.0, -30.5, 1.0))
