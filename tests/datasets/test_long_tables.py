"""A row for each image and finding, as RSNA's intracranial haemorrhage set has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import TableError

WriteImages = Callable[..., None]
FINDINGS = ("epidural", "subdural", "any")


def rows_of(count: int) -> list[tuple[str, int]]:
    flags = [(n % 3 == 0, n % 2) for n in range(count)]
    return [
        (f"ID_{n:09x}_{finding}", int(flag))
        for n, (one, other) in enumerate(flags)
        for finding, flag in zip(FINDINGS, (one, other, one or other), strict=True)
    ]


def write(path: Path, rows: list[tuple[str, int]]) -> Path:
    path.write_text("\n".join(["ID,Label", *(f"{name},{flag}" for name, flag in rows)]) + "\n")
    return path


def test_one_sample_per_image(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"stage_2_train/ID_{n:09x}.png" for n in range(20)))
    rows = rows_of(20)
    dataset = open_dataset(write(tmp_path / "stage_2_train.csv", [*rows, rows[4]]))
    assert dataset.task == "multilabel" and dataset.class_names == FINDINGS
    assert len(dataset.samples) == 20
    labels = {int(one.path.stem[3:], 16): one.labels for one in dataset.samples}
    assert labels[0] == (1, 0, 1) and labels[1] == (0, 1, 1) and labels[2] == (0, 0, 0)
    assert any("20 images, 3 findings each" in note for note in dataset.notes)
    with pytest.raises(TableError, match="both 0 and 1"):
        open_dataset(write(tmp_path / "stage_2_train.csv", [*rows, (rows[4][0], 1 - rows[4][1])]))


def test_names_of_files_are_left_alone(tmp_path: Path, write_images: WriteImages) -> None:
    """Two eyes of a patient are two images."""
    names = [f"{n}_{side}" for n in range(10) for side in ("left", "right")]
    write_images(*(f"{name}.png" for name in names))
    rows = [(name, n % 3 % 2) for n, name in enumerate(names)]
    dataset = open_dataset(write(tmp_path / "t.csv", rows))
    assert dataset.task == "binary" and len(dataset.samples) == 20
