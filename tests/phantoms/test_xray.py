"""Chest X-rays as a reader sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_voi_lut
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from dinorad_rt.phantoms import write_phantoms
from dinorad_rt.phantoms.chest import chest_of
from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.xray import XRAY_MASK, expose
from dinorad_rt.phantoms.xray_findings import XRAY_KINDS, finding_of

Rows = list[dict[str, str]]


def shown(file: pydicom.FileDataset) -> np.ndarray:
    """Grey as a viewer shows it, 0 to 1, bone bright."""
    grey = apply_voi_lut(file.pixel_array, file).astype(float)
    grey = (grey - grey.min()) / np.ptp(grey)
    return 1.0 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey


def test_lungs_are_dark_and_the_heart_bright_in_both_photometries(
    phantoms: Path, rows_of: Callable[[str], Rows]
) -> None:
    photometries = set()
    for row in rows_of("labels.csv"):
        file = pydicom.dcmread(phantoms / row["image"])
        grey, mask = shown(file), np.asarray(Image.open(phantoms / row["mask"]))
        assert mask.shape == grey.shape and set(np.unique(mask)) <= {0, *XRAY_MASK}
        assert grey[mask == 3].mean() - grey[np.isin(mask, (1, 2))].mean() > 0.15
        assert file.BitsStored == 12 and file.pixel_array.max() < 4096
        photometries.add(file.PhotometricInterpretation)
    assert photometries == {"MONOCHROME1", "MONOCHROME2"}


def test_the_patients_left_is_on_the_right_of_the_image(
    phantoms: Path, rows_of: Callable[[str], Rows]
) -> None:
    for row in rows_of("labels.csv"):
        file = pydicom.dcmread(phantoms / row["image"])
        assert list(file.PatientOrientation) == ["L", "F"]
        mask = np.asarray(Image.open(phantoms / row["mask"]))
        columns = [np.nonzero(mask == value)[1].mean() for value in (1, 3)]
        assert columns[0] < columns[1], "right lung, heart"


def test_findings_are_masked_exactly_where_they_are_labelled(
    phantoms: Path, rows_of: Callable[[str], Rows]
) -> None:
    for row in rows_of("xray/labels.csv"):
        mask = np.asarray(Image.open(phantoms / "xray" / row["mask"]))
        for value in (4, 5, 6):
            if row[XRAY_MASK[value]] == "0":
                assert not (mask == value).any()
        ill = any(row[XRAY_MASK[value]] == "1" for value in (4, 5, 6))
        assert (mask >= 4).any() == ill


def test_findings_brighten_the_lung_that_they_lie_in() -> None:
    for number in range(1, 9):
        chest = chest_of(Draws(0, "patient", number), female=number % 2 == 0)
        for kind in XRAY_KINDS:
            finding = finding_of(kind, chest, Draws(0, "finding", number, kind))
            ill = expose(chest, [finding], 96, (number, 1), 0)
            well = expose(chest, [], 96, (number, 1), 0)
            where = ill.mask == 4 + XRAY_KINDS.index(kind)
            change = ill.stored.astype(float) - well.stored
            change *= -1.0 if ill.inverted else 1.0
            elsewhere = np.isin(ill.mask, (0, 1, 2, 3))
            assert where.sum() > 5
            assert change[where].mean() > change[elsewhere].mean() + 10, (number, kind)


def test_neighbours_of_small_pictures_find_something_but_not_everything(tmp_path: Path) -> None:
    from dinorad_rt.datasets.open import open_dataset

    dataset = open_dataset(write_phantoms(tmp_path / "set", patients=60, image_size=64))
    pictures = []
    for sample in dataset.samples:
        grey = shown(pydicom.dcmread(sample.path))
        pictures.append(grey.reshape(16, 4, 16, 4).mean((1, 3)).ravel())
    features, labels = np.asarray(pictures), dataset.labels_array()
    test = np.asarray([sample.split == "test" for sample in dataset.samples])
    model = KNeighborsClassifier(10, weights="distance").fit(features[~test], labels[~test])
    area = roc_auc_score(labels[test], model.predict_proba(features[test])[:, 1])
    assert 0.65 < area < 0.99
