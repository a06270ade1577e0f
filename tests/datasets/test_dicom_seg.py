"""DICOM SEG as masks: written by highdicom, laid on the image's voxels, classes by label."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.datasets.dicom_seg import segments_in
from dinorad_rt.datasets.facts import FileFacts
from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.datasets.registered import check_mask_values
from dinorad_rt.errors import LabelError, MaskError
from dinorad_rt.studies.read import read_study

hd = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

SHAPE = (6, 9, 12)
OBLIQUE = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]
AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def write_series(folder: Path, turned: Sequence[float] = AXIAL) -> list[Any]:
    """A CT series, its files in no order; gives them in the order of their positions."""
    folder.mkdir(parents=True)
    study, series, frame = (hd.UID() for _ in range(3))
    normal = np.cross(turned[:3], turned[3:])
    rng = np.random.default_rng(0)
    files = []
    for index in range(SHAPE[0]):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one.SOPClassUID, one.SOPInstanceUID = pydicom.uid.CTImageStorage, hd.UID()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.Modality, one.InstanceNumber, one.SeriesNumber = "CT", index + 1, 1
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"):
            setattr(one, name, None)
        for name in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"):
            setattr(one, name, None)
        one.Rows, one.Columns = SHAPE[1:]
        one.PixelSpacing, one.SliceThickness = [0.7, 0.5], 2.5
        one.ImageOrientationPatient = list(turned)
        one.ImagePositionPatient = [round(float(x), 6) for x in (-20, 5, 40) + 2.5 * index * normal]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.RescaleSlope, one.RescaleIntercept = 1, 0
        one.PixelData = rng.integers(0, 900, SHAPE[1:]).astype(np.uint16).tobytes()
        one.save_as(folder / f"{(7 * index) % 11}.dcm", enforce_file_format=True)
        files.append(one)
    return files


def write_seg(
    path: Path, files: list[Any], mask: np.ndarray, labels: Sequence[str], kind: str = "BINARY"
) -> None:
    """A SEG by highdicom; `mask` is (slices, rows, columns, segments), or numbers."""
    if mask.ndim == 3 and kind != "LABELMAP":
        mask = np.stack([mask == number for number in range(1, len(labels) + 1)], axis=-1)
    organ = pydicom.sr.codedict.codes.SCT.Organ
    hd.seg.Segmentation(
        source_images=files,
        pixel_array=mask.astype(np.float32) if kind == "FRACTIONAL" else mask,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(number, label, organ, organ, "MANUAL")
            for number, label in enumerate(labels, start=1)
        ],
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="nobody",
        manufacturer_model_name="none",
        software_versions="0",
        device_serial_number="0",
    ).save_as(path)


def truth() -> np.ndarray:
    """Two segments on four of six slices."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:4, 2:5, 3:9] = 1
    mask[3:5, 6:8, 1:11] = 2
    return mask


