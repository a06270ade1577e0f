"""Folders of DICOM series as images: paired by folder, by identifier, and by what a SEG names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.datasets.prepare import prepare_dataset
from dinorad_rt.errors import MaskError
from dinorad_rt.studies.read import read_study
from tests.datasets.test_dicom_seg import SHAPE, truth, write_seg, write_series

nibabel = pytest.importorskip("nibabel")
COUNT = 5


def write_nifti(path: Path, files: list[object], shift: int) -> np.ndarray:
    """A mask on a series, with the place of its voxels."""
    mask = np.roll(truth(), shift, axis=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    first = files[0]
    affine = np.diag([-0.5, -0.7, 2.5, 1.0])
    x, y, z = (float(value) for value in first.ImagePositionPatient)  # type: ignore[attr-defined]
    affine[:3, 3] = -x, -y, z
    nibabel.save(nibabel.Nifti1Image(mask.transpose(2, 1, 0), affine), path)
    return mask


@pytest.mark.parametrize(
    ("series", "mask"),
    [
        ("case{n}", "case{n}"),
        ("case{n}/2001-01-01/ct", "case{n}_seg"),  # the only series below the folder
        ("case{n}", "{uid}"),
        ("ct{n}", "{study}_mask"),
        ("Case{n}", "case{n}/organs"),
    ],
)
def test_masks_find_their_series(tmp_path: Path, series: str, mask: str) -> None:
    expected = {}
    for n in range(COUNT):
        files = write_series(tmp_path / "images" / series.format(n=n))
        uids = {"uid": files[0].SeriesInstanceUID, "study": files[0].StudyInstanceUID}
        name = f"{mask.format(n=n, **uids)}.nii.gz"
        expected[n] = write_nifti(tmp_path / "masks" / name, files, n)
    dataset = open_dataset(tmp_path)
    assert dataset.task == "segmentation" and len(dataset.samples) == COUNT
    assert len({sample.patient for sample in dataset.samples}) == COUNT
    assert any("paired with DICOM series" in note for note in dataset.notes)
    for sample in dataset.samples:
        number = int(next(c for c in dataset.name_of(sample) if c.isdigit()))
        assert read_study(sample.path).pixels.shape == SHAPE
        assert np.array_equal(read_mask(sample), expected[number])


@pytest.mark.parametrize("apart", [True, False])
def test_a_seg_names_its_series(tmp_path: Path, apart: bool) -> None:
    """As archives keep them: in the tree of the series, or in a folder beside it."""
    tree = tmp_path / "images" if apart else tmp_path
    for n in range(COUNT):
        files = write_series(tree / f"P{n}" / "study" / f"ct-{n}")
        write_series(tree / f"P{n}" / "study" / "scout")
        target = (tmp_path / "masks" if apart else tree / f"P{n}" / "study") / f"x{n % 2}" / f"{n}"
        target.mkdir(parents=True, exist_ok=True)
        write_seg(target / "1-1.dcm", files, np.roll(truth(), n, axis=2), ("liver", "spleen"))
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == COUNT
    assert dataset.class_names == ("background", "liver", "spleen")
    for sample in dataset.samples:
        number = int(sample.path.name.removeprefix("ct-"))
        assert np.array_equal(read_mask(sample), np.roll(truth(), number, axis=2))
    assert any(f"{COUNT} images without a mask" in note for note in dataset.notes)
    counts = prepare_dataset(dataset).classes
    assert counts == {"liver": {"all": COUNT}, "spleen": {"all": COUNT}}


def test_what_is_unclear_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a" / "ct")
    write_series(tmp_path / "b" / "ct")
    (tmp_path / "seg").mkdir()
    write_seg(tmp_path / "seg" / "1.dcm", files, truth(), ("liver", "spleen"))
    write_seg(tmp_path / "seg" / "2.dcm", files, truth(), ("liver", "spleen"))
    with pytest.raises(MaskError, match="1 DICOM series has several masks"):
        open_dataset(tmp_path, task="segmentation")
    (tmp_path / "seg" / "2.dcm").unlink()
    for path in (tmp_path / "b" / "ct").iterdir():
        path.rename(tmp_path / "a" / "ct" / f"b{path.name}")
    with pytest.raises(MaskError, match="1 DICOM series with a mask lies in one folder"):
        open_dataset(tmp_path, task="segmentation")
    (tmp_path / "seg" / "1.dcm").unlink()
    structures = files[0]
    structures.Modality, structures.SOPInstanceUID = "RTSTRUCT", "1.2.3"
    for name in ("Rows", "Columns", "PixelData"):
        delattr(structures, name)
    structures.save_as(tmp_path / "seg" / "rt.dcm", enforce_file_format=True)
    with pytest.raises(MaskError, match="1 DICOM structure set .RTSTRUCT. holds contours"):
        open_dataset(tmp_path, task="segmentation")
