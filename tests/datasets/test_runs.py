"""Masks as runs in the cells of a table (RLE), against decoders written from the definitions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.datasets.prepare import prepare_dataset
from dinorad_rt.datasets.runs import KINDS, decode
from dinorad_rt.errors import EmptyDataError, LabelError, MaskError, TableError
from dinorad_rt.paths import cache_dir

ROWS, COLUMNS = 9, 13


def rle2mask(rle: str, width: int, height: int) -> np.ndarray:
    """SIIM-ACR's own decoder, by its published description: what it gives is (width, height)."""
    mask = np.zeros(width * height)
    position = 0
    numbers = [int(word) for word in rle.split()]
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        position += start
        mask[position : position + length] = 255
        position += length
    return mask.reshape(width, height)


def rle_decode(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """Kaggle's common decoder of absolute runs, along the rows."""
    numbers = np.asarray(rle.split(), int)
    flat = np.zeros(shape[0] * shape[1], bool)
    for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        flat[start : start + length] = True
    return flat.reshape(shape)


def encode(mask: np.ndarray, kind: str) -> str:
    """Runs of a mask; -1 for none."""
    flat = (mask if kind.endswith("rows") else mask.T).ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    first, behind = edges[::2], edges[1::2]
    before = np.concatenate([[0], behind[:-1]])
    starts = first - before if kind.startswith("relative") else first + 1
    return " ".join(f"{a} {b}" for a, b in zip(starts, behind - first, strict=True)) or "-1"


def blob(seed: int) -> np.ndarray:
    mask = np.random.default_rng(seed).random((ROWS, COLUMNS)) < 0.3
    mask[seed % 5 : seed % 5 + 3, 2:6] = True
    return mask


def write(folder: Path, header: str, rows: Sequence[Sequence[str]], images: int = 12) -> Path:
    for number in range(images):
        pixels = np.random.default_rng(number).integers(0, 256, (ROWS, COLUMNS), np.uint8)
        path = folder / "images" / f"x{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    table = folder / "train.csv"
    table.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return table


def masks_of(dataset: Dataset) -> dict[str, np.ndarray]:
    return {sample.path.stem: read_mask(sample)[0] for sample in dataset.samples}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_equals_its_definition(kind: str) -> None:
    for seed in range(20):
        mask = blob(seed)
        text = encode(mask, kind)
        if kind == "relative-columns":
            assert np.array_equal(rle2mask(text, COLUMNS, ROWS).T == 255, mask)
        if kind == "rows":
            assert np.array_equal(rle_decode(text, mask.shape), mask)
        if kind == "columns":
            assert np.array_equal(rle_decode(text, mask.shape[::-1]).T, mask)
        assert np.array_equal(decode(text, mask.shape, kind), mask)
    assert not decode("-1", (ROWS, COLUMNS), kind).any()


def test_the_pneumothorax_set_as_it_is_published(tmp_path: Path) -> None:
    """Relative runs down the columns, ` -1` for none, several rows of one image."""
    rows, expected = [], {}
    for number in range(12):
        whole = blob(number) if number % 3 else np.zeros((ROWS, COLUMNS), bool)
        left, right = whole.copy(), whole.copy()
        left[:, 4:], right[:, :4] = False, False
        parts = [left, right] if number % 3 == 1 else [whole]
        rows += [[f"x{number}", f" {encode(part, 'relative-columns')}"] for part in parts]
        expected[f"x{number}"] = whole
    table = write(tmp_path, "ImageId, EncodedPixels", rows)
    dataset = open_dataset(table, task="segmentation")
    assert dataset.class_names == ("background", "foreground")
    found = masks_of(dataset)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        name: mask.astype(int).tolist() for name, mask in expected.items()
    }
    notes = " ".join(dataset.notes)
    assert "relative starts, counted down the columns" in notes
    assert "4 images have no runs" in notes
    assert prepare_dataset(dataset).classes == {"foreground": {"all": 8}}
    whether = open_dataset(table)
    assert whether.class_names == ("no mask", "mask")
    assert {s.path.stem: s.labels for s in whether.samples} == {
        name: (int(mask.any()),) for name, mask in expected.items()
    }
    assert any("labels are derived" in note for note in whether.notes)