def table(root: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """A table of image and mask, with a second patient to split from if there is one row."""
    if len(rows) == 1:
        ((image, mask),) = rows
        copy = shutil.copytree if (root / image).is_dir() else shutil.copyfile
        copy(root / image, root / f"other-{image}")
        rows = [*rows, (f"other-{image}", mask)]
    lines = [f"{image},{mask},p{i}" for i, (image, mask) in enumerate(rows)]
    (root / "labels.csv").write_text("image,mask,patient\n" + "\n".join(lines) + "\n")
    return root / "labels.csv"


def sample_of(dataset: Dataset, name: str) -> Sample:
    return next(one for one in dataset.samples if one.path.name == name)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("turned", [AXIAL, OBLIQUE, [-1.0, 0, 0, 0, 0, 1.0]])
def test_each_voxel_lies_where_highdicom_puts_it(
    tmp_path: Path, kind: str, turned: list[float]
) -> None:
    files = write_series(tmp_path / "case", turned)
    write_seg(tmp_path / "seg.dcm", files, truth(), ("liver", "spleen"), kind)
    dataset = open_dataset(table(tmp_path, [("case", "seg.dcm")]), task="segmentation")
    assert dataset.class_names == ("background", "liver", "spleen")
    mask = read_mask(sample_of(dataset, "case"))
    image = read_study(tmp_path / "case")
    assert mask.shape == image.pixels.shape and mask.dtype == np.uint8
    theirs = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    affine = image.affine()
    assert affine is not None
    voxels = np.argwhere(mask > 0)
    assert len(voxels) == np.count_nonzero(truth()) == np.count_nonzero(theirs.array)
    places = np.c_[voxels, np.ones(len(voxels))] @ affine.T
    there = np.rint((places @ np.linalg.inv(theirs.affine).T)[:, :3]).astype(int)
    np.testing.assert_array_equal(mask[tuple(voxels.T)], theirs.array[tuple(there.T)])


def test_files_count_their_segments_anew(tmp_path: Path) -> None:
    """As tools do that number what they found: the label tells the class, not the number."""
    files = write_series(tmp_path / "case")
    spleen = (truth() == 2).astype(np.uint8)
    write_seg(tmp_path / "both.dcm", files, truth(), ("liver", "spleen"))
    write_seg(tmp_path / "one.dcm", files, spleen, ("spleen",))
    rows = [("case", "both.dcm"), ("copy", "one.dcm")]
    write_series(tmp_path / "copy")
    dataset = open_dataset(table(tmp_path, rows), task="segmentation")
    assert dataset.class_names == ("background", "liver", "spleen")
    assert dataset.mask_values is None
    assert check_mask_values(dataset, FileFacts(tmp_path)) == {"liver": 1, "spleen": 2}
    assert set(np.unique(read_mask(sample_of(dataset, "copy")))) == {0, 2}
    again = open_dataset(
        tmp_path / "labels.csv",
        task="segmentation",
        class_names=("background", "spleen", "kidney", "liver"),
    )
    assert {tuple(np.unique(read_mask(one))) for one in again.samples} == {(0, 1), (0, 1, 3)}
    with pytest.raises(LabelError, match="spleen") as caught:
        open_dataset(
            tmp_path / "labels.csv", task="segmentation", class_names=("background", "liver")
        )
    assert "--class-names background,liver,spleen" in caught.value.fix


def test_one_slice_of_a_series_has_its_part_of_the_mask(tmp_path: Path) -> None:
    files = write_series(tmp_path / "case")
    write_seg(tmp_path / "seg.dcm", files, truth(), ("liver", "spleen"))
    names = {int(pydicom.dcmread(p).InstanceNumber) - 1: p for p in (tmp_path / "case").iterdir()}
    rows = [(f"case/{names[at].name}", "seg.dcm") for at in range(6)]
    dataset = open_dataset(table(tmp_path, rows), task="segmentation")
    slices = {one.path.name: read_mask(one) for one in dataset.samples}
    for at, path in names.items():
        np.testing.assert_array_equal(slices[path.name][0], truth()[at])


def test_a_radiograph_and_its_mask_need_no_place(tmp_path: Path) -> None:
    files = write_series(tmp_path / "case")[:1]
    write_seg(tmp_path / "seg.dcm", files, truth()[2:3], ("lung", "heart"))
    image = files[0]
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(image, name)
    image.Modality = "DX"
    image.save_as(tmp_path / "image.dcm")
    image.StudyInstanceUID, image.SOPInstanceUID = hd.UID(), hd.UID()
    image.save_as(tmp_path / "other.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    groups = [*seg.PerFrameFunctionalGroupsSequence, *seg.SharedFunctionalGroupsSequence]
    for group in groups:
        for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            if name in group:
                delattr(group, name)
    seg.save_as(tmp_path / "seg.dcm")
    dataset = open_dataset(
        table(tmp_path, [("image.dcm", "seg.dcm"), ("other.dcm", "seg.dcm")]), task="segmentation"
    )
    assert dataset.class_names == ("background", "lung")  # no frame shows the heart
    np.testing.assert_array_equal(read_mask(sample_of(dataset, "image.dcm")), truth()[2:3])


def test_what_does_not_lie_on_the_voxels_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "case")
    write_seg(tmp_path / "seg.dcm", files, truth(), ("liver", "spleen"))
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    shutil.copytree(tmp_path / "case", tmp_path / "copy")
    moved = {"between": [0.25, 0.0, 0.0], "outside": [-0.25, 0.0, 50.0]}
    for word, step in moved.items():
        for group in seg.PerFrameFunctionalGroupsSequence:
            place = group.PlanePositionSequence[0]
            place.ImagePositionPatient = [
                a + b for a, b in zip(place.ImagePositionPatient, step, strict=True)
            ]
        seg.save_as(tmp_path / f"{word}.dcm")
        rows = [("case", f"{word}.dcm"), ("copy", f"{word}.dcm")]
        with pytest.raises(MaskError, match=word):
            open_dataset(table(tmp_path, rows), task="segmentation")


def test_segments_that_overlap_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "case")
    both = np.stack([truth() > 0, truth() == 2], axis=-1)
    write_seg(tmp_path / "seg.dcm", files, both, ("abdomen", "spleen"))
    dataset = open_dataset(table(tmp_path, [("case", "seg.dcm")]), task="segmentation")
    with pytest.raises(MaskError, match=f"overlap in {np.count_nonzero(truth() == 2)} voxels"):
        read_mask(dataset.samples[0])


def test_masks_of_two_kinds_are_refused(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    files = write_series(tmp_path / "case")
    write_series(tmp_path / "copy")
    write_seg(tmp_path / "seg.dcm", files, truth(), ("liver", "spleen"))
    nibabel.save(nibabel.Nifti1Image(truth().T, np.eye(4)), tmp_path / "mask.nii.gz")
    for rows in (
        [("case", "seg.dcm"), ("copy", "mask.nii.gz")],
        [("case", "mask.nii.gz"), ("copy", "seg.dcm")],
    ):
        with pytest.raises(LabelError, match="DICOM SEG and others are not"):
            open_dataset(table(tmp_path, rows), task="segmentation")


def test_a_segment_called_background_is_the_background(tmp_path: Path) -> None:
    files = write_series(tmp_path / "case")
    numbers = np.uint8(1) + (truth() == 2)
    write_seg(tmp_path / "seg.dcm", files, numbers, ("Background", "spleen"))
    dataset = open_dataset(table(tmp_path, [("case", "seg.dcm")]), task="segmentation")
    assert dataset.class_names == ("background", "spleen")
    np.testing.assert_array_equal(read_mask(sample_of(dataset, "case")), truth() == 2)


def test_a_segment_without_a_frame_is_not_there(tmp_path: Path) -> None:
    files = write_series(tmp_path / "case")
    write_seg(tmp_path / "seg.dcm", files, (truth() == 2) * np.uint8(2), ("liver", "spleen"))
    assert [(one.number, one.label) for one in segments_in(tmp_path / "seg.dcm")] == [(2, "spleen")]
