"""Segmentation folders that bring a test split: nnU-Net, the Decathlon, train and test folders."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import LeakageError, MaskError, TableError
from dinorad_rt.identifiers import kept

SPLITS = ("train", "val", "test")


def write(path: Path, seed: int, *, mask: bool = False) -> None:
    """A small volume, or the mask of its bright half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 100, (6, 5, 4)).astype(np.int16)
    voxels = np.uint8(voxels > 50) if mask else voxels
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), path)


def write_cases(
    root: Path,
    part: str,
    numbers: range,
    *,
    image: str = "case_{:03d}_0000.nii.gz",
    mask: str | None = "case_{:03d}.nii.gz",
) -> None:
    """imagesTr and labelsTr, or those of another part."""
    for number in numbers:
        write(root / f"images{part}" / image.format(number), number)
        if mask is not None:
            write(root / f"labels{part}" / mask.format(number), number, mask=True)


def counts(dataset: Dataset) -> list[int]:
    return [len(dataset.of_split(split)) for split in SPLITS]  # type: ignore[arg-type]


def folders_of(dataset: Dataset, split: str) -> set[str]:
    return {sample.path.parent.name for sample in dataset.of_split(split)}  # type: ignore[arg-type]


def test_labelled_tests_are_the_test_split(tmp_path: Path, own_cache: Path) -> None:
    write_cases(tmp_path, "Tr", range(10))
    write_cases(tmp_path, "Ts", range(50, 54))
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == [8, 2, 4]
    assert folders_of(dataset, "test") == {"imagesTs"}
    assert folders_of(dataset, "train") | folders_of(dataset, "val") == {"imagesTr"}
    told = "no val split: 2 of 10 training images are val, drawn by patient, stratified, seed 0"
    assert any(told in note for note in dataset.notes)
    assert dataset.facts["splits"] == "given; val drawn from train by patient, seed 0"
    again = open_dataset(tmp_path)
    assert (again.split_hash, again.fingerprint) == (dataset.split_hash, dataset.fingerprint)
    assert open_dataset(tmp_path, seed=1).split_hash != dataset.split_hash


def test_a_grown_set_keeps_its_validation(tmp_path: Path, own_cache: Path) -> None:
    write_cases(tmp_path, "Tr", range(10))
    write_cases(tmp_path, "Ts", range(50, 54))
    first = {sample.patient: sample.split for sample in open_dataset(tmp_path).samples}
    write_cases(tmp_path, "Tr", range(10, 20))
    grown = open_dataset(tmp_path)
    assert first.items() <= {sample.patient: sample.split for sample in grown.samples}.items()
    assert counts(grown) == [16, 4, 4]


@pytest.mark.parametrize("given", ["no folder", "an empty folder"])
def test_tests_without_masks_are_not_used(tmp_path: Path, given: str) -> None:
    write_cases(tmp_path, "Tr", range(10))
    write_cases(tmp_path, "Ts", range(50, 54), mask=None)
    write_cases(tmp_path, "Ts", range(50, 54), image="case_{:03d}_0001.nii.gz", mask=None)
    if given == "an empty folder":
        (tmp_path / "labelsTs").mkdir()
    listing = {"test": [f"./imagesTs/case_{n:03d}.nii.gz" for n in range(50, 54)]}
    for described in (False, True):
        if described:
            (tmp_path / "dataset.json").write_text(json.dumps(listing))
        dataset = open_dataset(tmp_path)
        assert counts(dataset) == [6, 2, 2]
        assert {sample.path.parent.name for sample in dataset.samples} == {"imagesTr"}
        told = "4 images of imagesTs have no masks: neither trained nor judged on"
        assert [note for note in dataset.notes if "imagesTs" in note] == [told]