def test_equal_masks_of_several_images_count_each(tmp_path: Path) -> None:
    rows = [[f"x{n}", encode(blob(n % 2), "relative-columns")] for n in range(12)]
    dataset = open_dataset(write(tmp_path, "ImageId,EncodedPixels", rows))
    assert prepare_dataset(dataset).classes == {"foreground": {"all": 12}}


def test_absolute_runs_of_the_usual_column_go_down_the_columns(tmp_path: Path) -> None:
    rows = [[f"x{n}.png", encode(blob(n), "columns")] for n in range(12)]
    found = masks_of(open_dataset(write(tmp_path, "ImageId,EncodedPixels", rows)))
    assert all(np.array_equal(found[f"x{n}"] > 0, blob(n)) for n in range(12))


def test_what_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    rows = [[f"x{n}", encode(blob(n), "rows")] for n in range(12)]
    table = write(tmp_path, "id,rle", rows)
    with pytest.raises(TableError, match="down columns or along rows") as caught:
        open_dataset(table)
    assert "--mask-column rle:rows" in caught.value.fix
    found = masks_of(open_dataset(table, mask_column="rle:rows"))
    assert all(np.array_equal(found[f"x{n}"] > 0, blob(n)) for n in range(12))
    table = write(tmp_path, "id,EncodedPixels", [[f"x{n}", f"{n + 3} 4"] for n in range(12)])
    with pytest.raises(TableError, match="absolute or relative"):
        open_dataset(table)
    assert masks_of(open_dataset(table, mask_column="EncodedPixels:columns"))["x0"][2, 0] == 1
    table = write(tmp_path, "image,mask", [[f"x{n}", f"images/x{n}.png"] for n in range(12)])
    with pytest.raises(TableError, match="holds no runs"):
        open_dataset(table, mask_column="mask:rows")


@pytest.mark.parametrize("task", ["auto", "segmentation", "classification"])
def test_a_row_for_each_class_of_an_image(tmp_path: Path, task: str) -> None:
    organs = ("stomach", "bowel")
    rows = []
    for number in range(12):
        for at, organ in enumerate(organs):
            mask = blob(number + at)
            mask[:, 7 * at : 7 * at + 6] = False
            text = "" if number % 4 == at else encode(mask, "columns")
            rows.append([f"x{number}", organ, text])
    table = write(tmp_path, "image,class,EncodedPixels", rows)
    dataset = open_dataset(table, task=task)  # type: ignore[arg-type]
    assert len(dataset.samples) == 12
    if task != "segmentation":
        assert dataset.task == "multilabel" and dataset.class_names == ("bowel", "stomach")
        flags = {one.path.stem: one.labels for one in dataset.samples}
        assert [flags[f"x{n}"] for n in range(4)] == [(1, 0), (0, 1), (1, 1), (1, 1)]
        return
    assert dataset.class_names == ("background", "bowel", "stomach")
    found = masks_of(dataset)
    for number in range(12):
        expected = np.zeros((ROWS, COLUMNS), int)
        for at, value in ((1, 1), (0, 2)):
            mask = blob(number + at)
            mask[:, 7 * at : 7 * at + 6] = False
            if number % 4 != at:
                expected[mask] = value
        assert np.array_equal(found[f"x{number}"], expected)
    assert any("classes overlap in" in note for note in dataset.notes)


