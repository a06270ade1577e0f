"""Masks of another kind of file than their image lie on it, in its own axes and as displayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dinorad_rt.datasets.axes import Turn
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.grid import Grid, grid_of
from dinorad_rt.datasets.masks import read_mask, read_mask_study
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import MaskError
from dinorad_rt.studies.read import read_study

WriteTable = Callable[..., Path]
SHAPE = (5, 7, 6)
"""Slices, rows, columns: all different."""
SUPINE, PRONE = (1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0)


def voxels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 100, SHAPE).astype(np.int16)


def write_series(folder: Path, pixels: np.ndarray, axes: tuple[int, ...], patient: str) -> None:
    """Single DICOM slices whose names are in another order than their places."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(axes[:3], axes[3:])
    series, frame = generate_uid(), generate_uid()
    for at, one in enumerate(pixels):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
        data.SOPInstanceUID = generate_uid()
        data.SeriesInstanceUID, data.FrameOfReferenceUID = series, frame
        data.StudyInstanceUID, data.PatientName, data.SeriesNumber = frame, patient, 1
        data.PatientID, data.Modality, data.InstanceNumber = patient, "CT", at + 1
        data.Rows, data.Columns = one.shape
        data.PixelSpacing, data.ImageOrientationPatient = [1.5, 1.0], [float(a) for a in axes]
        data.ImagePositionPatient = [float(x) for x in np.array([-3.0, 4.0, 5.0]) + 2 * at * normal]
        data.SliceThickness, data.SamplesPerPixel = 2.0, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation, data.RescaleSlope, data.RescaleIntercept = 1, 1, 0
        data.PixelData = one.astype("<i2").tobytes()
        data.save_as(folder / f"{len(pixels) - at}.dcm", enforce_file_format=True)


def read_by_itk(folder: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def assert_on_images(dataset: Dataset) -> None:
    for sample in dataset.samples:
        image = read_study(sample.path, frame=sample.frame)
        assert np.array_equal(read_mask(sample) > 0, image.pixels > 50)
        assert np.array_equal(read_mask(sample, displayed=True) > 0, image.displayed().pixels > 50)
        spacing = read_mask_study(sample).spacing
        assert spacing == image.spacing or np.allclose(spacing, image.spacing, equal_nan=True)


@pytest.mark.parametrize("axes", [SUPINE, PRONE])
def test_nifti_on_the_dicom_series_that_it_was_made_from(
    tmp_path: Path, write_table: WriteTable, axes: tuple[int, ...]
) -> None:
    """As ITK-SNAP, 3D Slicer and TotalSegmentator write them: SimpleITK is the witness."""
    for number in range(6):
        folder = tmp_path / f"s{number}"
        write_series(folder, voxels(number), axes, f"P{number}")
        image = read_by_itk(folder)
        mask = sitk.Cast(image > 50, sitk.sitkUInt8)
        sitk.WriteImage(mask, str(tmp_path / f"{number}.nii.gz"))
    table = write_table("image,mask", [(f"s{n}", f"{n}.nii.gz") for n in range(6)])
    assert_on_images(open_dataset(table))


def test_nifti_elsewhere_than_its_dicom_series_is_refused(
    tmp_path: Path, write_table: WriteTable
) -> None:
    for number in range(6):
        folder = tmp_path / f"s{number}"
        write_series(folder, voxels(number), SUPINE, f"P{number}")
        mask = sitk.Cast(read_by_itk(folder) > 50, sitk.sitkUInt8)
        mask.SetOrigin((0.0, 0.0, 0.0))
        sitk.WriteImage(mask, str(tmp_path / f"{number}.nii.gz"))
    table = write_table("image,mask", [(f"s{n}", f"{n}.nii.gz") for n in range(6)])
    with pytest.raises(MaskError, match="corners lie"):
        open_dataset(table)


@pytest.mark.parametrize("axes", [SUPINE, PRONE])
def test_rasters_turn_with_their_dicom_image(
    tmp_path: Path, write_table: WriteTable, axes: tuple[int, ...]
) -> None:
    for number in range(6):
        pixels = voxels(number)[:1]
        write_series(tmp_path / f"s{number}", pixels, axes, f"P{number}")
        Image.fromarray(np.uint8(pixels[0] > 50) * 255).save(tmp_path / f"{number}.png")
    table = write_table("image,mask", [(f"s{n}/1.dcm", f"{n}.png") for n in range(6)])
    assert_on_images(open_dataset(table))


def test_nifti_on_rasters_as_simpleitk_writes_it(tmp_path: Path, write_table: WriteTable) -> None:
    for number in range(6):
        pixels = voxels(number)[0].astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        mask = sitk.Cast(sitk.ReadImage(str(tmp_path / f"{number}.png")) > 50, sitk.sitkUInt8)
        sitk.WriteImage(sitk.JoinSeries(mask), str(tmp_path / f"m{number}.nii.gz"))
    table = write_table("image,mask", [(f"{n}.png", f"m{n}.nii.gz") for n in range(6)])
    dataset = open_dataset(table)
    assert any("only masks are NIfTI" in note for note in dataset.notes)
    assert_on_images(dataset)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR"])
@pytest.mark.parametrize("frames", [False, True])
def test_arrays_on_nifti_as_simpleitk_gives_them(
    tmp_path: Path, write_table: WriteTable, codes: str, frames: bool
) -> None:
    affine = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.axcodes2ornt(codes), SHAPE[::-1]
    )
    for number in range(6):
        path = tmp_path / f"{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels(number).transpose(2, 1, 0), affine), path)
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        np.save(tmp_path / f"{number}.npy", (array > 50).astype(np.uint8))
    each = range(read_study(tmp_path / "0.nii.gz").num_slices) if frames else [""]
    rows = [(f"{n}.nii.gz", f"{n}.npy", f"P{n}", at) for n in range(6) for at in each]
    assert_on_images(open_dataset(write_table("image,mask,patient,frame", rows)))


