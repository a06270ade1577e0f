"""Splits of listings of the official length, without the pixels, against the study's numbers.

The numbers are those of the study's own loaders (PROTOCOLS, section 1), written out here again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dinorad_rt.datasets.checks import check_leakage
from dinorad_rt.datasets.entry import Listing, Wishes
from dinorad_rt.datasets.layouts.common import drawn, evenly_spaced
from dinorad_rt.datasets.registered import list_entry
from dinorad_rt.datasets.registry import all_entries, entry_named
from tests.datasets.miniatures import CHEXPERT_HEADER, write_csv

PROTOCOLS = {
    "nih-chestxray14": (76_522, 10_002, 25_596),
    "chexpert": (191_027, 202, 518),
    "sars-cov-2-ct": (90, 50, 70),
    "brain-tumor": (1_344, 718, 1_002),
    "montgomery": (69, 23, 46),
    "shenzhen": (361, 91, 114),
    "amos22": (11_350, 2_770, 7_004),
    "msd-heart": (1_339, 450, 482),
    "msd-hippocampus": (4_230, 2_165, 2_875),
    "msd-spleen": (1_268, 1_161, 1_221),
    "btcv": (15, 15),
    "btcv-slices": (2_013, 1_766),
}


def listing(name: str, root: Path) -> Listing:
    found = list_entry(entry_named(name), root, Wishes())
    check_leakage(found.records)
    return found


def counts(found: Listing) -> tuple[int, ...]:
    number = Counter(one.split for one in found.records)
    return tuple(number[split] for split in ("train", "val", "test") if number[split])  # type: ignore[index]


def volumes(found: Listing) -> dict[str | None, int]:
    units = {(one.patient, one.split) for one in found.records}
    return dict(Counter(split for _, split in units))


def test_the_registry_has_the_numbers_of_the_study() -> None:
    study = {n: tuple(e.counts.values()) for n, e in all_entries().items() if e.study}
    assert study == PROTOCOLS


@pytest.mark.parametrize(
    ("count", "wanted"), [(210, 70), (233, 70), (163, 50), (300, 80), (41, 15)]
)
def test_systematic_samples_equal_numpy(count: int, wanted: int) -> None:
    expected = np.arange(0, count, count / wanted).round().astype(int)
    assert evenly_spaced(count, wanted) == expected.tolist() and len(expected) == wanted


def test_nih(tmp_path: Path) -> None:
    names = [f"{image // 4 + 1:08d}_{image % 4:03d}.png" for image in range(112_120)]
    rows = [[name, "No Finding", "", int(name[:8])] for name in names]
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID"]
    write_csv(tmp_path / "Data_Entry_2017.csv", header, rows)
    # 86,524 is a multiple of 4, 10,002 is not: a patient would be cut, so two images are moved
    names[86_520:86_524], names[-4:] = names[-4:], names[86_520:86_524]
    train_val = [*names[:76_520], *names[76_522:86_524], *names[76_520:76_522]]
    (tmp_path / "train_val_list.txt").write_text("\n".join(train_val))
    (tmp_path / "test_list.txt").write_text("\n".join(names[86_524:]))
    found = list_entry(entry_named("nih-chestxray14"), tmp_path, Wishes())
    assert counts(found) == PROTOCOLS["nih-chestxray14"]
    last = {one.name for one in found.records if one.split == "val"}
    assert last == {f"images/{name}" for name in train_val[-10_002:]}


def test_chexpert(tmp_path: Path) -> None:
    sizes = (("train", "train.csv", 191_027, 32_387), ("valid", "valid.csv", 202, 32))
    for split, table, frontal, lateral in (*sizes, ("test", "test.csv", 518, 150)):
        kinds = ["frontal"] * frontal + ["lateral"] * lateral
        empty = [""] * (len(CHEXPERT_HEADER) - 1)
        rows = [
            [f"CheXpert-v1.0/{split}/{split[:2]}patient{at:06d}/study1/view1_{kind}.jpg", *empty]
            for at, kind in enumerate(kinds)
        ]
        write_csv(tmp_path / table, CHEXPERT_HEADER, rows)
    assert counts(listing("chexpert", tmp_path)) == PROTOCOLS["chexpert"]


def test_sars(tmp_path: Path) -> None:
    for folder, number in (("Covid", 80), ("Healthy", 50), ("Others", 80)):
        for patient in range(1, number + 1):
            (tmp_path / folder / f"Patient ({patient})").mkdir(parents=True)
    found = listing("sars-cov-2-ct", tmp_path)
    assert counts(found) == PROTOCOLS["sars-cov-2-ct"]
    assert sum(one.labels == (1,) for one in found.records) == 80
    test = [at for at, one in enumerate(found.records) if one.split == "test"]
    assert test == np.arange(0, 210, 210 / 70).round().astype(int).tolist()


def test_brain_tumor_patients() -> None:
    splits = Counter(drawn(233, 233, {"test": 70, "val": 50}, "train"))
    assert splits == {"train": 113, "val": 50, "test": 70}


def test_montgomery(tmp_path: Path) -> None:
    for number in range(138):
        path = tmp_path / "MontgomerySet" / "CXR_png" / f"MCUCXR_{number:04d}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = listing("montgomery", tmp_path)
    assert counts(found) == PROTOCOLS["montgomery"]
    splits = [one.split for one in found.records]
    assert splits[::3] == ["test"] * 46
    rest = [split for at, split in enumerate(splits) if at % 3]
    assert rest[::4] == ["val"] * 23 and rest.count("val") == 23


def test_shenzhen(tmp_path: Path) -> None:
    for folder in ("CXR_png", "mask"):
        (tmp_path / folder).mkdir()
    for number in range(1, 663):
        (tmp_path / "CXR_png" / f"CHNCXR_{number:04d}_0.png").touch()
        if number <= 566:
            (tmp_path / "mask" / f"CHNCXR_{number:04d}_0_mask.png").touch()
    assert counts(listing("shenzhen", tmp_path)) == PROTOCOLS["shenzhen"]


def write_volumes(folder: Path, names: list[str], depth: int = 2) -> None:
    folder.mkdir(parents=True)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((2, 2, depth), np.uint8), np.eye(4)), folder / "x.nii"
    )
    content = (folder / "x.nii").read_bytes()
    (folder / "x.nii").unlink()
    for name in names:
        (folder / f"{name}.nii").write_bytes(content)


@pytest.mark.parametrize(
    ("name", "task", "number", "expected"),
    [
        ("msd-heart", "Task02_Heart", 20, {"train": 12, "val": 4, "test": 4}),
        ("msd-hippocampus", "Task04_Hippocampus", 260, {"train": 120, "val": 60, "test": 80}),
        ("msd-spleen", "Task09_Spleen", 41, {"train": 16, "val": 10, "test": 15}),
    ],
)
def test_decathlon(
    tmp_path: Path, name: str, task: str, number: int, expected: dict[str, int]
) -> None:
    write_volumes(tmp_path / task / "imagesTr", [f"v_{at}" for at in range(number)])
    found = listing(name, tmp_path)
    assert volumes(found) == expected
    assert len(found.records) == 2 * number  # two slices each


def test_amos(tmp_path: Path) -> None:
    write_volumes(tmp_path / "imagesTr", [f"amos_{n:04d}" for n in (*range(200), *range(507, 547))])
    write_volumes(tmp_path / "imagesVa", [f"amos_{n:04d}" for n in range(300, 400)])
    found = listing("amos22", tmp_path)
    assert volumes(found) == {"train": 80, "val": 20, "test": 50}


def test_btcv(tmp_path: Path) -> None:
    write_volumes(tmp_path / "RawData/Training/img", [f"img{n:04d}" for n in range(1, 31)])
    found = listing("btcv", tmp_path)
    assert counts(found) == PROTOCOLS["btcv"]
    assert [one.split for one in found.records] == ["val", "train"] * 15
    assert volumes(listing("btcv-slices", tmp_path)) == {"train": 15, "val": 15}


def test_medmnist_equals_the_published_table() -> None:
    """Sums over all splits as in the MedMNIST v2 paper (Scientific Data 2023, tables 2 and 3)."""
    published = {
        "pathmnist": 107_180,
        "chestmnist": 112_120,
        "dermamnist": 10_015,
        "octmnist": 109_309,
        "pneumoniamnist": 5_856,
        "retinamnist": 1_600,
        "breastmnist": 780,
        "bloodmnist": 17_092,
        "tissuemnist": 236_386,
        "organamnist": 58_830,
        "organcmnist": 23_660,
        "organsmnist": 25_221,
        "organmnist3d": 1_742,
        "nodulemnist3d": 1_633,
        "adrenalmnist3d": 1_584,
        "fracturemnist3d": 1_370,
        "vesselmnist3d": 1_908,
        "synapsemnist3d": 1_759,
    }
    entries = {n: e for n, e in all_entries().items() if "mnist" in n}
    plain = {n: sum(e.counts.values()) for n, e in entries.items() if "_" not in n}
    differing = {n for n in published if plain[n] != published[n]}
    assert plain.keys() == published.keys()
    assert differing == {"organcmnist", "organsmnist"}  # version 3 has fewer of these two
    assert len(entries) == 12 * 4 + 6 * 2
    assert all(len(md5) == 32 for e in entries.values() for md5 in e.files.values())