def test_listed_tests_with_masks_are_the_test_split(tmp_path: Path) -> None:
    """By the names of the Decathlon, which has no channel, and of lists of pairs."""
    write_cases(tmp_path, "Tr", range(10))
    listing = ["./imagesTr/case_003.nii.gz", {"image": "imagesTr\\case_007_0000.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"test": listing}))
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == [6, 2, 2]
    tested = {sample.path.name for sample in dataset.of_split("test")}
    assert tested == {"case_003_0000.nii.gz", "case_007_0000.nii.gz"}
    assert any("2 images are for testing, by dataset.json" in note for note in dataset.notes)
    for wrong in ({"a": 1}, [3], 3):
        (tmp_path / "dataset.json").write_text(json.dumps({"test": wrong}))
        with pytest.raises(TableError, match="test list that is no list"):
            open_dataset(tmp_path)


def test_validation_folders_of_nnunet_stand_beside_tests(tmp_path: Path) -> None:
    write_cases(tmp_path, "Tr", range(6))
    write_cases(tmp_path, "Va", range(20, 23))
    assert counts(open_dataset(tmp_path)) == [5, 2, 2]
    write_cases(tmp_path, "Ts", range(50, 52))
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == [6, 3, 2] and dataset.facts["splits"] == "given"
    assert folders_of(dataset, "val") == {"imagesVa"}


def test_a_case_for_training_and_testing_is_refused(tmp_path: Path) -> None:
    write_cases(tmp_path, "Tr", range(10))
    write_cases(tmp_path, "Ts", range(8, 14))
    with pytest.raises(LeakageError) as caught:
        open_dataset(tmp_path)
    assert "2 cases stand under one name" in caught.value.problem
    assert "case_008" not in str(caught.value) and caught.value.fix
    with kept(), pytest.raises(LeakageError, match="case_008"):
        open_dataset(tmp_path)


def test_a_patient_for_training_and_testing_is_refused(tmp_path: Path) -> None:
    for part, patients in (("Tr", range(5, 12)), ("Ts", range(10, 16))):
        for patient in patients:
            name = f"P{patient}/scan_{part}{patient}.nii.gz"
            write(tmp_path / f"images{part}" / name, patient)
            write(tmp_path / f"labels{part}" / name, patient, mask=True)
    with pytest.raises(LeakageError) as caught:
        open_dataset(tmp_path)
    assert "2 of 11 patients stand in more than one split" in caught.value.problem
    assert "P10" not in str(caught.value)
    drawn = open_dataset(tmp_path, splits="patient")
    assert len({(sample.patient, sample.split) for sample in drawn.samples}) == 11


def test_patients_below_training_folders_stay_together(tmp_path: Path) -> None:
    for patient in range(10):
        for scan in range(3):
            name = f"P{patient}/scan{scan}.nii"
            write(tmp_path / "imagesTr" / name, 10 * patient + scan)
            write(tmp_path / "labelsTr" / name, 10 * patient + scan, mask=True)
    write_cases(tmp_path, "Ts", range(200, 203))
    for number in range(200, 203):
        for part in ("images", "labels"):
            (tmp_path / f"{part}Ts" / f"Q{number}").mkdir()
        (tmp_path / f"imagesTs/case_{number}_0000.nii.gz").rename(
            tmp_path / f"imagesTs/Q{number}/case_{number}_0000.nii.gz"
        )
        (tmp_path / f"labelsTs/case_{number}.nii.gz").rename(
            tmp_path / f"labelsTs/Q{number}/case_{number}.nii.gz"
        )
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == [24, 6, 3]
    assert len({(sample.patient, sample.split) for sample in dataset.samples}) == 13


@pytest.mark.parametrize("given", ["masks", "images only", "images alone"])
def test_folders_of_splits(tmp_path: Path, given: str) -> None:
    """train/images and train/masks, with a test folder that has masks or has none."""
    for split, numbers in (("train", range(10)), ("val", range(3)), ("test", range(4))):
        for number in numbers:
            seed = number + 100 * len(split) + ord(split[1])
            place = tmp_path / split
            if split != "test" or given == "masks":
                write(place / "masks" / f"{number}.nii", seed, mask=True)
            if split == "test" and given == "images alone":
                write(place / f"{number}.nii.gz", seed)
            else:
                write(place / "images" / f"{number}.nii.gz", seed)
    dataset = open_dataset(tmp_path)
    if given == "masks":
        assert counts(dataset) == [10, 3, 4] and dataset.facts["splits"] == "given"
        return
    assert "4 images of test have no masks: neither trained nor judged on" in dataset.notes
    assert counts(dataset) == [8, 2, 3] and folders_of(dataset, "test") == {"images"}
    assert "no test split: val is used as test" in dataset.notes


def test_train_and_test_folders_alone_get_a_validation_split(tmp_path: Path) -> None:
    for split, numbers in (("Training", range(10)), ("Testing", range(10, 14))):
        for number in numbers:
            write(tmp_path / split / "imgs" / f"{number}.nii.gz", number)
            write(tmp_path / split / "labels" / f"{number}.nii.gz", number, mask=True)
    assert counts(open_dataset(tmp_path)) == [8, 2, 4]


def test_a_test_folder_beside_images_and_masks(tmp_path: Path) -> None:
    for place, numbers in ((".", range(10)), ("test", range(10, 14))):
        for number in numbers:
            write(tmp_path / place / "images" / f"{number}.nii.gz", number)
            write(tmp_path / place / "masks" / f"{number}.nii.gz", number, mask=True)
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == [8, 2, 4]
    assert all(sample.path.parts[-3] == "test" for sample in dataset.of_split("test"))
    (tmp_path / "test").rename(tmp_path / "val")
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == [8, 2, 4] and "no test split: val is used as test" in dataset.notes


def test_two_training_patients_are_enough_and_one_is_left_alone(tmp_path: Path) -> None:
    write_cases(tmp_path, "Ts", range(50, 54))
    write_cases(tmp_path, "Tr", range(1))
    assert counts(open_dataset(tmp_path)) == [1, 0, 4]
    write_cases(tmp_path, "Tr", range(2))
    assert counts(open_dataset(tmp_path)) == [1, 1, 4]


def test_names_that_differ_are_told_or_refused(tmp_path: Path) -> None:
    write_cases(tmp_path, "Tr", range(10))
    write_cases(tmp_path, "Ts", range(50, 54), image="scan_{:03d}.nii.gz")
    with pytest.raises(MaskError, match="None of 4 images of imagesTs has a mask in labelsTs"):
        open_dataset(tmp_path)
    (tmp_path / "imagesTs").rename(tmp_path / "other")
    assert "4 masks of labelsTs without images: left out" in open_dataset(tmp_path).notes
    (tmp_path / "imagesTs").mkdir()
    notes = open_dataset(tmp_path).notes
    assert [one for one in notes if "left out" in one] == [
        "4 masks of labelsTs without images: left out"
    ]


def test_one_test_image_without_a_mask_is_left_out(tmp_path: Path) -> None:
    write_cases(tmp_path, "Tr", range(10), image="case_{:03d}.nii.gz", mask="case_{:03d}.nii")
    write_cases(tmp_path, "Ts", range(50, 54), mask="case_{:03d}.nii")
    (tmp_path / "labelsTs" / "case_051.nii").unlink()
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == [8, 2, 3]
    assert "1 image without a mask: left out" in dataset.notes


def test_masks_of_another_shape_in_the_test_split_are_refused(tmp_path: Path) -> None:
    write_cases(tmp_path, "Tr", range(6))
    write_cases(tmp_path, "Ts", range(50, 53))
    odd = nibabel.Nifti1Image(np.ones((6, 5, 3), np.uint8), np.diag([1.0, 1.0, 2.0, 1.0]))
    nibabel.save(odd, tmp_path / "labelsTs" / "case_051.nii.gz")
    with pytest.raises(MaskError, match="1 of 9 masks do not lie on their image"):
        open_dataset(tmp_path)


def test_several_channels_are_refused_and_any_one_is_read(tmp_path: Path) -> None:
    write_cases(tmp_path, "Tr", range(6))
    write_cases(tmp_path, "Tr", range(4), image="case_{:03d}_0001.nii.gz", mask=None)
    with pytest.raises(MaskError) as caught:
        open_dataset(tmp_path)
    assert "4 cases of imagesTr have several channels (up to 2" in caught.value.problem
    assert "Keep the files of one channel" in caught.value.fix
    for number in range(4):
        (tmp_path / "imagesTr" / f"case_{number:03d}_0000.nii.gz").unlink()
    assert len(open_dataset(tmp_path).samples) == 6
