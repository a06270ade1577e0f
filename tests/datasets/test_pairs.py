"""Segmentation sets as they are downloaded: names of images and masks, and other files there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import MaskError, TableError
from dinorad_rt.studies.read import read_study


def write_pair(root: Path, image: str, mask: str, number: int) -> None:
    """An image that is bright where its mask is, in a place of its own."""
    pixels = np.random.default_rng(number).integers(0, 99, (9, 8), np.uint8)
    pixels[number % 7 :, 3:] += 100
    for name, array in ((image, pixels), (mask, np.uint8(pixels > 99))):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("Batch {0}/volume-{0}.png", "Batch {0}/segmentation-{0}.png"),
        ("img/img{0:04d}.png", "label/label{0:04d}.png"),
        ("images/case{0}_image.png", "masks/case{0}_label.png"),
        ("P{0}/P{0}_T2w.png", "P{0}/P{0}_seg.png"),
        ("P{0}/images/slice.png", "P{0}/masks/slice.png"),
    ],
)
def test_images_and_masks_that_are_called_differently(
    tmp_path: Path, image: str, mask: str
) -> None:
    for number in range(12):
        write_pair(tmp_path, image.format(number), mask.format(number), number)
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == len({sample.patient for sample in dataset.samples}) == 12
    for sample in dataset.samples:
        assert np.array_equal(read_mask(sample) > 0, read_study(sample.path).pixels > 99)
    said = any("called differently: paired by what" in note for note in dataset.notes)
    assert said == ("slice" not in image)


def test_several_sequences_of_one_mask_are_refused(tmp_path: Path) -> None:
    """As BraTS has them."""
    for number in range(6):
        for sequence in ("flair", "t1ce"):
            write_pair(tmp_path, f"B{number}/B{number}_{sequence}.png", "seg.png", number)
        write_pair(tmp_path, f"B{number}/B{number}_t2.png", f"B{number}/B{number}_seg.png", number)
    (tmp_path / "seg.png").unlink()
    with pytest.raises(MaskError, match="6 masks have up to 3 images each") as caught:
        open_dataset(tmp_path, task="segmentation")
    assert "_flair, _t1ce, _t2" in caught.value.problem


def test_classes_of_images_with_masks_serve_both_tasks(tmp_path: Path) -> None:
    for number in range(12):
        label = ("COVID", "Normal")[number % 2]
        write_pair(tmp_path, f"{label}/images/{number}.png", f"{label}/masks/{number}.png", number)
    assert open_dataset(tmp_path).class_names == ("Normal", "COVID")
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == len({sample.patient for sample in dataset.samples}) == 12


@pytest.mark.parametrize("tables", [["data.csv"], ["survival_info.csv", "name_mapping.csv"]])
def test_tables_that_tell_no_masks_are_left_aside(tmp_path: Path, tables: list[str]) -> None:
    for number in range(6):
        write_pair(tmp_path, f"P{number}/a.png", f"P{number}/a_mask.png", number)
    for name in tables:
        (tmp_path / name).write_text("Patient,Age\nP1,60\n")
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == 6
    assert any(
        "in the folder tell" in note and "no masks: not used" in note for note in dataset.notes
    )
    with pytest.raises(TableError):
        open_dataset(tmp_path)
    (tmp_path / "labels.csv").write_text(
        "image,mask\nP1/a.png,P1/a_mask.png\nP2/a.png,P2/a_mask.png\n"
    )
    assert len(open_dataset(tmp_path, task="segmentation").samples) == 2


def test_a_table_beside_folders_of_masks_is_left_aside_without_asking(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, f"images/{number}.png", f"masks/{number}.png", number)
    (tmp_path / "scanner_meta.csv").write_text("amos_id,Manufacturer\n1,A\n2,B\n")
    assert open_dataset(tmp_path).task == "segmentation"


def test_a_folder_of_one_mask_per_class(tmp_path: Path) -> None:
    """As TotalSegmentator has it, with its table of splits."""
    for number in range(6):
        case = f"s{number:04d}"
        write_pair(tmp_path, f"{case}/ct.png", f"{case}/segmentations/liver.png", number)
        write_pair(tmp_path, f"{case}/ct.png", f"{case}/segmentations/spleen.png", number + 1)
    splits = "".join(f"s{n:04d};{('train', 'val', 'test')[n % 3]}\n" for n in range(6))
    (tmp_path / "meta.csv").write_text(f"image_id;split\n{splits}")
    dataset = open_dataset(tmp_path, task="segmentation", splits=tmp_path / "meta.csv")
    assert dataset.class_names == ("background", "liver", "spleen")
    assert [len(dataset.of_split(split)) for split in ("train", "val", "test")] == [2, 2, 2]
    assert len({sample.patient for sample in dataset.samples}) == 6
    sample = next(one for one in dataset.samples if "s0002" in dataset.name_of(one))
    expected = np.zeros((9, 8), np.uint8)
    expected[2:, 3:], expected[3:, 3:] = 1, 2
    assert np.array_equal(read_mask(sample)[0], expected)
    (tmp_path / "s0003" / "segmentations" / "spleen.png").rename(
        tmp_path / "s0003/segmentations/a.png"
    )
    with pytest.raises(MaskError, match="2 different sets of classes"):
        open_dataset(tmp_path, task="segmentation")
