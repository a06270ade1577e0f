"""BIDS trees: masks beside their images and in derivatives; folders that are no classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import LabelError, MaskError, TableError

nibabel = pytest.importorskip("nibabel")


def write(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(number).integers(0, 400, (5, 4, 3)).astype(np.int16)
    if path.name.rpartition("_")[2].split(".")[0] in ("mask", "msk", "dseg"):
        array = np.zeros((5, 4, 3), np.uint8)
        array[number % 5, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 2, 1])), path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("rawdata/{s}/{s}_ct", "derivatives/{s}/{s}_seg-vert_msk"),  # VerSe
        (
            "Training/R1/{s}/ses-1/anat/{s}_ses-1_space-X_T1w",
            "Training/R1/{s}/ses-1/anat/{s}_ses-1_space-X_label-L_desc-T1lesion_mask",
        ),  # ATLAS
        ("{s}/ses-1/anat/{s}_T1w", "derivatives/manual/{s}/ses-1/anat/{s}_ses-1_dseg"),
    ],
)
def test_masks_find_their_images(tmp_path: Path, image: str, mask: str) -> None:
    for n in range(6):
        for name in (image, mask):
            write(tmp_path / f"{name.format(s=f'sub-x{n:03d}')}.nii.gz", n)
    write(tmp_path / "derivatives" / "sub-x000" / "sub-x000_desc-warped_ct.nii.gz", 9)
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == len({one.patient for one in dataset.samples}) == 6
    assert not any("no mask" in note for note in dataset.notes)
    for sample in dataset.samples:
        number = int(sample.path.name[5:8])
        found = np.argwhere(read_mask(sample))
        assert {int(at[-1]) for at in found} == {number % 5}
    with pytest.raises(LabelError):
        open_dataset(tmp_path)


def test_several_images_or_masks_of_a_scan_are_refused(tmp_path: Path) -> None:
    """As ISLES has them: three contrasts, one mask."""
    for n in range(5):
        for contrast in ("dwi", "adc", "flair"):
            write(tmp_path / f"sub-{n}" / "ses-1" / f"sub-{n}_ses-1_{contrast}.nii.gz", n)
        write(tmp_path / "derivatives" / f"sub-{n}" / f"sub-{n}_ses-1_msk.nii.gz", n)
    with pytest.raises(MaskError, match="5 scans .* have up to 3 images .adc, dwi, flair."):
        open_dataset(tmp_path, task="segmentation")


def test_sessions_of_a_subject_are_one_patient(tmp_path: Path) -> None:
    for n in range(5):
        for session in ("ses-1", "ses-2"):
            stem = f"sub-{n}/{session}/sub-{n}_{session}"
            write(tmp_path / f"{stem}_T1w.nii.gz", n)
            write(tmp_path / f"{stem}_desc-lesion_mask.nii.gz", n)
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == 10
    assert len({sample.patient for sample in dataset.samples}) == 5


@pytest.mark.parametrize("pattern", ["rawdata/sub-{0}/x", "sub-{0}/anat/sub-{0}_T1w"])
def test_folders_of_a_tree_are_no_classes(tmp_path: Path, pattern: str) -> None:
    for n in range(3):
        write(tmp_path / f"{pattern.format(n)}.nii.gz", n)
        write(tmp_path / "derivatives" / f"sub-{n}" / f"sub-{n}_msk.nii.gz", n)
    with pytest.raises(LabelError, match="BIDS tree, no classes") as caught:
        open_dataset(tmp_path)
    assert "--task segmentation" in caught.value.fix


def test_rows_that_name_folders_of_several_volumes_are_refused(tmp_path: Path) -> None:
    """As participants.tsv does: a subject has several sequences."""
    lines = ["participant_id\tdiagnosis"]
    for n in range(12):
        write(tmp_path / f"sub-{n:02d}" / "anat" / f"sub-{n:02d}_T1w.nii.gz", n)
        lines.append(f"sub-{n:02d}\t{('AD', 'CN')[n % 2]}")
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("CN", "AD") and len(dataset.samples) == 12
    write(tmp_path / "sub-03" / "func" / "sub-03_bold.nii.gz", 99)
    assert any("1 of 12 rows name folders" in note for note in open_dataset(tmp_path).notes)
    for n in range(12):
        write(tmp_path / f"sub-{n:02d}" / "func" / f"sub-{n:02d}_bold.nii.gz", 50 + n)
    with pytest.raises(TableError, match="12 of 12 rows .* several volumes .T1w, bold.") as e:
        open_dataset(tmp_path)
    assert "--image-column" in e.value.fix
