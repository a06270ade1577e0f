"""A miniature of each registered dataset in its official layout opens, whole and in part."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.entry import Wishes
from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.record import patient_of
from dinorad_rt.datasets.registered import list_entry
from dinorad_rt.datasets.registry import all_entries, dataset_named, entry_named
from dinorad_rt.errors import DataError, EmptyDataError, LabelError, LeakageError, ProtocolError
from dinorad_rt.studies.read import read_study
from tests.datasets.miniatures import WRITERS, write_csv, write_png

STUDY = {entry.name for entry in all_entries().values() if entry.study}


def tree_of(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a root with its mode, time of change and bytes."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.stat()
        content = b"" if path.is_dir() else path.read_bytes()
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


def splits_of(dataset: Dataset) -> dict[str, int]:
    return {split: len(dataset.of_split(split)) for split in ("train", "val", "test")}  # type: ignore[arg-type]


def test_the_twelve_sets_of_the_study_are_registered_and_have_a_miniature() -> None:
    assert len(STUDY) == 12 and set(WRITERS) >= STUDY
    named = {name.split("_")[0] for name in WRITERS}
    others = {n for n, e in all_entries().items() if e.layout is not None and "mnist" not in n}
    assert named >= others


@pytest.mark.parametrize("name", WRITERS)
def test_miniatures_open_and_are_left_as_they_are(tmp_path: Path, name: str) -> None:
    root = tmp_path / "download"
    WRITERS[name](root)
    before = tree_of(root)
    dataset = dataset_named(name, root)
    entry = entry_named(name)
    assert dataset.name == name and dataset.task == entry.task
    assert dataset.class_names == (entry.classes or dataset.class_names)
    assert dataset.facts["registered"] == name and dataset.facts["split_rule"] == entry.rule
    splits = splits_of(dataset)
    assert splits["train"] and splits["test"]
    patients = {(one.patient, one.split) for one in dataset.samples}
    assert len(patients) == len({one.patient for one in dataset.samples})
    for sample in dataset.samples[:: max(1, len(dataset.samples) // 4)]:
        study = read_study(sample.path, frame=sample.frame)
        if dataset.task == "segmentation":
            mask = read_mask(sample)
            assert mask.shape == study.pixels.shape[:3] and mask.any()
            assert mask.max() < len(dataset.class_names)
        else:
            assert len(sample.labels) == (
                len(dataset.class_names) if dataset.task == "multilabel" else 1
            )
    assert tree_of(root) == before


@pytest.mark.parametrize("name", ["nih-chestxray14", "chexpert", "amos22", "brain-tumor"])
def test_a_read_only_root_works(tmp_path: Path, name: str) -> None:
    root = tmp_path / "download"
    WRITERS[name](root)
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert dataset_named(name, root).samples
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)


def test_nih_in_part(tmp_path: Path) -> None:
    WRITERS["nih-chestxray14"](tmp_path)
    whole = dataset_named("nih-chestxray14", tmp_path)
    for folder in ("images_004", "images_009"):
        shutil.rmtree(tmp_path / folder)
    part = dataset_named("nih-chestxray14", tmp_path)
    note = next(note for note in part.notes if note.startswith("PARTIAL DOWNLOAD"))
    assert "32 of 40 images are here" in note
    assert "images_004.tar.gz, images_009.tar.gz" in note
    kept = {sample.sample_id: sample.split for sample in part.samples}
    assert kept.items() <= {one.sample_id: one.split for one in whole.samples}.items()
    for folder in tmp_path.glob("images_*"):
        shutil.rmtree(folder)
    with pytest.raises(EmptyDataError, match="None of 40 images of nih-chestxray14 is here"):
        dataset_named("nih-chestxray14", tmp_path)


def test_nih_lists_are_asked_for_and_checked(tmp_path: Path) -> None:
    WRITERS["nih-chestxray14"](tmp_path)
    lines = (tmp_path / "train_val_list.txt").read_text().split()
    (tmp_path / "train_val_list.txt").write_text("\n".join([*lines[:-3], *lines[-2:]]))
    (tmp_path / "test_list.txt").write_text("\n".join([lines[-3], "00000020_000.png"]))
    with pytest.raises(LeakageError, match="patients stand in more than one split"):
        dataset_named("nih-chestxray14", tmp_path)
    assert dataset_named("nih-chestxray14", tmp_path, splits=Path("patient")).of_split("test")
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(EmptyDataError, match="official split is missing: test_list.txt"):
        dataset_named("nih-chestxray14", tmp_path)


def test_chexpert_in_batches(tmp_path: Path) -> None:
    """As the full set is downloaded; images and labels are those of the set in one piece."""
    WRITERS["chexpert"](tmp_path / "whole")
    whole = dataset_named("chexpert", tmp_path / "whole")
    root = tmp_path / "chexpertchestxrays-u20210408"
    shutil.copytree(
        tmp_path / "whole" / "CheXpert-v1.0-small", root / "CheXpert-v1.0 batch 1 (validate & csv)"
    )
    train = root / "CheXpert-v1.0 batch 1 (validate & csv)" / "train"
    for number, patient in enumerate(sorted(train.iterdir())):
        batch = root / f"CheXpert-v1.0 batch {2 + number % 3} (train {1 + number % 3})"
        batch.mkdir(exist_ok=True)
        patient.rename(batch / patient.name)
    train.rmdir()
    parted = dataset_named("chexpert", root)
    assert all(sample.path.is_file() for sample in parted.samples)
    assert [one.labels for one in parted.samples] == [one.labels for one in whole.samples]
    assert parted.split_hash == whole.split_hash and parted.fingerprint == whole.fingerprint


def test_chexpert_labels_follow_the_policy(tmp_path: Path) -> None:
    WRITERS["chexpert"](tmp_path)
    rows = {
        name: [one.labels for one in dataset_named(name, tmp_path).of_split("train")]
        for name in ("chexpert", "chexpert-u-zeros", "chexpert-u-ones")
    }
    assert len(rows["chexpert"]) == 12  # 24 views, half of them lateral
    for study, zeros, ones in zip(*rows.values(), strict=True):
        assert study[:5] == zeros
        assert tuple(int(a or (b and study[5])) for a, b in zip(zeros, ones, strict=True)) == ones
    flags = [row[5] for row in rows["chexpert"]]
    assert flags == [int((n + 1) % 3 == 0) for n in range(12)]
    notes = dataset_named("chexpert", tmp_path).notes
    assert "20 lateral views left out" in notes
    assert any(
        note.startswith("test has no sample of: Consolidation, Pleural Effusion, Uncertain; they")
        for note in notes
    )


def test_lungs_also_have_a_class(tmp_path: Path) -> None:
    for name in ("montgomery", "shenzhen"):
        WRITERS[name](tmp_path / name)
        dataset = dataset_named(name, tmp_path / name, task="classification")
        assert dataset.task == "binary" and dataset.class_names == ("normal", "tuberculosis")
        masks = dataset_named(name, tmp_path / name)
        assert [s.split for s in dataset.samples] == [s.split for s in masks.samples]
    with pytest.raises(ProtocolError, match="no truth for classification"):
        WRITERS["btcv"](tmp_path / "btcv")
        dataset_named("btcv", tmp_path / "btcv", task="classification")


def test_labels_beyond_the_organs_are_refused(tmp_path: Path) -> None:
    from tests.datasets.miniatures import write_nifti

    WRITERS["msd-spleen"](tmp_path)
    base = tmp_path / "Task09_Spleen"
    write_nifti(base / "imagesTr" / "spleen_2.nii.gz", base / "labelsTr" / "spleen_2.nii.gz", 5)
    dataset = dataset_named("msd-spleen", tmp_path)
    sample = next(one for one in dataset.samples if one.path.name == "spleen_2.nii.gz")
    with pytest.raises(LabelError, match="which stand for no class. Allowed: 0, 1"):
        read_mask(sample)


def test_the_mapping_of_rsna_keeps_patients_together(tmp_path: Path) -> None:
    WRITERS["rsna-pneumonia"](tmp_path)
    mapped = dataset_named("rsna-pneumonia", tmp_path)
    assert len({one.patient for one in mapped.samples}) == 8
    assert sum(one.labels == (1,) for one in mapped.samples) == 8
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").unlink()
    plain = dataset_named("rsna-pneumonia", tmp_path)
    assert len({one.patient for one in plain.samples}) == 16
    assert any("a patient of NIH may stand in two splits" in note for note in plain.notes)


def test_most_readers_decide_in_vindr(tmp_path: Path) -> None:
    WRITERS["vindr-cxr"](tmp_path)
    dataset = dataset_named("vindr-cxr", tmp_path)
    train = dataset.of_split("train")
    assert [one.labels for one in train] == [(n % 2, 0, 1 - n % 2) for n in range(10)]


def test_real_medmnist(shared_data: Path) -> None:
    folder = shared_data / "medmnist"
    source = folder / "pneumoniamnist_kaggle_subset_trainval.npz"
    dataset = dataset_named("pneumoniamnist", source)
    with np.load(source) as archive:
        for split in ("train", "val"):
            images, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
            # without test images val stands in for test
            samples = dataset.of_split("train" if split == "train" else "test")
            assert [one.labels[0] for one in samples] == labels[:, 0].tolist()
            for at in (0, 17, len(images) - 1):
                study = read_study(samples[at].path, frame=samples[at].frame)
                assert np.array_equal(study.pixels[0], images[at])
    assert any("officially train 4,708" in note for note in dataset.notes)
    assert len({one.patient for one in dataset.samples}) == len(dataset.samples)
    volumes = dataset_named("adrenalmnist3d_64", folder / "adrenalmnist3d_64_trainval.npz")
    assert read_study(volumes.samples[5].path).pixels.shape == (64, 64, 64)


def test_medmnist_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dinorad_rt.datasets.layouts import medmnist

    monkeypatch.setattr(medmnist, "BLOCK_BYTES", 28 * 28 * 5)
    WRITERS["pneumoniamnist"](tmp_path)
    dataset = dataset_named("pneumoniamnist", tmp_path)
    assert dataset.root is not None and len(list((dataset.root / "train").iterdir())) == 3
    with np.load(tmp_path / "pneumoniamnist.npz") as archive:
        stacked = [read_study(s.path, frame=s.frame).pixels[0] for s in dataset.of_split("train")]
        assert np.array_equal(stacked, archive["train_images"])
    assert len({one.patient for one in dataset.samples}) == len(dataset.samples)
    times = {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*")}
    again = dataset_named("pneumoniamnist", tmp_path)
    assert again.fingerprint == dataset.fingerprint
    assert times == {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*")}


def test_damaged_archives_leave_nothing_behind(tmp_path: Path, own_cache: Path) -> None:
    WRITERS["pneumoniamnist"](tmp_path)
    source = tmp_path / "pneumoniamnist.npz"
    whole = source.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(40):
        content = bytearray(whole)
        at = int(random.integers(0, len(content) - 60))
        content[at : at + 60] = random.bytes(60)
        source.write_bytes(content[:at] if trial % 4 == 0 else content)
        try:
            dataset_named("pneumoniamnist", tmp_path)
        except DataError:
            refused += 1
    assert refused > 20
    folders = [path for path in (own_cache / "datasets").glob("*medmnist*") if path.is_dir()]
    assert all((path / "complete").is_file() for path in folders)


@pytest.mark.parametrize("name", ["chexpert", "sars-cov-2-ct", "amos22", "breastmnist"])
def test_another_folder_is_told_what_is_expected(tmp_path: Path, name: str) -> None:
    write_png(tmp_path / "holiday.png")
    with pytest.raises(DataError) as caught:
        dataset_named(name, tmp_path)
    assert entry_named(name).tree in caught.value.fix
    with pytest.raises(EmptyDataError, match="its download is needed"):
        dataset_named(name)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_root_that_is_not_there_is_told_alike_for_all(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmptyDataError, match="missing is no folder") as caught:
        dataset_named(name, tmp_path / "missing")
    assert "Give the folder of the download as --root." in caught.value.fix


def test_published_split_lists_are_followed(tmp_path: Path) -> None:
    WRITERS["montgomery"](tmp_path / "mc")
    names = sorted(p.name for p in (tmp_path / "mc" / "MontgomerySet" / "CXR_png").iterdir())
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, part in (("train", names[:6]), ("val", names[6:9]), ("test", names[9:])):
        (lists / f"{split}_list.txt").write_text("\n".join(part))
    dataset = dataset_named("montgomery", tmp_path / "mc", splits=lists)
    assert splits_of(dataset) == {"train": 6, "val": 3, "test": 3}
    assert dataset.facts["splits"] == "imported: given"
    write_csv(
        tmp_path / "one.csv",
        ["image", "split"],
        [[name, "test" if at % 2 else "train"] for at, name in enumerate([*names, "gone.png"])],
    )
    dataset = dataset_named("montgomery", tmp_path / "mc", splits=tmp_path / "one.csv")
    assert splits_of(dataset) == {"train": 6, "val": 0, "test": 6}
    assert any("1 name of the split list has no image here" in note for note in dataset.notes)


def test_slices_are_called_as_the_study_wrote_them(tmp_path: Path) -> None:
    WRITERS["btcv"](tmp_path)
    listing = list_entry(entry_named("btcv-slices"), tmp_path, Wishes())
    volumes = {patient_of(one) for one in listing.records}
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, part in (("train", sorted(volumes)[:4]), ("test", sorted(volumes)[4:])):
        text = "\n".join(f"{volume}_{frame:03d}.npy" for volume in part for frame in range(3))
        (lists / f"{split}.txt").write_text(text)
    dataset = dataset_named("btcv-slices", tmp_path, splits=lists)
    assert splits_of(dataset) == {"train": 12, "val": 0, "test": 6}


def test_the_root_may_not_be_readable(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    WRITERS["amos22"](tmp_path)
    (tmp_path / "amos22").chmod(0)
    try:
        with pytest.raises(DataError):
            dataset_named("amos22", tmp_path)
    finally:
        (tmp_path / "amos22").chmod(0o755)


def test_slices_of_several_sizes_are_framed(tmp_path: Path) -> None:
    from PIL import Image

    root = tmp_path / "download"
    WRITERS["sars-cov-2-ct"](root)
    folder = root / "New_Data_CoV2" / "Covid" / "Patient (3)"
    large = np.random.default_rng(0).integers(1, 255, (20, 30)).astype(np.uint8)
    Image.fromarray(large).save(folder / "10.png")
    before = tree_of(root)
    dataset = dataset_named("sars-cov-2-ct", root)
    assert any("slices of 1 patient differ in size" in note for note in dataset.notes)
    (sample,) = (one for one in dataset.samples if one.path.suffix == ".npy")
    pixels = read_study(sample.path).pixels
    small = np.asarray(Image.open(folder / "1.png"))
    assert pixels.shape == (3, 20, 30) and np.array_equal(pixels[2], large)
    assert np.array_equal(pixels[1, 2:18, 7:23], small)
    assert pixels[1].sum() == small.sum() and sample.labels == (1,)
    assert tree_of(root) == before
    again = dataset_named("sars-cov-2-ct", root)
    assert again.fingerprint == dataset.fingerprint
