"""Class folders as people keep them: splits inside, shared patients, spellings, leftovers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import EmptyDataError, LabelError, LeakageError

WriteImages = Callable[..., None]


def test_splits_may_lie_inside_the_classes(tmp_path: Path, write_images: WriteImages) -> None:
    for split, count in (("train", 6), ("Valid", 2), ("test", 2)):
        write_images(*(f"{c}/{split}/{i}.png" for c in "ab" for i in range(count)))
    dataset = open_dataset(tmp_path)
    assert [len(dataset.of_split(s)) for s in ("train", "val", "test")] == [12, 4, 4]
    assert dataset.facts["splits"] == "given"
    assert len({sample.patient for sample in dataset.samples}) == 20


def test_a_patient_with_images_of_two_classes_is_one(
    tmp_path: Path, write_images: WriteImages
) -> None:
    people = ("Abel", "Bart", "Cora", "Dirk", "Emma", "Fritz")
    write_images(*(f"{c}/{p}/{i}.png" for c in ("no", "yes") for p in people for i in range(2)))
    dataset = open_dataset(tmp_path)
    splits = defaultdict(set)
    for sample in dataset.samples:
        splits[Path(dataset.name_of(sample)).parent.name].add(sample.split)
    assert len({sample.patient for sample in dataset.samples}) == 6
    assert all(len(one) == 1 for one in splits.values())
    assert any("6 patients stand in several classes" in note for note in dataset.notes)


def test_a_patient_of_two_classes_in_two_splits_is_refused(
    tmp_path: Path, write_images: WriteImages
) -> None:
    write_images(*(f"train/{c}/P{p}/0.png" for c in ("no", "yes") for p in (11, 25)))
    write_images(*(f"test/no/P{p}/1.png" for p in (30, 37)))
    write_images(*(f"test/yes/P{p}/1.png" for p in (11, 39)))
    with pytest.raises(LeakageError, match="1 of 5 patients"):
        open_dataset(tmp_path)


def test_numbers_that_begin_anew_are_different_patients(
    tmp_path: Path, write_images: WriteImages
) -> None:
    write_images(*(f"{c}/Patient ({p})/0.png" for c in "ab" for p in range(1, 6)))
    dataset = open_dataset(tmp_path)
    assert len({sample.patient for sample in dataset.samples}) == 10
    assert any("numbered anew" in note for note in dataset.notes)


def test_classes_that_differ_in_case_are_one(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"train/{c}/{i}.png" for c in ("NORMAL", "Läsion") for i in range(4)))
    write_images(*(f"test/{c}/t{i}.png" for c in ("Normal", "La\u0308sion") for i in range(3)))
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("NORMAL", "Läsion") and dataset.task == "binary"
    assert any("NORMAL, Normal are one class" in note for note in dataset.notes)
    assert not any("has no sample of" in note for note in dataset.notes)


def test_classes_that_are_one_in_two_cases_are_refused(
    tmp_path: Path, write_images: WriteImages
) -> None:
    write_images(*(f"{c}/{i}.png" for c in ("COVID", "covid") for i in range(4)))
    with pytest.raises(LabelError, match="COVID, covid are one class"):
        open_dataset(tmp_path)


def test_a_folder_beside_the_splits_is_no_class(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"{s}/{c}/{s}{i}.png" for s in ("train", "test") for c in "ab" for i in "12"))
    write_images("examples/x.png")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("a", "b") and len(dataset.samples) == 8
    assert any("left out (examples)" in note for note in dataset.notes)


def test_short_words_of_splits_may_be_classes(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"{c}/{i}.png" for c in ("AR", "MR", "TR", "TS") for i in range(5)))
    assert open_dataset(tmp_path).class_names == ("AR", "MR", "TR", "TS")


def test_what_is_not_used_is_said(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"{c}/{i}.png" for c in "ab" for i in range(5)), "montage.png")
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    notes = open_dataset(tmp_path).notes
    assert any("1 image lies outside of the class folders" in note for note in notes)
    assert any("1 folder holds no image: c" in note for note in notes)
    assert any("1 link leads to no file" in note for note in notes)


def test_links_alone_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "gone.dcm").symlink_to(tmp_path / "nowhere.dcm")
    with pytest.raises(EmptyDataError, match="1 link that leads to no file") as refused:
        open_dataset(tmp_path)
    assert "datalad get" in refused.value.fix


def test_classes_one_folder_deeper(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"chest_xray/{c}/{i}.png" for c in "ab" for i in range(5)))
    with pytest.raises(LabelError, match="in one class folder, 'chest_xray'") as refused:
        open_dataset(tmp_path)
    assert "give that folder with --data" in refused.value.fix


def test_masks_beside_the_images_of_a_class_are_no_images(
    tmp_path: Path, write_images: WriteImages
) -> None:
    """As BUSI has them. A name that only ends so, without its image, is an image."""
    for label in ("benign", "malignant"):
        write_images(
            *(f"{label}/{label} ({i}){end}.png" for i in range(6) for end in ("", "_mask"))
        )
    write_images("benign/benign (3)_mask_1.png", "benign/lone_label.png")
    dataset = open_dataset(tmp_path)
    assert len(dataset.samples) == 13
    assert not any("_mask" in dataset.name_of(sample) for sample in dataset.samples)
    assert any("13 masks lie among the images" in note for note in dataset.notes)


@pytest.mark.parametrize("patient", ["", "P{0}/"])
def test_folders_of_masks_beside_those_of_images_are_no_patients(
    tmp_path: Path, write_images: WriteImages, patient: str
) -> None:
    """As the COVID-19 Radiography Database has them, and with a folder for each patient."""
    for number, label in enumerate(("COVID", "Normal")):
        for i in range(5):
            folder = f"{label}/{patient.format(10 * number + 3 * i)}"
            write_images(f"{folder}images/{i}.png", f"{folder}masks/{i}.png")
    dataset = open_dataset(tmp_path)
    assert len(dataset.samples) == 10
    assert all("/images/" in dataset.name_of(sample) for sample in dataset.samples)
    assert len({sample.patient for sample in dataset.samples}) == 10


@pytest.mark.parametrize(
    "name", ["BraTS-GLI-{0:05d}-000", "case_{0:05d}", "TCGA_CS_{0:04d}_19960909", "{0:04d}"]
)
def test_numbered_folders_are_cases(tmp_path: Path, write_images: WriteImages, name: str) -> None:
    for number in range(12):
        case = name.format(number)
        write_images(*(f"{case}/{case}-{ending}.png" for ending in ("t1", "t2", "seg")))
    with pytest.raises(LabelError, match="12 folders are numbered: .* no classes") as caught:
        open_dataset(tmp_path)
    assert "--task segmentation" in caught.value.fix
    assert "19960909" not in caught.value.problem


@pytest.mark.parametrize("name", ["{0}", "grade {0}", "BI-RADS {0}", "T{0}"])
def test_grades_are_classes(tmp_path: Path, write_images: WriteImages, name: str) -> None:
    for number in range(12):
        write_images(f"{name.format(number % 6)}/{number}.png")
    assert len(open_dataset(tmp_path).class_names) == 6
