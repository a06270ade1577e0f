"""Pictures: PCA as scikit-learn's, and no image that its header forbids to show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.errors import DataError
from dinorad_rt.phantoms import write_phantoms
from dinorad_rt.preprocessing.presets import preset
from dinorad_rt.reports import alike, gallery
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.run_names import labelled
from dinorad_rt.reports.runs import grouped
from tests.reports.fake_runs import fake_results


def test_the_maps_are_the_principal_components() -> None:
    tokens = np.random.default_rng(0).normal(size=(3, 16, 10)) * np.arange(1, 11)
    maps = alike.pca_maps(tokens)
    assert maps.shape == (3, 4, 4, 3) and maps.min() == 0 and maps.max() == 1
    theirs = PCA(3).fit_transform(tokens.reshape(48, 10))
    for component in range(3):
        ours, other = maps[..., component].ravel(), theirs[:, component]
        inside = (ours > 0) & (ours < 1)
        assert abs(np.corrcoef(ours[inside], other[inside])[0, 1]) > 1 - 1e-9
    np.testing.assert_array_equal(maps, alike.pca_maps(tokens))


def test_a_picture_is_a_small_png() -> None:
    content = alike.png_of(np.full((224, 224, 3), 0.5))
    image = Image.open(io.BytesIO(content))
    assert image.size == (alike.SIDE, alike.SIDE) and image.getpixel((5, 5)) == (128,) * 3


@pytest.fixture(scope="module")
def xray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One phantom X-ray as DICOM."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, patients=4, image_size=64)
    return sorted((folder / "xray").rglob("*.dcm"))[0]


def dataset_of(path: Path) -> Dataset:
    samples = (Sample("s0", path, "p0", "test", (1,)),)
    return Dataset("ours", "binary", ("normal", "nodule"), samples, "f", "s")


@pytest.mark.parametrize(
    ("flag", "asked", "shown"), [("NO", False, 1), ("YES", False, 0), ("YES", True, 1)]
)
def test_burned_in_annotations_stay_hidden_unless_asked_for(
    xray: Path, tmp_path: Path, flag: str, asked: bool, shown: int
) -> None:
    header: Any = pydicom.dcmread(xray)
    header.BurnedInAnnotation = flag
    header.save_as(tmp_path / "x.dcm")
    dataset = dataset_of(tmp_path / "x.dcm")
    request = gallery.GalleryRequest(dataset, burned_in=asked)
    spec = preset("dinorad", get_spec("vits14"), 56)
    viewer = alike._Shown({"s0": dataset.samples[0]}, spec, request)
    pixels = viewer.pixels("s0", 0)
    assert (pixels is not None) == bool(shown)
    assert viewer.words("s0") == "nodule"


def test_another_dataset_has_no_pictures(xray: Path) -> None:
    runs = labelled([fake_results()])
    with pytest.raises(DataError, match="No run of this report"):
        gallery.gallery_for(Material(runs, grouped(runs)), gallery.GalleryRequest(dataset_of(xray)))