def test_a_column_for_each_class_and_the_size_that_a_table_tells(tmp_path: Path) -> None:
    """As CheXmask has it."""
    rows = []
    for number in range(12):
        lung, heart = blob(number), blob(number + 1)
        lung[:, 6:], heart[:, :6] = False, False
        sides = [str(ROWS), str(COLUMNS)]
        rows.append([f"x{number}.png", encode(lung, "rows"), encode(heart, "rows"), *sides])
    header = "image_id,Left Lung,Heart,Height,Width"
    dataset = open_dataset(
        write(tmp_path, header, rows), mask_column="Left Lung,Heart:rows", task="segmentation"
    )
    assert dataset.class_names == ("background", "Left Lung", "Heart")
    found = masks_of(dataset)["x3"]
    assert np.array_equal(found[:, :6] == 1, blob(3)[:, :6])
    assert np.array_equal(found[:, 6:] == 2, blob(4)[:, 6:])
    assert not any("overlap" in note for note in dataset.notes)
    rows = [[*row[:3], "18", "26"] for row in rows]
    with pytest.raises(MaskError, match="12 images have another size than the table tells"):
        open_dataset(write(tmp_path, header, rows), mask_column="Left Lung,Heart:rows")


def test_runs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    rows = [[f"x{n}", f"{ROWS * COLUMNS - 1} 5 3 2"] for n in range(12)]
    with pytest.raises(MaskError, match="12 of 12 go beyond the image"):
        open_dataset(write(tmp_path, "ImageId,EncodedPixels", rows))
    rows = [[f"x{n}", encode(blob(n), "relative-columns")] for n in range(12)]
    table = write(tmp_path, "ImageId,EncodedPixels", rows)
    with pytest.raises(MaskError, match="no rows runs"):
        open_dataset(table, mask_column="EncodedPixels:rows")
    with pytest.raises(LabelError, match="Of 12 images all have runs"):
        open_dataset(table, task="classification")
    gone = [[f"y{n}", text] for n, (_, text) in enumerate(rows)]
    with pytest.raises(EmptyDataError, match="12 of 12 listed images are missing"):
        open_dataset(write(tmp_path, "ImageId,EncodedPixels", gone))
    np.save(tmp_path / "images" / "v.npy", np.zeros((3, ROWS, COLUMNS), np.uint8))
    with pytest.raises(MaskError, match="1 image with runs has several slices"):
        open_dataset(write(tmp_path, "ImageId,EncodedPixels", [*rows, ["v.npy", "1 3 9 4"]]))


def test_a_missing_image_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [[f"x{n}", encode(blob(n), "relative-columns")] for n in range(12)]
    table = write(tmp_path, "ImageId,EncodedPixels", [*rows, ["y", "1 3 1 4"]])
    dataset = open_dataset(table)
    assert len(dataset.samples) == 12
    assert any("1 listed image is missing" in note for note in dataset.notes)


def test_the_fingerprint_follows_the_runs(tmp_path: Path) -> None:
    rows = [[f"x{n}", encode(blob(n), "relative-columns")] for n in range(12)]
    first = open_dataset(write(tmp_path, "ImageId,EncodedPixels", rows)).fingerprint
    drawn = list((cache_dir("datasets") / "masks").iterdir())
    for path in drawn:  # as another version of zlib writes them
        with Image.open(path) as image:
            image.load()
        image.save(path, compress_level=0)
    assert len(drawn) == 12 and open_dataset(tmp_path / "train.csv").fingerprint == first
    rows[3][1] = encode(blob(99), "relative-columns")
    assert open_dataset(write(tmp_path, "ImageId,EncodedPixels", rows)).fingerprint != first


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,xmin,ymin,xmax,ymax", ["10", "20", "30", "40"]),
        ("image,bbox", ["[10 20 30 40]"]),
        ("image,polygon", ['"[[1, 2], [3, 4], [5, 6]]"']),
        ("image,segmentation", ['"[[1.5, 2.0, 3.0, 4.0]]"']),
        ("image,mask", ["1.5 2.0 3.0 4.0"]),
    ],
)
def test_boxes_and_polygons_are_no_masks(tmp_path: Path, header: str, row: list[str]) -> None:
    table = write(tmp_path, header, [[f"x{n}.png", *row] for n in range(12)])
    with pytest.raises(TableError, match="boxes or polygons") as caught:
        open_dataset(table, task="segmentation")
    assert "mask files" in caught.value.fix