def test_contrasts_in_one_file_are_told(tmp_path: Path) -> None:
    """As MSD's brain tumours: four volumes per image, one mask."""
    for number in range(6):
        for folder, pixels in (("imagesTr", voxels(number)), ("labelsTr", voxels(number) > 50)):
            (tmp_path / folder).mkdir(exist_ok=True)
            array = pixels.transpose(2, 1, 0).astype(np.int16)
            array = np.stack([array] * 4, -1) if folder == "imagesTr" else array
            image = nibabel.Nifti1Image(array, np.eye(4))
            nibabel.save(image, tmp_path / folder / f"{number}.nii.gz")
    with pytest.raises(MaskError, match="4 volumes .* of 5 × 7 × 6 and one of 5 × 7 × 6 voxels"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("empty", [0, 2])
def test_our_own_dicom_seg_is_read_as_it_was_written(
    tmp_path: Path, write_table: WriteTable, segments: int, empty: int
) -> None:
    """With slices on which nothing is, too: a SEG leaves these out."""
    from dinorad_rt.prediction.inputs import find_items
    from dinorad_rt.prediction.masks import write_dicom_seg

    pytest.importorskip("highdicom")
    names = ("background", "a", "b")
    written = {}
    for number in range(6):
        folder = tmp_path / f"s{number}"
        write_series(folder, voxels(number), SUPINE, f"P{number}")
        (item,) = find_items(folder)
        mask = np.uint8(read_study(folder).pixels > 50)
        mask[mask > 0] += np.arange(mask.sum(), dtype=np.uint8) % segments
        mask[:empty] = 0
        written[folder.name] = mask
        write_dicom_seg(tmp_path / f"{number}.seg", mask, item, names, model="t", version="1")
    table = write_table("image,mask", [(f"s{n}", f"{n}.seg") for n in range(6)])
    dataset = open_dataset(table)
    assert dataset.class_names == names[: segments + 1]
    for sample in dataset.samples:
        np.testing.assert_array_equal(read_mask(sample), written[sample.path.name])


def test_a_turn_and_its_inverse_move_voxels_with_their_place() -> None:
    turn = Turn((2, 0, 1), (True, False, True))
    affine = np.array([[0, 2, 0, 3], [0, 0, -1.5, 4], [5, 0, 0, 6], [0, 0, 0, 1.0]])
    grid, pixels = Grid(SHAPE, affine, (5.0, 2.0, 1.5)), voxels(0)
    turned, moved = turn.grid(grid), turn.array(pixels)
    assert turned.shape == moved.shape and turned.affine is not None
    assert turned.spacing == (1.5, 5.0, 2.0)
    assert moved[1, 2, 3] == pixels[2, 3, 4]
    assert np.allclose(turned.affine @ (1, 2, 3, 1), affine @ (2, 3, 4, 1))
    assert np.array_equal(turn.inverse.array(moved), pixels)


def test_the_grid_of_a_single_dicom_image_needs_no_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image of a set is looked at when it is opened."""
    from tests.datasets.test_headers import write_dicom

    places = (
        {},
        {"PixelSpacing": [0.7, 0.5]},
        {
            "PixelSpacing": [0.7, 0.5],
            "ImagePositionPatient": [1.0, -2.0, 3.5],
            "ImageOrientationPatient": [0.8, 0.6, 0.0, 0.0, 0.0, -1.0],
            "SliceThickness": 2.5,
        },
    )
    for number, place in enumerate(places):
        write_dicom(tmp_path / f"{number}.dcm", number, **place)
    studies = [read_study(tmp_path / f"{number}.dcm") for number in range(len(places))]
    monkeypatch.setattr("dinorad_rt.studies.dicom.decode", None)
    for number, study in enumerate(studies):
        grid = grid_of(tmp_path / f"{number}.dcm")
        assert grid.shape == study.pixels.shape
        np.testing.assert_equal(grid.spacing, study.spacing)
        affine = study.affine()
        assert (grid.affine is None) == (affine is None)
        if affine is not None:
            np.testing.assert_allclose(grid.affine, affine)
