"""Several mask files of one image: parts of one class, and a file for each class by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.datasets.prepare import prepare_dataset
from dinorad_rt.errors import LabelError, MaskError

SHAPE = (9, 12)


def block(row: int, column: int, value: int = 255) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[row : row + 3, column : column + 4] = value
    return mask


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_images(root: Path, pattern: str, count: int = 10) -> None:
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, SHAPE, np.uint8)
        write(root / pattern.format(number), pixels)


@pytest.mark.parametrize(
    ("image", "mask", "further"),
    [
        ("{0}/{0} (3).png", "{0}/{0} (3)_mask.png", "{0}/{0} (3)_mask_1.png"),  # as BUSI has them
        ("{0}/{0}.png", "{0}/{0}_mask_1.png", "{0}/{0}_mask_2.png"),
        ("images/{0}x.png", "masks/{0}x_mask.png", "masks/{0}x_mask_1.png"),
        ("images/{0}x.png", "masks/{0}x.png", "masks/{0}x_mask_1.png"),
        ("images/{0}x.png", "masks/{0}x_1.png", "masks/{0}x_2.png"),
        ("images/{0}x.png", "masks/{0}x_lesion1.png", "masks/{0}x_lesion2.png"),
    ],
)
def test_numbered_masks_are_joined(tmp_path: Path, image: str, mask: str, further: str) -> None:
    write_images(tmp_path, image)
    for number in range(10):
        write(tmp_path / mask.format(number), block(1, 1))
        if number % 2:
            write(tmp_path / further.format(number), block(5, 7))
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == 10
    assert dataset.class_names[0] == "background" and len(dataset.class_names) == 2
    found = {sample.path.stem[0]: read_mask(sample)[0] for sample in dataset.samples}
    for number in range(10):
        expected = block(1, 1, 1) + (block(5, 7, 1) if number % 2 else 0)
        assert np.array_equal(found[str(number)], expected)
    assert any(note.startswith("5 images have several masks") for note in dataset.notes)
    assert list(prepare_dataset(dataset).classes.values()) == [{"all": 10}]


@pytest.mark.parametrize(
    "mask",
    ["masks/{0}_{1}.png", "masks/{1}/{0}.png", "masks/{0}_{1}_mask.png", "masks/{0}/{1}.png"],
)
def test_a_file_for_each_class_by_its_name(tmp_path: Path, mask: str) -> None:
    write_images(tmp_path, "images/case{0}.png")
    for number in range(10):
        write(tmp_path / mask.format(f"case{number}", "Liver"), block(1, 1))
        filled = number % 5 > 0
        write(tmp_path / mask.format(f"case{number}", "tumour"), block(2, 2, 255 * filled))
    dataset = open_dataset(tmp_path)
    assert dataset.task == "segmentation"
    assert dataset.class_names == ("background", "Liver", "tumour")
    sample = next(one for one in dataset.samples if one.path.stem == "case1")
    expected = block(1, 1, 1)
    expected[2:5, 2:6] = 2
    assert np.array_equal(read_mask(sample)[0], expected)
    notes = " ".join(dataset.notes)
    assert "classes of the masks by the names" in notes
    assert "the later lies over: Liver, tumour" in notes
    assert prepare_dataset(dataset).classes == {"Liver": {"all": 10}, "tumour": {"all": 8}}
    (tmp_path / mask.format("case3", "tumour")).unlink()
    with pytest.raises(MaskError, match="1 image of 10 lacks a mask of one of the 2 classes"):
        open_dataset(tmp_path)


def test_one_word_for_all_masks_is_no_class(tmp_path: Path) -> None:
    """The values of a mask that stands alone tell its classes."""
    write_images(tmp_path, "images/{0}.png")
    for number in range(10):
        write(tmp_path / f"masks/{number}_organs.png", block(1, 1, 1) + block(5, 7, 2))
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("background", "class 1", "class 2")
    assert np.array_equal(np.unique(read_mask(dataset.samples[0])), [0, 1, 2])


def test_a_class_under_a_later_one_is_refused(tmp_path: Path) -> None:
    """The order of names may hide what lies inside of another: lesion before liver."""
    write_images(tmp_path, "images/{0}.png")
    for number in range(10):
        write(tmp_path / f"masks/{number}_lesion.png", block(1, 1))
        liver = np.zeros(SHAPE, np.uint8)
        liver[:6] = 255
        write(tmp_path / f"masks/{number}_liver.png", liver)
    dataset = open_dataset(tmp_path)
    with pytest.raises(MaskError, match="lies whole under later classes") as caught:
        prepare_dataset(dataset)
    assert "--mask-column" in caught.value.fix
    rows = [f"images/{n}.png,masks/{n}_liver.png,masks/{n}_lesion.png" for n in range(10)]
    (tmp_path / "t.csv").write_text("\n".join(["image,liver,lesion", *rows]) + "\n")
    turned = open_dataset(tmp_path / "t.csv", mask_column="liver,lesion")
    assert turned.class_names == ("background", "liver", "lesion")
    assert set(np.unique(read_mask(turned.samples[0]))) == {0, 1, 2}
    with pytest.raises(LabelError, match="files of 2 classes, and 2 names are given"):
        open_dataset(tmp_path, class_names=("background", "liver"))


def test_masks_by_several_readers_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "images/{0}.png")
    for number in range(10):
        for reader in ("reader1", "reader2"):
            write(tmp_path / f"masks/{number}_{reader}.png", block(1, 1))
    with pytest.raises(MaskError, match="told apart by readers"):
        open_dataset(tmp_path)


def test_a_file_of_one_class_holds_two_values(tmp_path: Path) -> None:
    write_images(tmp_path, "images/{0}.png")
    for number in range(10):
        write(tmp_path / f"masks/{number}_1.png", block(1, 1, 1) + block(5, 7, 2))
        write(tmp_path / f"masks/{number}_2.png", block(1, 1, 1))
    with pytest.raises(LabelError, match="holds 3 different values"):
        prepare_dataset(open_dataset(tmp_path))


@pytest.mark.parametrize("labelled", [False, True])
def test_rows_of_one_image_give_it_all_their_masks(tmp_path: Path, labelled: bool) -> None:
    """As CBIS-DDSM has them: a row for each abnormality of an image."""
    write_images(tmp_path, "{0}.png")
    lines = ["image,mask,kind"]
    for number in range(10):
        write(tmp_path / "masks" / f"{number}a.png", block(1, 1))
        lines.append(f"{number}.png,masks/{number}a.png,mass")
        if number % 2:
            write(tmp_path / "masks" / f"{number}b.png", block(5, 7))
            lines.append(f"{number}.png,masks/{number}b.png,calcification")
    lines.append("8.png,masks/gone.png,mass")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    wanted = {"label_column": "kind"} if labelled else {}
    dataset = open_dataset(tmp_path / "t.csv", task="segmentation", **wanted)  # type: ignore[arg-type]
    assert len(dataset.samples) == 9
    found = {sample.path.stem: read_mask(sample)[0] for sample in dataset.samples}
    first, second = (2, 1) if labelled else (1, 1)
    for number in set(range(10)) - {8}:
        expected = block(1, 1, first) + (block(5, 7, second) if number % 2 else 0)
        assert np.array_equal(found[str(number)], expected)
    if labelled:
        assert dataset.class_names == ("background", "calcification", "mass")
    notes = " ".join(dataset.notes)
    assert "6 images have several masks, in rows of their own" in notes
    assert "1 image without a mask: left out" in notes


def test_splits_keep_the_share_of_masks_of_several_files(tmp_path: Path) -> None:
    """As of masks of one file: images without a lesion are spread over the splits."""
    write_images(tmp_path, "{0}.png", 30)
    for number in range(30):
        write(tmp_path / f"{number}_mask.png", block(1, 1, 255 * (number % 3 == 0)))
    write(tmp_path / "0_mask_1.png", block(5, 7))
    dataset = open_dataset(tmp_path, task="segmentation")
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        samples = dataset.of_split(split)  # type: ignore[arg-type]
        assert sum(bool(read_mask(one).any()) for one in samples) == count
