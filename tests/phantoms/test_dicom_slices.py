"""CT and MR series, read by SimpleITK: geometry, HU, and masks that lie on their organs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from scipy import ndimage

from dinorad_rt.phantoms.ct import FINDING
from dinorad_rt.phantoms.dicom_slices import CT_PADDING, write_mr
from dinorad_rt.phantoms.mr import acquire
from dinorad_rt.phantoms.plan import Patient
from dinorad_rt.phantoms.tags import StudyFacts

Rows = list[dict[str, str]]

CROSS = ndimage.generate_binary_structure(2, 1)[None]
"""Neighbours within a slice."""

HU_OF: dict[str, dict[str, tuple[float, float]]] = {
    "head": {"brain": (20, 50), "ventricles": (-5, 25), "bleed": (45, 85)},
    "chest": {"lungs": (-900, -700), "heart": (40, 190), "aorta": (70, 220), "lung mass": (0, 90)},
    "abdomen": {"liver": (60, 130), "spleen": (60, 130), "kidneys": (45, 180), "spine": (80, 450)},
}
"""Region → organ → range of its mean, HU."""


def series(folder: Path) -> SimpleITK.Image:
    """The only series of a folder as SimpleITK sorts and reads it."""
    reader = SimpleITK.ImageSeriesReader()
    (uid,) = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    image: SimpleITK.Image = reader.Execute()
    return image


def test_ct_masks_lie_on_their_organs(phantoms: Path, rows_of: Callable[[str], Rows]) -> None:
    names = json.loads((phantoms / "masks.json").read_text())["ct"]
    seen = set()
    for row in rows_of("ct/labels.csv"):
        image = series(phantoms / "ct" / row["image"])
        mask = SimpleITK.ReadImage(str(phantoms / "ct" / row["mask"]))
        assert image.GetSize() == mask.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), mask.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(image.GetSpacing(), mask.GetSpacing(), rtol=1e-5)
        np.testing.assert_allclose(image.GetDirection(), mask.GetDirection(), atol=1e-6)
        hu, labels = SimpleITK.GetArrayFromImage(image), SimpleITK.GetArrayFromImage(mask)
        for value, organ in names[row["region"]].items():
            low, high = HU_OF[row["region"]].get(organ, (-1000, 1000))
            where = labels == int(value)
            core = ndimage.binary_erosion(where, CROSS)  # the rim of an organ is half of it
            if where.sum() > 10:
                seen.add(organ)
            if core.sum() > 10:
                assert low <= hu[core].mean() <= high, (row["region"], organ)
        assert (labels == FINDING).any() == (row["class"] != "normal")
    assert {"brain", "bleed", "lungs", "heart", "liver", "kidneys", "spine"} <= seen


def test_air_surrounds_the_patient_and_padding_the_field(
    phantoms: Path, rows_of: Callable[[str], Rows]
) -> None:
    padded = set()
    for row in rows_of("ct/slices.csv"):
        file = pydicom.dcmread(phantoms / "ct" / row["image"])
        stored = file.pixel_array.astype(int)
        side = stored.shape[0]
        if "PixelPaddingValue" in file:
            assert file.PixelPaddingValue == CT_PADDING == stored[0, 0]
            stored[stored == CT_PADDING] = 24
        padded.add("PixelPaddingValue" in file)
        hu = stored * file.RescaleSlope + file.RescaleIntercept
        assert hu.min() >= -1024 and hu.max() <= 3071
        assert np.median(hu[side // 2 - 2 : side // 2 + 2, 0]) < -850
    assert padded == {True, False}


def test_slices_of_half_the_scanners_count_downwards(
    phantoms: Path, rows_of: Callable[[str], Rows]
) -> None:
    ups = set()
    for row in rows_of("ct/labels.csv"):
        files = [
            pydicom.dcmread(path) for path in sorted((phantoms / "ct" / row["image"]).iterdir())
        ]
        assert [file.InstanceNumber for file in files] == list(range(1, len(files) + 1))
        heights = [float(file.ImagePositionPatient[2]) for file in files]
        ups.add(heights == sorted(heights))
        assert len({file.SOPInstanceUID for file in files}) == len(files)
        assert len({file.SeriesInstanceUID for file in files}) == 1
    assert ups == {True, False}


def test_mr_geometry_is_what_simpleitk_reads(tmp_path: Path) -> None:
    patient = Patient(3, True, 1950, "train", ((),), None, (True,))
    volume = acquire(True, 64, 5, (3, 1), 0)
    write_mr(tmp_path, volume, StudyFacts(patient, 1, 0))
    image = series(tmp_path)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.stored)
    np.testing.assert_allclose(image.GetOrigin(), volume.origin, atol=1e-6)
    np.testing.assert_allclose(image.GetSpacing(), volume.spacing[::-1], rtol=1e-4)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), volume.axes.T, atol=1e-5)
    assert np.linalg.det(volume.axes) == pytest.approx(1.0)


def test_a_tumour_stands_out_and_lies_within_the_brain() -> None:
    for number in range(6):
        sick, well = (acquire(tumour, 64, 6, (number, 1), 0) for tumour in (True, False))
        spot = sick.mask == 4
        assert spot.any() and not (well.mask >= 3).any()
        assert set(np.unique(well.mask[spot])) <= {1, 2}
        change = np.abs(sick.stored.astype(float) - well.stored)[spot].mean()
        assert change > 0.03 * np.percentile(well.stored, 99)
