"""What training files say of their modality, and what is said of other files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.phantoms.write import write_phantoms
from dinorad_rt.training.modalities import modalities_of, other_modalities


@pytest.mark.parametrize(
    ("table", "wanted"), [("ct/slices.csv", {"CT"}), ("xray", {"DX", "CR"}), ("ct", {"CT"})]
)
def test_dicom_files_name_their_modality(
    table: str, wanted: set[str], tmp_path: Path, cache: Path
) -> None:
    """`ct` has a folder of slices per row."""
    root = write_phantoms(tmp_path / "phantoms", patients=24, image_size=64)
    assert set(modalities_of(open_dataset(root / table).samples)) == wanted


def test_other_files_name_none(images: object, tmp_path: Path, cache: Path) -> None:
    dataset = open_dataset(images(tmp_path / "images"))  # type: ignore[operator]
    assert modalities_of(dataset.samples) == [] == modalities_of([])


@pytest.mark.parametrize(
    ("trained", "given", "words"),
    [
        (["CT"], ["DX"] * 12, "trained on CT; 12 of 12 items are DX"),
        (["CT"], ["CT", "MR", None], "1 of 3 items is MR"),
        (["CT", "MR"], ["MR", "CT", None], ""),
        (["DX"], ["CR", "CR"], ""),
        ([], ["CT"], ""),
        (["CT"], [None, None], ""),
    ],
)
def test_files_of_another_modality_are_counted(
    trained: list[str], given: list[str | None], words: str
) -> None:
    found = other_modalities(trained, given)
    assert words in found if words else not found
