"""Datasets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.datasets.registry import dataset_named, list_datasets
from dinorad_rt.errors import OutputExistsError, UnknownNameError
from dinorad_rt.phantoms import PHANTOM_VERSION
from dinorad_rt.studies.read import read_study


@pytest.fixture
def fake_phantoms(monkeypatch: pytest.MonkeyPatch, write_images: object) -> list[Path]:
    """A generator that writes four images, and notes where."""
    import dinorad_rt.phantoms

    written: list[Path] = []

    def write(out: Path, progress: object = None) -> Path:
        written.append(out)
        write_images(*(f"{i}.png" for i in range(4)), root=out)  # type: ignore[operator]
        rows = "".join(f"{i}.png,{i % 2},p{i}\n" for i in range(4))
        (out / "labels.csv").write_text("image,label,patient\n" + rows)
        return out

    monkeypatch.setattr(dinorad_rt.phantoms, "write_phantoms", write, raising=False)
    return written


def test_phantoms_are_made_once_in_the_cache(fake_phantoms: list[Path], own_cache: Path) -> None:
    first, second = dataset_named("phantom"), dataset_named("phantom")
    assert first.name == "phantom" and first.fingerprint == second.fingerprint
    assert len(fake_phantoms) == 1
    kept = own_cache / "phantoms" / f"v{PHANTOM_VERSION}"
    assert first.root == kept and [p.name for p in kept.parent.iterdir()] == [kept.name]


def test_phantoms_at_a_root_of_the_user(fake_phantoms: list[Path], tmp_path: Path) -> None:
    assert len(dataset_named("phantom", tmp_path / "here").samples) == 4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError):
        dataset_named("phantom", tmp_path / "other")
    assert (tmp_path / "other" / "thesis.tex").read_text() == "mine"


def test_unknown_names_bring_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="Closest: phantom"):
        dataset_named("fantom")
    assert "phantom" in {row["name"] for row in list_datasets()}


@pytest.mark.slow
def test_every_phantom_table_opens_and_its_images_read(tmp_path: Path) -> None:
    for name in ("phantom", "phantom-findings", "phantom-ct", "phantom-mr"):
        dataset = dataset_named(name, tmp_path / "phantoms")
        assert {sample.split for sample in dataset.samples} == {"train", "val", "test"}
        study = read_study(dataset.samples[0].path)
        assert study.patient is not None and not study.problems
        assert (study.num_slices > 1) == (name == "phantom-ct")
